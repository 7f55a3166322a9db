"""Other people's methods, run on the same training quotes as ours."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.rivals import spline, svi
from benchmarks.rivals.slices import SliceCurve, Slices, answer, pad

LATENCY_CHAINS = 15  # chains fitted alone to tell the milliseconds a chain


@dataclasses.dataclass(frozen=True)
class Rival:
    """A slice-wise method: `curve` fits all slices; `version` names the method in the cache."""

    version: str
    what: str
    curve: Callable[[Slices], SliceCurve]


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a method said: predictions and filled grid in the scorer's columns, and how long it took."""

    predictions: pl.DataFrame
    grid: pl.DataFrame | None
    timing: dict[str, object]


def svi_curve(slices: Slices, softening: float) -> SliceCurve:
    """Raw SVI's total variance slice by slice."""
    p = svi.fit(slices, softening)
    return lambda which, k: svi.total_variance(p[which], k)


RIVALS = {
    "svi": Rival(
        svi.VERSION,
        "raw SVI, weights 1/half-spread, joined at equal k/sqrt(theta)",
        functools.partial(svi_curve, softening=0.0),
    ),
    "svi-soft": Rival(
        svi.VERSION,
        "raw SVI, weights 1/(half-spread + .3 points), joined at equal k/sqrt(theta)",
        functools.partial(svi_curve, softening=0.003),
    ),
    "spline": Rival(spline.VERSION, "GCV smoothing spline of volatility, joined at equal k/sqrt(theta)", spline.curve),
}


def predict(rival: Rival, train: pl.DataFrame, query: pl.DataFrame, grid: pl.DataFrame | None) -> Answers:
    """Fits every split's training block and answers its queries; the grid is answered by the `interp` block.

    `ms_a_chain` is the median over chains fitted alone, `ms_a_chain_batched` the share of one fit of all.
    """
    began = time.perf_counter()
    slices = pad(train)
    curve = rival.curve(slices)
    fitted = time.perf_counter() - began
    keys = [c for c in ("split", "ts", "ccy", "expiry", "strike", "cp") if c in query.columns]
    predictions = query.select(keys).with_columns(pl.Series("iv", answer(slices, curve, query)))
    if grid is not None:
        asked = grid.select(
            pl.lit("interp").alias("split"), "ts", "ccy", "tau_years", pl.col("k").alias("log_moneyness")
        )
        grid = grid.with_columns(pl.Series("iv", answer(slices, curve, asked)))
    timing: dict[str, object] = {
        "wall_s": time.perf_counter() - began,
        "ms_a_chain_batched": 1e3 * fitted / (int(slices.chain[-1]) + 1),
        "ms_a_chain": latency(rival, train),
        "mode": "one process",
    }
    return Answers(predictions, grid, timing)


def latency(rival: Rival, train: pl.DataFrame) -> float:
    """Median milliseconds to fit one chain alone, over `LATENCY_CHAINS` chains of the first split."""
    rows = train.filter(pl.col("split") == pl.col("split").first())
    chains = rows.partition_by("ts", "ccy", maintain_order=True)
    picked = np.unique(np.linspace(0, len(chains) - 1, LATENCY_CHAINS).round().astype(int))
    spent = []
    for i in picked:
        began = time.perf_counter()
        rival.curve(pad(chains[i]))
        spent.append(1e3 * (time.perf_counter() - began))
    return float(np.median(spent))


def run(name: str, prepared: Path, workdir: Path) -> Answers:
    """`predict` on a prepared folder (train, query, grid.parquet), remembered in `workdir`.

    The memory is keyed by the method's name and version and by the content of the three files, so that a
    second run with the same quotes does not fit again.

    Raises:
        ValueError: no rival of that name.
    """
    if name not in RIVALS:
        raise ValueError(f"no rival is called {name!r}; there are {', '.join(RIVALS)}")
    rival, digest = RIVALS[name], hashlib.sha256()
    for file in ("train", "query", "grid"):
        digest.update((prepared / f"{file}.parquet").read_bytes())
    home = workdir / "rivals" / f"{name}-{rival.version}-{digest.hexdigest()[:16]}"
    if (home / "timing.json").is_file():
        timing = json.loads((home / "timing.json").read_text()) | {"remembered": "yes"}
        filled = home / "grid.parquet"
        grid = pl.read_parquet(filled) if filled.is_file() else None
        return Answers(pl.read_parquet(home / "predictions.parquet"), grid, timing)
    tables = [pl.read_parquet(prepared / f"{file}.parquet") for file in ("train", "query", "grid")]
    answers = predict(rival, *tables)
    home.mkdir(parents=True, exist_ok=True)
    answers.predictions.write_parquet(home / "predictions.parquet")
    if answers.grid is not None:
        answers.grid.write_parquet(home / "grid.parquet")
    (home / "timing.json").write_text(json.dumps(answers.timing))
    return answers
