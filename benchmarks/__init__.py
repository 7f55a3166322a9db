"""Benchmarks against other libraries: `python -m benchmarks.NAME --seed N --json FILE`."""
