"""Do small batches escape poor minima? Share of runs that end in the best basin, by batch size.

    python -m benchmarks.basins --seed 0 --json FILE [--starts 64]

A raw SVI slice is fitted to 256 quotes of one expiry from poor starts: the coordinates are drawn at random, with no
prior to pull them back. Two smiles: `smile` is a slice of raw SVI itself, quoted with noise; `event` is what two
outcomes of an event leave (a mixture of two lognormals: a hump that no slice can follow), on which full-batch descent
is known to end in many places. Losses are those of the library's own fit: squares inside bid and ask, straight beyond.

Stochastic gradient descent and Adam run with batches of 1 to all quotes, twice: for as many *epochs* each (small
batches then take more steps) and for as many *steps* each (small batches then see fewer quotes). The rate falls along a
cosine. It is chosen for each size, from one grid, as the one of the lowest mean loss at the end over starts of their
own; a rate at an end of its grid is marked. The chosen rates then run from the same `--starts` fresh starts each.

Every end point is polished by full-batch Levenberg-Marquardt. The best basin is the lowest loss that any of all these
runs, or of the polisher's own runs from the starts, has ended in, within 0.3 %. As the polisher can leave a basin, its
share from the bare starts is told too. Beside it stands the share that ends within 2 % of the best loss, in whichever
basin: minima further up are the poor ones (added once the first results were seen). Shares carry 95 % Wilson intervals;
as all sizes have the same starts, what counts between two of them are the starts that one won and the other did not
(exact sign test against all quotes; of 64 tests three are expected below 0.05 by luck). Sharpness is the largest
eigenvalue of the Hessian of the mean loss over all quotes at the end of the run, before polishing; by basin it is that
of the polished end.
"""

import functools
import json
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import cyclopts
import numpy as np

from benchmarks import chains as sources

QUOTES = 256
SIZES = (1, 4, 16, 64, 256)
RATES = {"sgd": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), "adam": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}
BUDGETS = {"epochs": 48, "steps": 1536}
NEAR = 2e-2  # of the lowest loss: a fit as good for most uses (assumption)
TOLERANCE = 3e-3  # of the lowest loss: the next basins lie further up (measured)
SPREAD = (2.0, 2.0, 1.5, 4.0, 1.5)  # standard deviations of the coordinates of a start (assumption: poor)
_CLIP = 10.0  # as the library's own descent on chains


class Problem(NamedTuple):
    """A smile to fit: the task and its quotes."""

    name: str
    task: Any
    data: Any


# ------------------------------------------------------------------------------------------ the smiles


def problem(name: str, seed: int, quotes: int = QUOTES) -> Problem:
    """`smile` or `event`: mids with noise of a third of a half-spread of 3 % of the volatility."""
    from volgrad.learning.batching.batch import Batch
    from volgrad.models.svi import SviSlice, total_variance
    from volgrad.tasks.smiles import SmileRows
    from volgrad.tasks.svi import SviTask

    random, years = np.random.default_rng([seed, len(name)]), 30.0 / 365.0
    moneyness = np.linspace(-0.35, 0.40, quotes)
    if name == "event":
        vol = _event_vol(moneyness, years)
    else:
        slice_ = SviSlice(*map(np.array, (0.004, 0.045, -0.35, 0.03, 0.08)))
        vol = np.sqrt(np.asarray(total_variance(slice_, moneyness)) / years)
    theta = float(np.interp(0.0, moneyness, vol)) ** 2 * years
    half = 0.03 * vol
    mid = vol + half / 3.0 * random.standard_normal(quotes)
    rows = SmileRows(np.zeros(quotes, np.int32), moneyness, mid, half, np.full(quotes, years))
    task = _task()(SviTask(np.asarray(theta), np.asarray(float(quotes))))
    return Problem(name, task, Batch(rows, np.ones(quotes, bool), np.ones(quotes)))


def _event_vol(moneyness: np.ndarray, years: float) -> np.ndarray:
    """Implied volatility where the forward jumps by 22 % with probability .65, by bisection of Black's formula."""
    jump, share, width = 1.22, 0.65, 0.06
    base = 1.0 / (1.0 - share + share * jump)
    strike = np.exp(moneyness)
    price = (1.0 - share) * _call(base, strike, width) + share * _call(base * jump, strike, width)
    low, high = np.full(strike.shape, 1e-3), np.full(strike.shape, 2.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        under = _call(1.0, strike, middle) < price
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return low / math.sqrt(years)


def _call(forward: float, strike: np.ndarray, deviation: Any) -> np.ndarray:
    """Black's undiscounted call; `deviation` is the standard deviation of the log return."""
    above = np.log(forward / strike) / deviation + 0.5 * deviation
    normal = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2.0)))
    return forward * normal(above) - strike * normal(above - deviation)


@functools.cache
def _task() -> Any:
    """The slice without its prior: the library's task, whose prior is there to take poor starts away."""
    import jax.numpy as jnp

    from volgrad.learning.training.task import LeastSquares, Residuals
    from volgrad.tasks.smiles import distances, quality, weighed
    from volgrad.tasks.surface import quote_loss
    from volgrad.tasks.svi import SviTask

    class Bare(LeastSquares):
        inner: SviTask

        def init(self, key: Any) -> tuple[Any, None]:
            return self.inner.init(key)

        def distances(self, variables: Any, batch: Any) -> Any:
            return distances(self.inner.implied_vol(variables, batch.rows), batch)

        def loss(self, variables: Any, statistics: Any, batch: Any, key: Any) -> tuple[Any, None]:
            del statistics, key
            return quote_loss(self.distances(variables, batch), 1.0, 0.0), None

        def residuals(self, variables: Any, batch: Any) -> Residuals:
            z = self.distances(variables, batch)
            loss, stiffness = weighed(z, batch, 1.0, 0.0)
            return Residuals(jnp.asarray(z), stiffness, loss)

        def evaluate(self, variables: Any, statistics: Any, batch: Any) -> dict[str, Any]:
            del statistics
            return quality(self.distances(variables, batch), batch)

    return Bare


def starts(count: int, seed: int) -> np.ndarray:
    """Poor starts: coordinates of `models.svi`, drawn at random. Shape: (count, 5)."""
    return np.random.default_rng([seed, 77]).standard_normal((count, 5)) * np.array(SPREAD)


# ------------------------------------------------------------------------------------------ the runs


@functools.cache
def _walk(name: str, size: int, epochs: int) -> Callable[..., Any]:
    """Compiled: `(task, data, starts, rates, keys) -> (end, loss)`, each start at each rate."""
    import equinox as eqx
    import jax

    from volgrad.learning.batching.batch import epoch_order, take
    from volgrad.learning.training.first_order import named
    from volgrad.learning.training.loop import begin, make_step
    from volgrad.learning.training.schedules import schedule
    from volgrad.learning.training.state import mean_loss

    def one(task: Any, data: Any, start: Any, rate: Any, key: Any) -> Any:
        falling = schedule("warm-up-cosine", epochs * data.clusters, warm_up=0.02)
        optimizer = named(name, falling, learning_rate=1.0, clip=_CLIP)
        state = begin(task, optimizer, key, start)
        state = eqx.tree_at(lambda s: s.optimizer.scale, state, state.optimizer.scale * rate)
        step = make_step(task, optimizer)

        def epoch(state: Any, number: Any) -> tuple[Any, None]:
            order = epoch_order(data, size, key, number)
            return jax.lax.scan(lambda s, index: (step(s, take(data, index))[0], None), state, order)[0], None

        state, _ = jax.lax.scan(epoch, state, jax.numpy.arange(epochs))
        return state.variables, mean_loss(task.loss(state.variables, None, data, key)[0], data)

    by_start = jax.vmap(one, (None, None, 0, None, 0))
    return jax.jit(jax.vmap(by_start, (None, None, None, 0, None)))


def run(
    case: Problem, name: str, size: int, epochs: int, begins: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends and mean losses over all quotes there, by rate and start; infinite where they are not finite."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(seed), len(begins))
    end, loss = _walk(name, size, epochs)(case.task, case.data, jnp.asarray(begins), jnp.asarray(RATES[name]), keys)
    return np.asarray(end), np.nan_to_num(np.asarray(loss), nan=math.inf)


@functools.cache
def _polisher() -> Callable[..., Any]:
    import jax

    from volgrad.learning.training.least_squares import LevenbergMarquardt
    from volgrad.learning.training.loop import Rules, begin, fit

    def one(task: Any, data: Any, start: Any) -> Any:
        optimizer = LevenbergMarquardt(damping=1.0, largest=0.5)  # short steps: it is to stay where it was put
        state = begin(task, optimizer, jax.random.key(0), start)
        done = fit(task, optimizer, data, state, data.clusters, Rules(epochs=150, tolerance=1e-7, restarts=0))
        return done.state.variables, done.loss

    return jax.jit(jax.vmap(one, (None, None, 0)))


def polish(case: Problem, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where full-batch Levenberg-Marquardt leads from each end, and the mean loss there."""
    at, loss = _polisher()(case.task, case.data, ends)
    return np.asarray(at), np.nan_to_num(np.asarray(loss), nan=math.inf)


@functools.cache
def _curvature() -> Callable[..., Any]:
    import jax

    from volgrad.learning.training.sharpness import sharpness

    def one(task: Any, data: Any, at: Any) -> Any:
        return sharpness(task, at, None, data, jax.random.key(1), iterations=5, directions=1).eigenvalue  # 5: exact

    return jax.jit(jax.vmap(one, (None, None, 0)))


# ------------------------------------------------------------------------------------------ figures


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share: Wilson (1927), J. Am. Stat. Assoc. 22 [paper].

    >>> tuple(round(x, 3) for x in wilson(0, 10))
    (0.0, 0.278)
    """
    middle = (hits + 0.5 * z * z) / (count + z * z)
    half = z * math.sqrt(hits * (count - hits) / count + 0.25 * z * z) / (count + z * z)
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_test(won: int, lost: int) -> float:
    """Two-sided probability of a split at least as uneven, if each side were as likely.

    >>> sign_test(5, 0), sign_test(3, 3)
    (0.0625, 1.0)
    """
    count, least = won + lost, min(won, lost)
    return min(1.0, 2.0 * sum(math.comb(count, k) for k in range(least + 1)) / 2.0**count)


def tuned(loss: np.ndarray) -> int:
    """Place of the rate of the lowest mean loss; a run that blew up counts as the worst finite one."""
    worst = float(loss[np.isfinite(loss)].max()) if np.isfinite(loss).any() else 1.0
    return int(np.argmin(np.where(np.isfinite(loss), loss, worst).mean(axis=1)))


def study(case: Problem, seed: int, count: int, tuning: int) -> dict[str, Any]:
    """All optimisers, budgets and sizes on one smile."""
    begins = starts(tuning + count, seed)
    bare = polish(case, begins[tuning:])
    quotes, cells = case.data.clusters, []
    for name in RATES:
        for budget, amount in BUDGETS.items():
            for size in SIZES:
                epochs = amount if budget == "epochs" else amount * size // quotes
                end, loss = run(case, name, size, epochs, begins, seed)
                place = tuned(loss[:, :tuning])
                ends = end[place, tuning:]
                cells.append((name, budget, size, epochs, place, ends, loss[place, tuning:], polish(case, ends)))
    best = float(min(bare[1].min(), *(cell[-1][1].min() for cell in cells)))
    figures = [_figures(case, cell, best) for cell in cells]
    for figure in figures:
        key = (figure["optimizer"], figure["budget"], SIZES[-1])
        whole = next(f for f in figures if (f["optimizer"], f["budget"], f["size"]) == key)
        for kind, reach in (("best", TOLERANCE), ("near", NEAR)):
            mine, other = (np.array(f["polished_over_best"]) <= 1.0 + reach for f in (figure, whole))
            won, lost, hits = int((mine & ~other).sum()), int((other & ~mine).sum()), int(mine.sum())
            figure[kind] = {"share": hits / count, "interval": wilson(hits, count)}
            figure[kind] |= {"won": won, "lost": lost, "p": sign_test(won, lost)}
    hits = int((bare[1] <= best * (1.0 + TOLERANCE)).sum())
    return {
        "problem": case.name,
        "quotes": quotes,
        "starts": count,
        "best_loss": best,
        "polisher_alone": {"hits": hits, "share": hits / count, "interval": wilson(hits, count)},
        "basins": _basins(case, [bare, *(cell[-1] for cell in cells)]),
        "figures": figures,
    }


def _figures(case: Problem, cell: tuple[Any, ...], best: float) -> dict[str, Any]:
    name, budget, size, epochs, place, ends, loss, (_, polished) = cell
    curved = np.asarray(_curvature()(case.task, case.data, ends))
    return {
        "optimizer": name,
        "budget": budget,
        "size": size,
        "epochs": epochs,
        "steps": epochs * case.data.clusters // size,
        "rate": RATES[name][place],
        "rate_at_end": place in (0, len(RATES[name]) - 1),
        "loss_over_best": float(np.median(loss)) / best,
        "polished_over_best": (polished / best).tolist(),
        "eigenvalue_quartiles": np.nanquantile(curved, (0.25, 0.5, 0.75)).tolist(),
    }


def _basins(case: Problem, ends: list[tuple[np.ndarray, np.ndarray]], most: int = 6) -> list[dict[str, float]]:
    """The basins by loss: how many runs of all ended there, and the median curvature."""
    loss = np.concatenate([one for _, one in ends])
    curved = np.concatenate([np.asarray(_curvature()(case.task, case.data, at)) for at, _ in ends])
    left, found = np.isfinite(loss), []
    while left.any() and len(found) < most:
        low = float(loss[left].min())
        inside = left & (loss <= low * (1.0 + TOLERANCE))
        found.append({"loss": low, "runs": int(inside.sum()), "eigenvalue": float(np.median(curved[inside]))})
        left &= ~inside
    return found


def figure(result: dict[str, Any], kind: str = "best") -> list[dict[str, Any]]:
    """One line of a plot for each smile, optimiser and budget: sizes, shares ("best" or "near"), their intervals."""
    lines: dict[str, dict[str, Any]] = {}
    for told in result["studies"]:
        for cell in told["figures"]:
            label = f"{told['problem']}, {cell['optimizer']}, {cell['budget']}"
            line = lines.setdefault(label, {"label": label, "size": [], "share": [], "low": [], "high": []})
            low, high = cell[kind]["interval"]
            for name, value in {"size": cell["size"], "share": cell[kind]["share"], "low": low, "high": high}.items():
                line[name].append(value)
    return list(lines.values())


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    lines = []
    for told in result["studies"]:
        alone = _share(told["polisher_alone"])
        head = f"{told['problem']}: {told['quotes']} quotes, {told['starts']} starts, best loss {told['best_loss']:.4f}"
        basins = ", ".join(f"{b['loss']:.4f} ({b['runs']} runs, {b['eigenvalue']:.3g})" for b in told["basins"])
        lines += [f"{head}; polisher alone {alone}", f"  basins (runs, curvature): {basins}"]
        columns = "".join(f"{f'{kind} [95 %]':>20s}  won/lost      p" for kind in ("best basin", "within 2 %"))
        lines.append(f"  optimiser equal    batch      rate{columns}  loss/best  eigenvalue")
        for cell in told["figures"]:
            rate = f"{cell['rate']:g}{'!' if cell['rate_at_end'] else ' '}"
            shares = "".join(
                f"{_share(one):>20s}   {one['won']:3d}/{one['lost']:<3d}{one['p']:7.2g}"
                for one in (cell["best"], cell["near"])
            )
            lines.append(
                f"  {cell['optimizer']:9s} {cell['budget']:6s}{cell['size']:7d}{rate:>10s}{shares}"
                f"{cell['loss_over_best']:11.3f}{cell['eigenvalue_quartiles'][1]:12.3g}"
            )
    return "\n".join(lines)


def _share(told: dict[str, Any]) -> str:
    low, high = told["interval"]
    return f"{100 * told['share']:.0f} % [{100 * low:.0f}-{100 * high:.0f}]"


def benchmark(seed: int, count: int, tuning: int) -> dict[str, Any]:
    """Both smiles, and with what it was done."""
    from volgrad.runtime import double_precision

    began = perf_counter()
    with double_precision():
        studies = [study(problem(name, seed), seed, count, tuning) for name in ("smile", "event")]
    return {
        "benchmark": "basins",
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "wall_s": round(perf_counter() - began, 1),
        "studies": studies,
    }


def main(
    *,
    seed: int = 0,
    starts: int = 64,
    tuning: int = 24,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Run all sizes from the same poor starts and print the shares.

    Args:
        seed: of the noise of quotes, of the starts and of the batches.
        starts: fresh ones, from which shares are counted.
        tuning: starts of their own on which the rate of each size is chosen.
        json_file: write the figures here.
    """
    sources.on_one_thread("benchmarks.basins")
    result = benchmark(seed, starts, tuning)
    print(table(result))
    if json_file:
        json_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.basins", help=__doc__)
    app.default(main)
    app()
