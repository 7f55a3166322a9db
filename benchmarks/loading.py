"""How fast mini-batches are loaded: volgrad's loader beside torch's and Grain's, on one image, in one process.

    python -m benchmarks.loading --seed 0 --json FILE [--rows 100000000] [--folder FOLDER] [--keep]

The image has 12 float32 features a row (48 bytes; 4.8 GB at 100 million rows) and is written first. In the page cache:
single rows in random order, and clusters of 64 rows in random order, both with the permutation; memory of the process
over two epochs of each; what copying memory does (the physical limit: a row is read once and written once). From the
disk: the block-wise order under a memory limit, beside reading the same file from end to end, both with an empty page
cache. Rivals run where they are importable: torch's DataLoader over a TensorDataset (shuffle=True) and Grain's
MapDataset (shuffle, batch) on the first `rival_rows` rows, which is in their favour: fewer cache misses, and no long
list of indices.
"""

import contextlib
import dataclasses
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import cyclopts
import numpy as np

from volgrad.data.image import Feature, Image, ImageWriter
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.windows import choose_blocks

WIDTH, LONG = 12, 64
FEATURES = [Feature(f"x{number}", "1") for number in range(WIDTH)]
_PIECE = 1 << 20  # rows written at a time
_READ = 1 << 22  # bytes read at a time


def write_image(folder: Path, rows: int, seed: int) -> Image:
    """An image of `rows` single-row clusters; noise, in which the first column is the row's number modulo 2^24."""
    noise = np.random.default_rng(seed).standard_normal((_PIECE, WIDTH), np.float32)
    with ImageWriter(folder, FEATURES) as writer:
        for start in range(0, rows, _PIECE):
            number = np.arange(start, min(rows, start + _PIECE))
            noise[: len(number), 0] = number % (1 << 24)
            writer.append(noise[: len(number)], np.ones(len(number), np.int64), number, number)
        return writer.seal({"from": "benchmarks.loading", "seed": seed})


def in_clusters(image: Image) -> Image:
    """The same rows as clusters of 64."""
    clusters = image.n_rows // LONG
    stamps = np.arange(clusters)
    first_row = np.arange(clusters + 1) * LONG
    rows = image.rows[: clusters * LONG]
    return dataclasses.replace(
        image, rows=rows, first_row=first_row, start_us=stamps, known_us=stamps, equal_rows=LONG, folder=None
    )


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


def two_epochs(image: Image, seed: int, batch_rows: int, rows_a_cluster: int) -> dict[str, Any]:
    """Rows a second of whole stacks into one buffer, by epoch, and the most anonymous memory above the start."""
    start_bytes, most = anonymous_bytes(), 0
    loader = Loader(image, range(image.clusters), seed, blocks=None)
    clusters = batch_rows // rows_a_cluster
    steps = max(1, min(64, image.clusters // clusters))
    per_stack = steps * clusters
    stack, rates, used = loader.empty(steps, clusters), [], process_time()
    stacks = max(1, image.clusters // per_stack)
    for epoch in range(2):
        began = perf_counter()
        for number in range(stacks):
            loader.stack((epoch * stacks + number) * per_stack, steps, clusters, into=stack)
            if number % 16 == 0:
                most = max(most, anonymous_bytes() - start_bytes)
        rates.append(stacks * per_stack * rows_a_cluster / (perf_counter() - began))
    loader.close()
    used = (process_time() - used) / (2 * stacks * per_stack * rows_a_cluster)
    return {
        "rows_per_s": rates,
        "processor_ns_a_row": 1e9 * used,
        "batch_rows": batch_rows,
        "steps": steps,
        "anonymous_mb": most / 1e6,
    }


def timed_rate(batches: Iterator[Any], rows: Callable[[Any], int], seconds: float) -> float:
    """Rows a second over about `seconds`, the first batch apart (starting up is not counted)."""
    next(batches)
    seen, began = 0, perf_counter()
    for batch in batches:
        seen += rows(batch)
        if perf_counter() - began > seconds:
            break
    return seen / (perf_counter() - began)


def torch_rates(table: np.ndarray, batch: int, seconds: float) -> dict[str, float]:
    """The DataLoader of torch as its documents show it, by number of workers; and with whole batches of indices."""
    import warnings

    import torch  # pyright: ignore[reportMissingImports]
    from torch.utils.data import (  # pyright: ignore[reportMissingImports]
        BatchSampler,
        DataLoader,
        RandomSampler,
        TensorDataset,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the memory map is read-only, and is only read
        data = TensorDataset(torch.from_numpy(table))
    rates = {}
    for workers in (0, 2):
        loader = DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers)
        rates[f"{workers} workers"] = timed_rate(iter(loader), lambda found: len(found[0]), seconds)
    sampler = BatchSampler(RandomSampler(data), batch, drop_last=False)
    tuned = DataLoader(data, sampler=sampler, batch_size=None)
    rates["tuned: batches of indices"] = timed_rate(iter(tuned), lambda found: len(found[0]), seconds)
    return rates


def grain_rates(table: np.ndarray, batch: int, seed: int, seconds: float) -> dict[str, float]:
    """Grain's MapDataset: read in the process alone, and by its pool of threads."""
    import grain  # pyright: ignore[reportMissingImports]

    data = grain.MapDataset.source(table).shuffle(seed=seed).batch(batch)
    rates = {}
    for threads in (0, 16):
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        found = iter(data.to_iter_dataset(read_options=options))
        rates[f"{threads} threads"] = timed_rate(found, len, seconds)
    return rates


def rivals(table: np.ndarray, batch: int, seed: int, seconds: float) -> dict[str, Any]:
    """Rates by rival, or why one did not run."""
    told: dict[str, Any] = {}
    for name, run in (
        ("torch", lambda: torch_rates(table, batch, seconds)),
        ("grain", lambda: grain_rates(table, batch, seed, seconds)),
    ):
        try:
            told[name] = run()
        except ImportError as error:
            told[name] = f"not run: {error}"
    return told


def copy_rate(megabytes: int) -> float:
    """Bytes a second of copying memory, all threads: the best of three."""
    from concurrent.futures import ThreadPoolExecutor

    threads = os.cpu_count() or 1
    source = np.ones((threads, megabytes * 1_000_000 // threads), np.uint8)
    target = np.zeros_like(source)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            began = perf_counter()
            list(pool.map(np.copyto, target, source))
            best = max(best, source.nbytes / (perf_counter() - began))
    return best


def drop_cache(path: Path) -> None:
    """Let a file that nobody has mapped leave the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def sequential_rate(path: Path) -> float:
    """Bytes a second of reading a file from end to end, from an empty page cache."""
    drop_cache(path)
    buffer = bytearray(_READ)
    began = perf_counter()
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass
    return path.stat().st_size / (perf_counter() - began)


def block_wise(folder: Path, seed: int, batch: int, limit: int) -> dict[str, Any]:
    """An epoch in block-wise order from an empty page cache, and reading the file before and after it."""
    path = folder / "rows.f32"
    rates = [sequential_rate(path)]
    drop_cache(path)
    start_bytes, most = anonymous_bytes(), 0
    image = Image.open(folder)
    blocks = choose_blocks(image, range(image.clusters), limit)
    loader = Loader(image, range(image.clusters), seed, blocks=blocks)
    steps = max(1, min(64, image.clusters // batch))
    stack = loader.empty(steps, batch)
    count = max(1, image.clusters // (steps * batch))
    began = perf_counter()
    for number in range(count):
        loader.stack(number * steps * batch, steps, batch, into=stack)
        if number % 4 == 0:
            most = max(most, anonymous_bytes() - start_bytes)
    seconds = perf_counter() - began
    note = loader.note
    loader.close()
    del image, loader
    rates.append(sequential_rate(path))
    rate = count * steps * batch * WIDTH * 4 / seconds
    return {
        "note": note,
        "blocks": None if blocks is None else list(blocks),
        "memory_limit_bytes": limit,
        "bytes_per_s": rate,
        "sequential_bytes_per_s": rates,
        "share": rate / max(rates),
        "anonymous_mb": most / 1e6,
    }


def measure(folder: Path, rows: int, rival_rows: int, seed: int, seconds: float) -> dict[str, Any]:
    """All figures on an image in `folder`."""
    batch = 8192
    began = perf_counter()
    size = write_image(folder, rows, seed).rows.nbytes
    told: dict[str, Any] = {"write_s": perf_counter() - began, "image_bytes": size}
    if hasattr(os, "posix_fadvise"):  # first, as pages that somebody has mapped cannot leave the cache
        told["block-wise"] = block_wise(folder, seed, batch, size // 4)
    image = Image.open(folder)
    float(np.asarray(image.rows).sum(dtype=np.float64))  # into the page cache
    told["copy_bytes_per_s"] = copy_rate(min(1000, 1 + size // 1_000_000))
    told["single rows"] = two_epochs(image, seed, batch, 1)
    told["clusters of 64"] = two_epochs(in_clusters(image), seed, batch, LONG)
    told["rivals"] = rivals(np.asarray(image.rows[:rival_rows]), batch, seed, seconds)
    told["rival_rows"] = min(rival_rows, rows)
    for name in ("single rows", "clusters of 64"):
        best = max(told[name]["rows_per_s"])
        told[name]["share_of_copy"] = best * WIDTH * 4 / told["copy_bytes_per_s"]
        told[name]["times"] = {
            rival: best / max(rate for how, rate in rates.items() if "tuned" not in how)
            for rival, rates in told["rivals"].items()
            if isinstance(rates, dict)
        }
    return told


def table(told: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"image: {told['image_bytes'] / 1e9:.2f} GB; copying memory: {told['copy_bytes_per_s'] / 1e9:.1f} GB/s"]
    for name in ("single rows", "clusters of 64"):
        one = told[name]
        rates = " and ".join(f"{rate / 1e6:.1f}" for rate in one["rows_per_s"])
        times = ", ".join(f"{value:.0f}x {rival}" for rival, value in one["times"].items())
        text = f"{name}: {rates} million rows/s in two epochs, {100 * one['share_of_copy']:.0f} % of copying; "
        text += f"{one['processor_ns_a_row']:.1f} ns of the processor a row; "
        lines.append(text + f"{one['anonymous_mb']:.0f} MB above the start; {times}")
    for rival, rates in told["rivals"].items():
        text = rates if isinstance(rates, str) else ", ".join(f"{how} {rate:,.0f}" for how, rate in rates.items())
        lines.append(f"{rival}, rows/s: {text}")
    if found := told.get("block-wise"):
        rates = " and ".join(f"{rate / 1e9:.2f}" for rate in found["sequential_bytes_per_s"])
        lines.append(
            f"block-wise, cold: {found['bytes_per_s'] / 1e9:.2f} GB/s; the file from end to end {rates} GB/s; "
            f"{100 * found['share']:.0f} %; {found['anonymous_mb']:.0f} MB above the start"
        )
        lines.append(f"note: {found['note']}")
    return "\n".join(lines)


def main(
    *,
    seed: int = 0,
    rows: int = 100_000_000,
    rival_rows: int = 10_000_000,
    seconds: float = 5.0,
    folder: Path | None = None,
    keep: bool = False,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Write an image, load from it in every way, and print a table.

    Args:
        seed: of the data and of all orders.
        rows: of the image.
        rival_rows: of these, as many are given to the rivals.
        seconds: for each way of each rival.
        folder: where the image is written; default a temporary folder.
        keep: leave the image there.
        json_file: write the figures here.
    """
    with contextlib.ExitStack() as stack:
        kept = folder if keep else None
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder))) if kept is None else kept
        told = measure(base / "image", rows, rival_rows, seed, seconds)
    report = {
        "benchmark": "loading",
        "seed": seed,
        "rows": rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **told,
    }
    print(table(told))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.loading", help=__doc__)
    app.default(main)
    app()
