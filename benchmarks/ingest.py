"""How many rows a second are read, and read into a store, on one core, and how much memory that takes.

    python -m benchmarks.ingest --seed 0 --json FILE [--rows 1000000] [--turns 5]

Two files are made in a temporary folder: a Tardis `options_chain` day (CSV, gzip, one update of one option a row) and
chain snapshots (Parquet, as the recorded months have them); the recorded months and days are read as well where they
are found ($VOLGRAD_DATA, else ../shared/data). Three figures are ours: `decode` is the whole of `volgrad.data.stream`
(unpacking, taking apart, names of instruments, units, reasons, checks; the blocks are dropped as they come), `ingest`
is that and a new store on the disk (SHA-256 of the file, row identity, partitions, encoding, checksums, fsync, the
manifest), and `scan` reads that store back, every part checked. Rivals read the same file into a table and judge
nothing: pyarrow, Polars (installed with the test extra), and pandas where it is installed. All take turns, so that a
busy machine slows all alike; a figure is the best of its turns, a ratio the median of the turns' ratios. Rows a second
are told by the clock and, less moved by other work on the machine, by the processor's own time; ratios are those of
`decode`, by the latter.

Memory is a fresh process's peak after it has ingested the file, and after it has then ingested one four times as long.
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import cyclopts
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks import chains as sources

TARDIS = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,"
    "bid_amount,bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,"
    "vega,theta,rho"
)
_START_US = 1_767_571_200_000_000  # 2026-01-05
_DAY_US = 86_400_000_000
_SPOT = {"BTC": 90_000.0, "ETH": 3_000.0}


def listed(start_us: int = _START_US) -> pa.Table:
    """Contracts as the exchange lists them: 12 expiries, 30 strikes, calls and puts, of two underlyings."""
    rows = []
    for ccy, spot in _SPOT.items():
        for days in (1, 2, 3, 4, 11, 18, 25, 53, 81, 172, 263, 354):
            expiry_us = (start_us // _DAY_US + days) * _DAY_US + _DAY_US // 3
            stamp = np.datetime64(expiry_us, "us").item()
            day = f"{stamp.day}{stamp:%b%y}".upper()
            for strike in np.round(np.linspace(0.5, 1.8, 30) * spot, -2).tolist():
                rows += [
                    {"symbol": f"{ccy}-{day}-{strike:.0f}-{cp}", "ccy": ccy, "expiry": expiry_us, "strike": strike}
                    | {"cp": cp, "spot": spot, "index": f"SYN.{ccy}-{day}"}
                    for cp in "CP"
                ]
    return pa.Table.from_pylist(rows)


def quoted(contracts: pa.Table, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A quote of each row, in the exchange's units and steps; sides are missing as often as in the recorded months."""
    rows = contracts.num_rows
    mark = rng.gamma(1.2, 0.03, rows)
    bid = np.maximum(np.round(mark * 0.97 / 0.0005) * 0.0005, 0)
    ask = np.round(mark * 1.03 / 0.0005 + 1) * 0.0005
    iv = rng.normal(60, 8, rows)
    return {
        "bid": np.where((rng.random(rows) < 0.076) | (bid == 0), np.nan, bid.round(4)),
        "ask": np.where(rng.random(rows) < 0.015, np.nan, ask.round(4)),
        "mark": mark.round(8),
        "iv": iv.round(2),
        "spread": rng.exponential(2, rows).round(2),
        "amount": (rng.integers(1, 500, rows) / 10).round(1),
        "underlying": (contracts["spot"].to_numpy() * rng.normal(1, 0.002, rows)).round(2),
        "greek": rng.normal(0, 1, rows).round(5),
    }


def write_tardis(path: Path, rows: int, seed: int) -> None:
    """A Tardis `options_chain` file of `rows` updates within a day, gzip, in parts of 100,000 rows."""
    rng, contracts = np.random.default_rng(seed), listed()
    with path.open("wb") as file, pa.CompressedOutputStream(pa.PythonFile(file, "w"), "gzip") as packed:
        packed.write(TARDIS.encode() + b"\n")
        for start in range(0, rows, 100_000):
            stamp = _START_US + (np.arange(start, min(start + 100_000, rows)) * (_DAY_US // rows))
            some = contracts.take(pa.array(rng.integers(0, contracts.num_rows, len(stamp))))
            table = _tardis_rows(some, stamp, rng)
            options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
            pyarrow.csv.write_csv(table, packed, options)


def _tardis_rows(contracts: pa.Table, stamp: np.ndarray, rng: np.random.Generator) -> pa.Table:
    quote, rows = quoted(contracts, rng), len(stamp)
    side = np.where(contracts["cp"].to_numpy() == "C", "call", "put")
    no_bid, no_ask = np.isnan(quote["bid"]), np.isnan(quote["ask"])
    columns = {
        "exchange": ["deribit"] * rows, "symbol": contracts["symbol"], "timestamp": stamp,
        "local_timestamp": stamp + 1500, "type": side, "strike_price": contracts["strike"].cast(pa.int64()),
        "expiration": contracts["expiry"], "open_interest": quote["amount"], "last_price": quote["mark"].round(4),
        "bid_price": quote["bid"], "bid_amount": np.where(no_bid, np.nan, quote["amount"]),
        "bid_iv": np.where(no_bid, np.nan, (quote["iv"] - quote["spread"]).round(2)), "ask_price": quote["ask"],
        "ask_amount": np.where(no_ask, np.nan, quote["amount"]),
        "ask_iv": np.where(no_ask, np.nan, (quote["iv"] + quote["spread"]).round(2)), "mark_price": quote["mark"],
        "mark_iv": quote["iv"], "underlying_index": contracts["index"], "underlying_price": quote["underlying"],
        **dict.fromkeys(("delta", "gamma", "vega", "theta", "rho"), quote["greek"]),
    }  # fmt: skip
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def write_snapshots(path: Path, rows: int, seed: int) -> None:
    """Chain snapshots as the recorded months hold them, one every six hours."""
    rng, contracts = np.random.default_rng(seed), listed()
    snapshots = -(-rows // contracts.num_rows)
    writer = None
    for first in range(0, snapshots, 100):  # a row group
        stamps = _START_US + np.arange(first, min(first + 100, snapshots)) * _DAY_US // 4
        table = _snapshot_rows(contracts, stamps, rng)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _snapshot_rows(listed_now: pa.Table, stamps: np.ndarray, rng: np.random.Generator) -> pa.Table:
    contracts = pa.concat_tables([listed_now] * len(stamps)).combine_chunks()
    quote = quoted(contracts, rng)
    columns = {
        "ts": pa.array(np.repeat(stamps, listed_now.num_rows)).cast(pa.timestamp("us", "UTC")),
        "ccy": contracts["ccy"], "instrument": contracts["symbol"],
        "expiry": contracts["expiry"].cast(pa.timestamp("us", "UTC")), "strike": contracts["strike"],
        "cp": contracts["cp"], "bid": quote["bid"], "ask": quote["ask"], "mark": quote["mark"],
        "mark_iv": quote["iv"], "underlying": quote["underlying"], "underlying_index": contracts["index"],
        "index": quote["underlying"], "delta": quote["greek"], "vega": quote["greek"], "oi": quote["amount"],
        "vol24h": quote["amount"],
    }  # fmt: skip
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


# ------------------------------------------------------------------------------------------ what is timed


def decode(path: Path) -> int:
    """Rows that `stream` gave; each block is dropped before the next."""
    from volgrad.data.stream import stream

    return sum(block.table.num_rows for block in stream(path))


def store(path: Path, out: Path) -> int:
    """Rows that are in the new store `out` after the file was ingested into it."""
    from volgrad.data.ingest import ingest

    return sum(one.rows for one in ingest([path], out).store.describe())


def scan(out: Path) -> int:
    """Rows read back from a store, every part checked."""
    from volgrad.data.store import Store

    return sum(one.table.num_rows for one in Store.open(out).scan())


def rivals(path: Path) -> dict[str, Callable[[], Any]]:
    """Plain readers of the same file, on one thread."""
    parquet = path.suffix == ".parquet"
    found: dict[str, Callable[[], Any]] = {
        "pyarrow": (lambda: pq.read_table(path, use_threads=False))
        if parquet
        else (lambda: pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=False)))
    }
    if importlib.util.find_spec("polars"):
        import polars

        found["polars"] = (
            (lambda: polars.read_parquet(path))
            if parquet
            else lambda: polars.read_csv(path, infer_schema_length=10_000)
        )
    if importlib.util.find_spec("pandas"):
        import pandas

        found["pandas"] = (lambda: pandas.read_parquet(path)) if parquet else lambda: pandas.read_csv(path)
    return found


OURS = ("decode", "ingest", "scan")


def measure(path: Path, turns: int) -> dict[str, Any]:
    """Nanoseconds a row of ours and of each rival, in turns, and how many times as long as `decode` a rival takes."""
    rows = decode(path)
    seconds: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    stored = 0
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "store"
            ours = {
                "decode": lambda: decode(path),
                "ingest": lambda to=out: store(path, to),
                "scan": lambda of=out: scan(of),
            }
            for name, read in (ours | rivals(path)).items():
                began, began_cpu = perf_counter(), process_time()
                read()
                seconds.setdefault(name, []).append(perf_counter() - began)
                used.setdefault(name, []).append(process_time() - began_cpu)
            stored = sum(part.stat().st_size for part in out.rglob("*.parquet"))
    decoding = np.array(used["decode"])
    return {
        "file": path.name,
        "rows": rows,
        "bytes": path.stat().st_size,
        "bytes_stored": stored,
        "ns_a_row": {name: 1e9 * min(times) / rows for name, times in seconds.items()},
        "cpu_ns_a_row": {name: 1e9 * min(times) / rows for name, times in used.items()},
        "rows_a_second": {name: rows / min(seconds[name]) for name in OURS},
        "rows_a_cpu_second": {name: rows / min(used[name]) for name in OURS},
        "rival_over_ours": {
            name: float(np.median(np.array(times) / decoding)) for name, times in used.items() if name not in OURS
        },
    }


# The high-water mark of the process's own pages (Linux); what getrusage tells survives from before exec
_GROWTH = """
import re, sys, tempfile
from pathlib import Path
from benchmarks.ingest import store
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
with tempfile.TemporaryDirectory() as folder:
    store(Path(sys.argv[1]), Path(folder) / "small")
    before = peak()
    store(Path(sys.argv[2]), Path(folder) / "large")
    print(before, peak())
"""


def memory(small: Path, large: Path) -> dict[str, float]:
    """Peak MiB of a process after it stored `small`, and after it then stored `large`; nothing without /proc."""
    if not Path("/proc/self/status").exists():
        return {}
    environment = os.environ | {"PYTHONPATH": sources.python_path()}
    command = [sys.executable, "-c", _GROWTH, str(small), str(large)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second = map(float, done.stdout.split())
    return {"peak_mib": first, "peak_mib_of_four_times_the_rows": second}


def benchmark(folder: Path, seed: int, rows: int, turns: int) -> list[dict[str, Any]]:
    """One entry a file."""
    told = []
    for name, write in (("tardis.csv.gz", write_tardis), ("snapshots.parquet", write_snapshots)):
        small, large = folder / name, folder / f"long_{name}"
        write(small, rows, seed)
        write(large, 4 * rows, seed)
        told.append(measure(small, turns) | memory(small, large))
        large.unlink()
    return told + [
        measure(file, turns) for pattern in (sources.MONTHS, sources.DAYS) for file in sources.recorded_files(pattern)
    ]


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    heads = "".join(f"{name:>12s}{'by cpu':>12s}" for name in OURS)
    lines = [f"{'rows a second':32s}{'rows':>10s}{heads}   rival / decode, by cpu"]
    for told in report["ingest"]:
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in told["rival_over_ours"].items())
        rates = "".join(
            f"{told['rows_a_second'][name]:12,.0f}{told['rows_a_cpu_second'][name]:12,.0f}" for name in OURS
        )
        lines.append(f"{told['file']:32s}{told['rows']:10,d}{rates}   {ratios}")
        if "peak_mib" in told:
            peaks = f"{told['peak_mib']:.0f} MiB, four times the rows {told['peak_mib_of_four_times_the_rows']:.0f} MiB"
            lines.append(f"{'':4s}peak memory of the process {peaks}")
    return "\n".join(lines)


def main(
    *,
    seed: int = 0,
    rows: int = 1_000_000,
    turns: int = 5,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Time the reading of quote files and print a table.

    Args:
        seed: of the made files.
        rows: of each made file.
        turns: how often each reader reads each file.
        json_file: write the figures here.
    """
    sources.on_one_thread("benchmarks.ingest")
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as folder:
        told = benchmark(Path(folder), seed, rows, turns)
    report = {
        "benchmark": "ingest",
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ingest": told,
    }
    print(table(report))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.ingest", help=__doc__)
    app.default(main)
    app()
