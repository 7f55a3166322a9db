"""The forecast benchmark: realised variance of the next day by docs/examples, against HAR and against DVOL itself.

    python -m benchmarks.forecast --seed 0 --json forecast.json [--simulated]

Forward in time: every `--every` days all methods are fitted to all that was known by then (the horizon purged) and
forecast the days that follow, at every full hour. Rivals, of which those but raw DVOL are fitted per underlying:

    HAR        logs of daily, weekly and monthly realised variance, least squares (Corsi 2009)
    HAR-DVOL   the same with the logarithm of DVOL squared
    linear     least squares on all of the network's inputs
    DVOL       its square over 365, as it stands
    DVOL x     the same, times the ratio of mean logarithms in training

Scores: root mean square error of the logarithm, and QLIKE (Patton 2011). For QLIKE all but raw DVOL forecast the mean
of a variance whose logarithm is normal, with the deviation of their own errors in training. Hours overlap and days
cluster: intervals are those of a block bootstrap of the difference, by blocks of `--block` days. The example's settings
were chosen on days before June 2025: `later` repeats the table for the days from then on.
"""

import dataclasses
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cyclopts
import jax
import numpy as np
from jaxtyping import Float, Int

from volgrad import runtime
from volgrad.data.image import Image
from volgrad.learning.batching.batch import Batch, Rows
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin, make_step
from volgrad.learning.training.schedules import schedule
from volgrad.learning.user_code import load

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
FILES = {
    "bars": ("btcusdt_1h_20240416_20260131.csv.gz", "ethusdt_1h_20240416_20260131.csv.gz"),
    "dvol": "btc_dvol_daily_20211109_20251112.csv.gz",
}
DAY_US = 86_400_000_000
HAR = ("log_rv_day", "log_rv_week", "log_rv_month")
CHOSEN_BEFORE = datetime(2025, 6, 1, tzinfo=UTC)
OURS = "network"


class Scores(NamedTuple):
    """Of each forecast: when, of which underlying; by method its squared log error and its QLIKE."""

    day: Int[np.ndarray, " rows"]
    underlying: Int[np.ndarray, " rows"]
    by_method: dict[str, Float[np.ndarray, "rows 2"]]


@dataclasses.dataclass
class Budget:
    """How the network is trained: clusters a batch, clusters in all, peak learning rate."""

    clusters: int = 256
    samples: int = 150_000
    learning_rate: float = 3e-3


def train(study: Any, image: Image, known: range, budget: Budget, seed: int) -> tuple[Any, Any]:
    """The task on `known`, and its state after training."""
    task = study.task(study.Model(), image, known)
    steps = budget.samples // budget.clusters
    curve = schedule("warm-up-cosine", samples=budget.samples)
    optimizer = named("adam", curve, learning_rate=budget.learning_rate, clip=10.0)
    loader = Loader(image, known, seed)
    stack = loader.stack(0, steps, budget.clusters)
    loader.close()
    step = make_step(task, optimizer)
    state = begin(task, optimizer, jax.random.key(seed))
    state, _ = jax.jit(lambda state, parts: jax.lax.scan(lambda at, one: step(at, batch_of(*one)), state, parts))(
        state, tuple(stack)
    )
    return task, state


def batch_at(image: Image, clusters: range) -> Batch:
    """These clusters, all of one length, as one batch."""
    rows = image.rows[image.first_row[clusters.start] : image.first_row[clusters.stop]]
    values = np.asarray(rows).reshape(len(clusters), -1, len(image.features))
    return Batch(
        Rows(values, np.ones(values.shape[:2], bool)), np.ones(len(clusters), bool), np.ones(len(clusters), np.float32)
    )


def normal_scores(target: np.ndarray, forecast: np.ndarray, deviation: np.ndarray | float) -> np.ndarray:
    """Squared log error, and QLIKE of the mean of a log-normal variance."""
    gap = target - forecast
    mean_gap = gap - 0.5 * np.square(deviation)
    return np.stack([gap**2, np.exp(mean_gap) - mean_gap - 1.0], axis=-1)


def linear(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, float]:
    """Forecast of least squares, and the deviation of its errors in training."""
    design = np.column_stack([train_x, np.ones(len(train_x))])
    found = np.linalg.lstsq(design, train_y)[0]
    return np.column_stack([test_x, np.ones(len(test_x))]) @ found, float((train_y - design @ found).std())


def rivals(image: Image, known: range, asked: range) -> dict[str, np.ndarray]:
    """Scores of every rival on the rows of `asked`."""
    past, now = (
        np.asarray(image.rows[image.first_row[c.start] : image.first_row[c.stop]], float) for c in (known, asked)
    )
    at = image.position
    target, dvol, which = at("log_rv_next"), at("dvol"), at("underlying")
    har = [at(name) for name in HAR]
    found = {name: np.empty((len(now), 2)) for name in ("HAR", "HAR-DVOL", "linear", "DVOL", "DVOL x")}
    for underlying in np.unique(past[:, which]):
        old, new = past[past[:, which] == underlying], now[:, which] == underlying
        y = now[new, target]
        for name, columns in (("HAR", har), ("HAR-DVOL", [*har, dvol]), ("linear", [*range(which)])):
            found[name][new] = normal_scores(y, *linear(old[:, columns], old[:, target], now[new][:, columns]))
        gap = old[:, target] - old[:, dvol]
        found["DVOL x"][new] = normal_scores(y, now[new, dvol] + gap.mean(), gap.std())
        found["DVOL"][new] = normal_scores(y, now[new, dvol], 0.0)
    return found


def walk(study: Any, image: Image, seed: int, every_days: int, first_days: int, budget: Budget) -> Scores:
    """Fit and forecast, forward in time."""
    starts = np.arange(image.start_us[0] + first_days * DAY_US, image.start_us[-1], every_days * DAY_US)
    rows, scores = [], []
    for start in starts:
        known = range(int(np.searchsorted(image.known_us, start, "right")))
        asked = range(*np.searchsorted(image.start_us, [start, start + every_days * DAY_US]).tolist())
        task, state = train(study, image, known, budget, seed)
        batch = batch_at(image, asked)
        _, forecast, deviation, _ = task.predict(state.variables, state.statistics, batch, False)
        values = np.asarray(batch.rows.values)
        target = values[..., image.position("log_rv_next")].astype(float)
        own = normal_scores(target, np.asarray(forecast, float), float(deviation)).reshape(-1, 2)
        scores.append({OURS: own, **rivals(image, known, asked)})
        day = np.repeat(image.start_us[asked.start : asked.stop] // DAY_US, values.shape[1])
        rows.append((day, values[..., image.position("underlying")].reshape(-1).astype(int)))
    day, which = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Scores(day, which, {name: np.concatenate([one[name] for one in scores]) for name in scores[0]})


def table(scores: Scores, seed: int, block_days: int, draws: int = 2000) -> dict[str, Any]:
    """Scores by underlying and method, and our gain over each method with its 95 % interval."""
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for underlying in np.unique(scores.underlying):
        of = scores.underlying == underlying
        blocks, number = np.unique(scores.day[of] // block_days, return_inverse=True)
        counts = np.bincount(number)
        drawn = random.integers(0, len(blocks), (draws, len(blocks)))
        sums = {
            name: np.stack([np.bincount(number, value[of][:, place]) for place in (0, 1)], axis=1)
            for name, value in scores.by_method.items()
        }
        means = {name: value[drawn].sum(1) / counts[drawn].sum(1)[:, None] for name, value in sums.items()}
        here: dict[str, Any] = {"forecasts": int(of.sum()), "blocks": len(blocks), "methods": {}}
        for name, value in scores.by_method.items():
            log_rmse, qlike = float(np.sqrt(value[of][:, 0].mean())), float(value[of][:, 1].mean())
            entry: dict[str, Any] = {"log_rmse": log_rmse, "qlike": qlike}
            if name != OURS:
                less = np.sqrt(means[name][:, 0]) - np.sqrt(means[OURS][:, 0])
                entry["log_rmse_gain"] = np.percentile(less, [2.5, 97.5]).tolist()
                entry["qlike_gain"] = np.percentile(means[name][:, 1] - means[OURS][:, 1], [2.5, 97.5]).tolist()
            here["methods"][name] = entry
        found[str(underlying)] = here
    return found


def show(title: str, found: dict[str, Any], names: list[str]) -> None:
    """Print a table."""
    print(f"\n{title}")
    for number, here in found.items():
        print(f"{names[int(number)]}: {here['forecasts']} forecasts in {here['blocks']} blocks")
        print(f"  {'':10} {'log-RMSE':>9} {'QLIKE':>8}   gain of the network, 95 %: in log-RMSE, in QLIKE")
        for name, one in here["methods"].items():
            line = f"  {name:10} {one['log_rmse']:9.4f} {one['qlike']:8.4f}"
            for score in ("log_rmse_gain", "qlike_gain"):
                line += f"   [{one[score][0]:+.4f}, {one[score][1]:+.4f}]" if score in one else ""
            print(line)


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    simulated: bool = False,
    every: int = 30,
    first: int = 200,
    block: int = 5,
) -> None:
    """Walk forward and print the tables.

    Args:
        seed: of the network's start, of the order of its data, and of the bootstrap.
        json_file: write the figures here.
        simulated: the example's simulated market in place of real data.
        every: days between fits.
        first: days before the first fit.
        block: days of a block of the bootstrap.
    """
    runtime.use_double_precision()
    began, folder = time.perf_counter(), runtime.find_data()
    if folder is None and not simulated:
        print("skipped: no real data (set VOLGRAD_DATA, or give --simulated)")
        return
    study = load("realised_variance.py:RealisedVariance", EXAMPLES)()
    with tempfile.TemporaryDirectory() as kept:
        data = study.Data() if simulated or folder is None else study.Data(**FILES)
        image = study.image(data, folder or EXAMPLES, Path(kept))
    budget = Budget()
    scores = walk(study, image, seed, every, min(first, 60) if simulated else first, budget)
    report: dict[str, Any] = {
        "seed": seed,
        "data": "simulated" if simulated else [*FILES["bars"], FILES["dvol"]],
        "hours": image.clusters,
        "fits_every_days": every,
        "budget": dataclasses.asdict(budget),
        "all": table(scores, seed, block),
    }
    names = ["A", "B"] if simulated else ["BTC", "ETH"]
    show("All days forecast", report["all"], names)
    late = scores.day >= CHOSEN_BEFORE.timestamp() * 1e6 // DAY_US
    if late.any() and not late.all():
        later = Scores(
            scores.day[late], scores.underlying[late], {name: value[late] for name, value in scores.by_method.items()}
        )
        report["later"] = table(later, seed, block)
        show(f"Days from {CHOSEN_BEFORE:%B %Y} on (seen, but not chosen by)", report["later"], names)
    report["wall_s"] = time.perf_counter() - began
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.forecast", help=__doc__)
    app.default(main)
    sys.exit(app())
