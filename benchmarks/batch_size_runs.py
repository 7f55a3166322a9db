"""Runs to a target, many in one compiled program, and when they cross it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks import batch_size_workloads as catalogue
from benchmarks.batch_size_workloads import Workload
from volgrad.learning.batching.loader import Loader

ROWS_A_STACK, MOST_STEPS, LEAST_STEPS = 65_536, 1024, 4
NEVER = float("inf")
WINDOW = 1.1  # over which looks are smoothed, as a factor of steps to either side


def crossing(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """Steps at which the smoothed metric first is at the target; infinite where it never is.

    >>> round(crossing(np.array([1, 10, 100, 1000]), np.array([4.0, 2.0, 1.0, 0.5]), 1.0))
    100
    """
    smooth = smoothed(steps, values)
    below = np.flatnonzero(smooth <= target)
    if not below.size:
        return NEVER
    place = int(below[0])
    if place == 0:
        return float(steps[0])
    high, low = smooth[place - 1], smooth[place]
    share = 1.0
    if np.isfinite(high) and high > low > 0.0:
        share = (np.log(high) - np.log(target)) / (np.log(high) - np.log(low))
    return float(np.exp((1.0 - share) * np.log(steps[place - 1]) + share * np.log(steps[place])))


def smoothed(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The median of all looks within a tenth of each one's steps; what is no number is infinite."""
    found = np.nan_to_num(np.asarray(values, float), nan=NEVER, posinf=NEVER)
    first = np.searchsorted(steps, steps / WINDOW, "left")
    stop = np.searchsorted(steps, steps * WINDOW, "right")
    return np.array([np.median(found[low:high]) for low, high in zip(first, stop, strict=True)])


def looks(first: int, ratio: float, most: int) -> list[int]:
    """Steps at which the metric is looked at: from `first` on by `ratio`, to `most`.

    >>> looks(4, 1.5, 20)
    [4, 6, 9, 14, 20]
    """
    found = [max(1, min(first, most))]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(found[-1] * ratio))))
    return found


def fit_steps(sizes: np.ndarray, steps: np.ndarray) -> tuple[float, float]:
    """`S_min` and `B_c` of `S = S_min (1 + B_c / B)` by least squares in logarithms (McCandlish et al. 2018, eq. 2.7).

    >>> b = np.array([1.0, 4.0, 16.0, 64.0, 256.0])
    >>> [round(one, 3) for one in fit_steps(b, 100.0 * (1.0 + 30.0 / b))]
    [100.0, 30.0]
    """
    kept = np.isfinite(steps)
    b, wanted = np.asarray(sizes, float)[kept], np.log(steps[kept])
    if b.size < 2:
        return NEVER, NEVER

    def at(grid: np.ndarray) -> tuple[float, float]:
        shape = np.log1p(grid[:, None] / b[None, :])
        level = (wanted[None, :] - shape).mean(axis=1)
        error = ((wanted[None, :] - shape - level[:, None]) ** 2).sum(axis=1)
        best = int(np.argmin(error))
        return float(np.exp(level[best])), float(grid[best])

    low, high, found = 1e-3 * b.min(), 1e4 * b.max(), (NEVER, NEVER)
    for _ in range(6):
        found = at(np.geomspace(low, high, 201))
        span = (high / low) ** (1.0 / 100.0)
        low, high = found[1] / span, found[1] * span
    return found


class Lane(NamedTuple):
    """One run: its learning rate and its seed."""

    rate: float
    seed: int


class Curve(NamedTuple):
    """What was seen of a run.

    steps: looks.
    values: the metric at each.
    ended: steps after which it was stopped.
    """

    steps: np.ndarray
    values: np.ndarray
    ended: int

    def crossings(self, targets: tuple[float, float]) -> list[float]:
        """Steps to each target."""
        return [crossing(self.steps, self.values, target) for target in targets]


class Runner:
    """Runs lanes of one size together: all rates of a seed see the same batches.

    Attributes:
        spent: seconds of the processor that the last run took, compilation apart; whoever runs it notes it.
    """

    def __init__(self, workload: Workload, clusters: int) -> None:
        """Compile nothing yet."""
        import jax

        self.workload, self.clusters = workload, clusters
        self.optimizer = workload.optimizer_at(clusters)
        self.rule_rate = float(self.optimizer.hyper.learning_rate)
        rows = clusters * workload.rows
        self.stack_steps = int(np.clip(ROWS_A_STACK // rows, LEAST_STEPS, MOST_STEPS))
        self.spent = 0.0
        self._program = jax.jit(self._many, donate_argnums=0)
        self._check = jax.jit(jax.vmap(self._look, (0, None)))

    def _many(self, states: Any, task: Any, stacks: Any, first: Any, count: Any) -> Any:
        """`count` steps of every lane on the batches from `first` on."""
        import jax

        from volgrad.learning.batching.loader import batch_of

        def lane(state: Any, parts: Any) -> Any:
            return self.optimizer.step(task, state, batch_of(*parts))[0]

        def step(number: Any, states: Any) -> Any:
            parts = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, 1, False), stacks)
            return jax.vmap(lane)(states, parts)

        return jax.lax.fori_loop(first, first + count, step, states)

    def _look(self, state: Any, task: Any) -> Any:
        workload = self.workload
        return catalogue.metric_of(
            workload, task, self.optimizer.serving(state), state.statistics, state.key, workload.validation
        )

    def begin(self, lanes: list[Lane]) -> Any:
        """States of all lanes, which lead."""
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        from volgrad.learning.training.leaves import strong
        from volgrad.learning.training.loop import begin

        first = {seed: strong(begin(self.workload.task, self.optimizer, jax.random.key(seed))) for _, seed in lanes}

        def one(lane: Lane) -> Any:
            state = first[lane.seed]
            scale = state.optimizer.scale * (lane.rate / self.rule_rate)
            return eqx.tree_at(lambda s: s.optimizer.scale, state, scale.astype(state.optimizer.scale.dtype))

        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one(lane) for lane in lanes))

    def run(self, lanes: list[Lane], steps: list[int], stop: Any, places: int = 0) -> dict[Lane, Curve]:
        """Curves of all lanes.

        Args:
            lanes: rates and seeds.
            steps: looks.
            stop: asked with the curves after every look.
            places: lanes that are computed with at least, the first one again where there are fewer: so that one
                program serves runs of few lanes, too.
        """
        import jax

        padded = [*lanes, *lanes[:1] * (places - len(lanes))]
        task, stacks, held = jax.device_put(self.workload.task), None, -1
        states = self.begin(padded)
        at, taken, seen = 0, [], []
        curves: dict[Lane, Curve] = {}
        with self._loaders(padded) as loaders:
            for look in steps:
                while at < look:
                    if at // self.stack_steps != held:
                        held = at // self.stack_steps
                        stacks = jax.device_put(self._stacks(loaders, padded, held))
                    inside = at - held * self.stack_steps
                    count = min(look - at, self.stack_steps - inside)
                    states = self._program(states, task, stacks, inside, count)
                    at += count
                taken.append(look)
                seen.append(np.asarray(self._check(states, task), float))
                values = np.stack(seen, axis=-1)
                curves = {lane: Curve(np.array(taken), values[place], look) for place, lane in enumerate(lanes)}
                if stop(curves):
                    break
        return curves

    @contextmanager
    def _loaders(self, lanes: list[Lane]) -> Iterator[dict[int, Loader]]:
        workload = self.workload
        found = {
            seed: Loader(workload.image, workload.train, seed, workload.rows_per_cluster, blocks=None)
            for seed in {lane.seed for lane in lanes}
        }
        try:
            yield found
        finally:
            for one in found.values():
                one.close()

    def _stacks(self, loaders: dict[int, Loader], lanes: list[Lane], number: int) -> tuple[np.ndarray, ...]:
        """The `number`-th stack of every lane."""
        start = number * self.stack_steps * self.clusters
        parts = {seed: one.stack(start, self.stack_steps, self.clusters) for seed, one in loaders.items()}
        return tuple(np.stack([parts[lane.seed][leaf] for lane in lanes]) for leaf in range(3))


def rounded(rate: float) -> float:
    """A rate as it is written down."""
    return float(f"{rate:.5g}")
