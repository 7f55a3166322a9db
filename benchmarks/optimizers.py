"""Which optimiser fits a chain first: Levenberg-Marquardt, Adam, SGD with momentum, by batch size.

    python -m benchmarks.optimizers --seed 0 --json FILE [--chains 6]

All go through the same public `step(state, batch)` from the same start (the prior's mean) to the same targets: a mean
loss over the whole chain within 10 % and within 1 % of the optimum, which a long Levenberg-Marquardt run finds.
Batches go from one quote to the whole chain. The learning rate of each first-order method is tuned for each batch
size on chains of their own, at the same budget of steps (a step solves all expiries whatever its batch, so the steps
cost nearly the same); it then runs on fresh chains: `--chains` recorded ones and as many simulated (recorded ones are
looked for at $VOLGRAD_DATA, else ../shared/data; without them all are simulated).

Told are the steps and epochs to the target, the share of chains that reach it within the budget, and the wall-clock
of exactly that many steps: every method takes its turn on each chain, one thread, median of `--repeats` turns,
compilation apart. A chain that does not reach the target counts as never: the median over all chains is told.
"""

import functools
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import cyclopts
import numpy as np

from benchmarks import chains as sources

SIZES = (1, 4, 16, 64, 256, 0)  # 0: the whole chain
LM_SIZES = (64, 256, 0)
RATES = {"adam": (0.01, 0.03, 0.1, 0.3, 1.0), "sgd": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
BUDGET = {"lm": 40, "adam": 1500, "sgd": 1500}  # steps
LOOK = {"lm": 1, "adam": 10, "sgd": 10}  # steps from one look at the loss of the whole chain to the next
TARGETS = (0.10, 0.01)
NEVER = float("inf")


class Method(NamedTuple):
    """An optimiser at one batch size (0: the whole chain) and learning rate (0: it has none)."""

    name: str
    size: int
    rate: float = 0.0

    @property
    def label(self) -> str:
        """Such as `adam, 64 quotes`."""
        return f"{self.name}, {f'{self.size} quotes' if self.size else 'whole chain'}"


class Case(NamedTuple):
    """A chain made ready: the task and batch on the device, and the mean loss of its optimum."""

    source: str
    quotes: int
    task: Any
    data: Any
    best: float


# ------------------------------------------------------------------------------------------ the runs


def prepare(chains: list[sources.Sourced]) -> list[Case]:
    """Frame every chain and find its optimum, by a Levenberg-Marquardt run that gives up late."""
    import jax

    from volgrad.models.local_vol import Prior
    from volgrad.tasks.framing import frame_chain

    cases = []
    for source, chain in chains:
        framed = frame_chain(chain, Prior())
        task, data = jax.device_put((framed.task, framed.data))
        case = Case(source, chain.n_rows, task, data, NEVER)
        cases.append(case._replace(best=float(curve(case, Method("lm", 0), seed=0).min())))
    return cases


def curve(case: Case, method: Method, seed: int) -> np.ndarray:
    """Mean loss over the whole chain at the start and after every `LOOK` steps, `BUDGET` steps long."""
    import jax

    state, every = _begin(case, method, seed), LOOK[method.name]
    losses = [_loss()(case.task, case.data, state)]
    for first in range(0, BUDGET[method.name], every):
        state = _walk(method.name, method.size)(case.task, case.data, state, first, every)
        losses.append(_loss()(case.task, case.data, state))
    return np.nan_to_num(np.asarray(jax.device_get(losses)), nan=NEVER)


def steps_to(case: Case, losses: np.ndarray, method: Method, target: float) -> float:
    """Steps until the loss is within `target` of the optimum; infinite where it never is."""
    reached = np.flatnonzero(losses <= (1.0 + target) * case.best)
    return float(reached[0] * LOOK[method.name]) if reached.size else NEVER


@functools.cache
def _optimizer(name: str) -> Any:
    """Rates are 1 here and scale the steps in `_begin`, so that one program serves all of them."""
    from volgrad.learning.training.first_order import adam, sgd
    from volgrad.learning.training.least_squares import LevenbergMarquardt

    if name == "lm":
        return LevenbergMarquardt()
    return {"adam": adam, "sgd": sgd}[name](learning_rate=1.0, steps=BUDGET[name])


def _begin(case: Case, method: Method, seed: int) -> Any:
    import equinox as eqx
    import jax

    from volgrad.learning.training.loop import begin

    state = begin(case.task, _optimizer(method.name), jax.random.key(seed))
    if not method.rate:
        return state
    return eqx.tree_at(lambda s: s.optimizer.scale, state, state.optimizer.scale * method.rate)


@functools.cache
def _loss() -> Callable[..., Any]:
    import jax

    from volgrad.learning.training.state import mean_loss

    return jax.jit(
        lambda task, data, state: mean_loss(task.loss(state.variables, state.statistics, data, state.key)[0], data)
    )


@functools.cache
def _walk(name: str, size: int) -> Callable[..., Any]:
    """Compiled: `steps` steps from number `first` on, on the shuffled batches of the epochs they fall into."""
    import jax

    from volgrad.learning.batching.batch import epoch_order, take
    from volgrad.learning.training.loop import make_step

    def walk(task: Any, data: Any, state: Any, first: Any, steps: Any) -> Any:
        step = make_step(task, _optimizer(name))
        if not size or size >= data.clusters:
            return jax.lax.fori_loop(0, steps, lambda _, s: step(s, data)[0], state)
        used = -(-data.mask.sum() // size)  # batches with a quote in them: the rest is padding

        def one(number: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, order = carry
            turn, epoch = number % used, number // used
            order = jax.lax.cond(turn == 0, lambda: epoch_order(data, size, state.key, epoch), lambda: order)
            return step(state, take(data, order[turn]))[0], order

        order = epoch_order(data, size, state.key, first // used)
        return jax.lax.fori_loop(first, first + steps, one, (state, order))[0]

    return jax.jit(walk)


# ------------------------------------------------------------------------------------------ tuning and measuring


def tune(cases: list[Case], seed: int) -> tuple[list[Method], list[dict[str, Any]]]:
    """For each first-order method and size the rate that ends lowest (mean of ln loss over optimum), and the sweep."""
    chosen, sweep = [], []
    for name, rates in RATES.items():
        for size in SIZES:
            tried = [Method(name, size, rate) for rate in rates]
            excess = [float(np.mean([_excess(case, method, seed) for case in cases])) for method in tried]
            chosen.append(tried[int(np.argmin(excess))])
            told = dict(zip(map(str, rates), excess, strict=True))
            sweep.append({"optimizer": name, "batch": size, "rate": chosen[-1].rate, "ln_loss_over_optimum": told})
    return chosen, sweep


def _excess(case: Case, method: Method, seed: int) -> float:
    return float(np.log(max(float(curve(case, method, seed).min()), case.best) / case.best))


def measure(cases: list[Case], methods: list[Method], seed: int, repeats: int) -> list[dict[str, Any]]:
    """Steps, epochs and milliseconds to each target, for every method, over all chains."""
    steps = np.full((len(methods), len(cases), len(TARGETS)), NEVER)
    best = np.full((len(methods), len(cases)), NEVER)
    for m, method in enumerate(methods):
        for c, case in enumerate(cases):
            losses = curve(case, method, seed)
            steps[m, c] = [steps_to(case, losses, method, target) for target in TARGETS]
            best[m, c] = losses.min() / case.best
    clocks = clock(cases, methods, steps, seed, repeats)
    quotes = np.array([case.quotes for case in cases], float)
    return [
        _figures(method, steps[m], best[m], clocks[m], quotes / (method.size or quotes))
        for m, method in enumerate(methods)
    ]


def clock(cases: list[Case], methods: list[Method], steps: np.ndarray, seed: int, repeats: int) -> np.ndarray:
    """Milliseconds of `steps` steps and of one step; shape: (methods, cases, targets + 1).

    Methods take turns on each chain. Long runs are timed over their first 100 steps: steps cost the same throughout.
    """
    import jax

    spent = np.full((repeats + 1, *steps.shape[:2], steps.shape[2] + 1), NEVER)
    for turn in range(repeats + 1):  # the first one compiles
        for c, case in enumerate(cases):
            for m, method in enumerate(methods):
                walk, state = _walk(method.name, method.size), _begin(case, method, seed)
                counts = [*steps[m, c], 8.0 if method.name == "lm" else 100.0]
                for place, count in enumerate(counts):
                    if np.isfinite(count) and (place == len(counts) - 1 or count <= 100):
                        began = perf_counter()
                        jax.block_until_ready(walk(case.task, case.data, state, 0, int(count)).variables)
                        spent[turn, m, c, place] = 1e3 * (perf_counter() - began)
                spent[turn, m, c, -1] /= counts[-1]
    found = np.median(spent[1:], axis=0)
    long = np.isfinite(steps) & ~np.isfinite(found[..., :-1])
    found[..., :-1] = np.where(long, steps * found[..., -1:], found[..., :-1])
    return found


def _figures(
    method: Method, steps: np.ndarray, best: np.ndarray, clocks: np.ndarray, steps_an_epoch: np.ndarray
) -> dict[str, Any]:
    told = {"optimizer": method.name, "batch": method.size, "rate": method.rate, "label": method.label}
    told |= {"ms_a_step": float(np.median(clocks[:, -1])), "loss_over_optimum": float(np.median(best))}
    for place, target in enumerate(TARGETS):
        told[f"within_{target:.0%}"] = {
            "share": float(np.isfinite(steps[:, place]).mean()),
            "steps": _median(steps[:, place]),
            "epochs": _median(steps[:, place] / steps_an_epoch),
            "ms": _median(clocks[:, place]),
        }
    return told


def _median(values: np.ndarray) -> float | None:
    """Over all chains, those that never arrive the slowest; None where that is the middle."""
    ordered = np.sort(values)
    middle = 0.5 * (ordered[(values.size - 1) // 2] + ordered[values.size // 2])
    return float(middle) if np.isfinite(middle) else None


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    head = f"{'':22s}{'rate':>7s}{'ms/step':>9s}"
    for target in TARGETS:
        head += f"  | within {target:3.0%}: share{'steps':>7s}{'epochs':>8s}{'ms':>8s}"
    lines = [f"{report['chains']}; target: mean loss of the optimum; medians over chains", head + "  | best"]
    for figure in report["figures"]:
        line = f"{figure['label']:22s}{figure['rate'] or '':>7}{figure['ms_a_step']:9.3f}"
        for target in TARGETS:
            told = figure[f"within_{target:.0%}"]
            cells = [_cell(told["steps"], 7, 0), _cell(told["epochs"], 8, 1), _cell(told["ms"], 8, 1)]
            line += f"  | {100 * told['share']:17.0f}%" + "".join(cells)
        lines.append(line + f"  | {figure['loss_over_optimum']:.3f}")
    return "\n".join(lines)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'never':>{width}s}" if value is None else f"{value:{width}.{digits}f}"


def benchmark(seed: int, count: int, tuning: int, repeats: int) -> dict[str, Any]:
    """Tune, measure on fresh chains, and say with what."""
    known = sources.mixed(seed, 2 * (count + tuning))
    cut = {"recorded": 0, "simulated": 0}
    tuned, fresh = [], []
    for source, chain in known:  # half of the tuning chains and of the others is recorded, where there are records
        cut[source] += 1
        (tuned if cut[source] <= tuning or len(fresh) == 2 * count else fresh).append((source, chain))
    methods, sweep = tune(prepare(tuned[: 2 * tuning]), seed)
    cases = prepare(fresh)
    methods = [Method("lm", size) for size in LM_SIZES] + methods
    told = f"{len(cases)} chains ({sum(case.source == 'recorded' for case in cases)} recorded)"
    return {
        "benchmark": "optimizers",
        "seed": seed,
        "chains": told,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "budget": BUDGET,
        "sweep": sweep,
        "figures": measure(cases, methods, seed, repeats),
    }


def main(
    *,
    seed: int = 0,
    chains: int = 6,
    tuning: int = 1,
    repeats: int = 3,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Race the optimisers and print a table.

    Args:
        seed: of the choice of chains, of the simulation and of the batches.
        chains: recorded ones, and as many simulated.
        tuning: chains of each kind on which learning rates are tuned (not among the others).
        repeats: turns each method takes on each chain.
        json_file: write the figures here.
    """
    sources.on_one_thread("benchmarks.optimizers")
    report = benchmark(seed, chains, tuning, repeats)
    print(table(report))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.optimizers", help=__doc__)
    app.default(main)
    app()
