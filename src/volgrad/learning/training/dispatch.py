"""What is computed at a time: how a run is divided into dispatches, and the compiled program of one.

A dispatch is many steps in one call: `scan` over a stack of batches, the state donated. Where dispatches begin and end
follows from the position in the order of samples and from the sizes asked for, never from the clock: so a run that was
killed and resumed makes the same calls as one that was not.

>>> plan = Plan([Rung(0, 32), Rung(100_000, 256)], total=200_000, rows=1)
>>> plan.next(0), plan.next(99_000).steps, plan.next(100_000).clusters, plan.next(200_000)
(Dispatch(start=0, steps=1024, clusters=32), 32, 256, None)
"""

import bisect
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, PyTree

from volgrad.errors import InputError
from volgrad.learning.batching.loader import batch_of
from volgrad.learning.training.state import Info, Optimizer, State, mean_loss
from volgrad.learning.training.task import Task

__all__ = ["Dispatch", "Plan", "Rung", "evaluate_program", "train_program"]

# Rows a dispatch: enough that the call itself (.1 ms) is nothing beside the steps, few enough that a stack stays in the
# cache and the guard looks often (measured on 2 cores: 4x64 network, 20 to 60 ms a dispatch).
_ROWS_A_DISPATCH = 65_536
_MOST_STEPS, _LEAST_STEPS = 1024, 4

Values = Float32[Array | np.ndarray, "steps clusters rows features"]
Counts = Int32[Array | np.ndarray, "steps clusters"]
Weights = Float32[Array | np.ndarray, "steps clusters"]


class Rung(NamedTuple):
    """A batch size and the position from which it is used.

    start: samples seen when it begins.
    clusters: a batch.
    noise: the gradient noise scale in clusters, beyond which the learning rate rises no more; None: the recipe's.
    """

    start: int
    clusters: int
    noise: float | None = None


class Dispatch(NamedTuple):
    """One call: `steps` batches of `clusters` each, from position `start` of the order on."""

    start: int
    steps: int
    clusters: int

    @property
    def stop(self) -> int:
        """Position after it."""
        return self.start + self.steps * self.clusters


class Plan:
    """Which dispatches a run consists of, as a function of the position alone.

    Attributes:
        rungs: batch sizes by the position from which they are used.
        total: samples of the whole run; the last step may go a part of a batch beyond.
        rows: places for rows in a cluster.
        longest: samples of a dispatch at most (a step is taken whole); None: as many as suit the machine.
    """

    def __init__(self, rungs: Sequence[Rung], total: int, rows: int, longest: int | None = None) -> None:
        """Check and keep.

        Raises:
            InputError: sizes below one, or rungs whose positions do not ascend from 0.
        """
        starts = [rung.start for rung in rungs]
        if not rungs or starts[0] != 0 or starts != sorted(set(starts)):
            raise InputError(f"batch sizes begin at {starts} samples: the first must begin at 0, the others ascend")
        if small := [rung.clusters for rung in rungs if rung.clusters < 1]:
            raise InputError(f"a batch of {small[0]} clusters: must be 1 or more")
        self.rungs, self.total, self.rows, self.longest = list(rungs), total, rows, longest

    def steps(self, clusters: int) -> int:
        """Steps of a whole dispatch with batches of this size."""
        usual = int(np.clip(_ROWS_A_DISPATCH // (clusters * self.rows), _LEAST_STEPS, _MOST_STEPS))
        return usual if self.longest is None else max(1, min(usual, self.longest // clusters))

    def next(self, position: int) -> Dispatch | None:
        """The dispatch that begins at `position`; None at the end."""
        if position >= self.total:
            return None
        place = self._place(position)
        clusters = self.rungs[place].clusters
        end = self._end(place)
        return Dispatch(position, min(self.steps(clusters), -(-(end - position) // clusters)), clusters)

    def rung(self, position: int) -> Rung:
        """The batch size that is used from `position` on."""
        return self.rungs[self._place(position)]

    def change(self, rung: Rung) -> None:
        """Use another batch size from its start on; what was planned for later is dropped.

        >>> plan = Plan([Rung(0, 32)], total=10_000, rows=1)
        >>> plan.change(Rung(6_400, 64))
        >>> plan.rung(6_399).clusters, plan.next(6_400)
        (32, Dispatch(start=6400, steps=57, clusters=64))
        """
        self.rungs = [before for before in self.rungs if before.start < rung.start] + [rung]

    def ladder(self) -> list[tuple[int, int]]:
        """Every (steps, clusters) that will be asked for, walked by the rules of `next`."""
        found: dict[tuple[int, int], None] = {}
        position = 0
        for place, rung in enumerate(self.rungs):
            left = -(-max(self._end(place) - position, 0) // rung.clusters)
            whole = self.steps(rung.clusters)
            for steps in (whole if left >= whole else 0, left % whole):
                if steps:
                    found[steps, rung.clusters] = None
            position += left * rung.clusters
        return list(found)

    def _place(self, position: int) -> int:
        return bisect.bisect_right([rung.start for rung in self.rungs], position) - 1

    def _end(self, place: int) -> int:
        """Where a rung ends, were batches of any size."""
        return min(self.rungs[place + 1].start, self.total) if place + 1 < len(self.rungs) else self.total


def train_program(task: Task, optimizer: Optimizer, state: State, shape: tuple[int, int, int, int]) -> Any:
    """The compiled dispatch `(state, task, values, count, weight) -> (state, infos)`; the state is donated.

    Args:
        task, optimizer: what is learned, and how.
        state: of a run; only shapes are used.
        shape: (steps, clusters, rows, features) of a stack.
    """

    def many(state: State, task: Task, values: Values, count: Counts, weight: Weights) -> tuple[State, Info]:
        def one(state: State, part: tuple[Array, Array, Array]) -> tuple[State, Info]:
            return optimizer.step(task, state, batch_of(*part))

        return jax.lax.scan(one, state, (jnp.asarray(values), jnp.asarray(count), jnp.asarray(weight)))

    return jax.jit(many, donate_argnums=0).lower(_shapes(state), _shapes(task), *_stack_shapes(shape)).compile()


def evaluate_program(task: Task, state: State, shape: tuple[int, int, int]) -> Any:
    """The compiled `(variables, statistics, key, task, values, count, weight) -> metrics` of one batch.

    `loss` is among them: the task's own metric of that name, else its loss.

    Args:
        task: what is learned.
        state: of a run, with the variables that serve; only shapes are used.
        shape: (clusters, rows, features) of the batch.
    """

    def metrics(
        variables: PyTree, statistics: PyTree, key: Array, task: Task, values: Array, count: Array, weight: Array
    ) -> dict[str, Array]:
        batch = batch_of(values, count, weight)
        found = {name: jnp.asarray(value) for name, value in task.evaluate(variables, statistics, batch).items()}
        if "loss" not in found:
            found["loss"] = mean_loss(task.loss(variables, statistics, batch, key)[0], batch)
        return found

    like = (_shapes(part) for part in (state.variables, state.statistics, state.key, task))
    stack = (jax.ShapeDtypeStruct(one.shape[1:], one.dtype) for one in _stack_shapes((1, *shape)))
    return jax.jit(metrics).lower(*like, *stack).compile()


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _stack_shapes(shape: tuple[int, int, int, int]) -> tuple[Any, Any, Any]:
    return (
        jax.ShapeDtypeStruct(shape, np.dtype(np.float32)),
        jax.ShapeDtypeStruct(shape[:2], np.dtype(np.int32)),
        jax.ShapeDtypeStruct(shape[:2], np.dtype(np.float32)),
    )
