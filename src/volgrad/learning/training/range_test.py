"""The learning-rate range test (Smith 2017): raise the rate step by step, watch the loss, leave no trace."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, PyTree

from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.first_order import FirstOrder
from volgrad.learning.training.schedules import Schedule
from volgrad.learning.training.state import State
from volgrad.learning.training.task import Task

__all__ = ["RangeTest", "judge", "range_test"]

_SMOOTHING = 0.9  # of the moving average: ten steps (assumption; fastai uses 0.98 on longer tests)
_LAG = 9  # steps by which that average trails a line: smoothing / (1 - smoothing)
_LEAST_POINTS = 20  # fewer finite ones say nothing of a slope (assumption)
_LOST = 0.1  # share of the gain that must be lost again for a rate to count as unstable (assumption)
_SIGNIFICANT = 4.0  # standard deviations of the smoothed loss's noise that a gain must have (assumption)
_MARGIN = 0.5  # of the largest stable rate that no suggestion passes (assumption)


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What a range test found. No number in it is NaN: what is not known is None, and `why` says so.

    Attributes:
        rates: learning rates tried, ascending, up to the last with a finite loss. Shape: (points,).
        losses: mean loss of each one's batch, before the step. Shape: (points,).
        smoothed: moving average of `losses`, debiased. Shape: (points,).
        steepest: rate where the smoothed loss falls fastest, in the logarithm of the rate.
        tenth: a tenth of the rate of the least smoothed loss, another customary choice.
        largest_stable: rate beyond which the loss rises for good; None where it never did.
        suggestion: `steepest`, but at most half of `largest_stable`.
        significant: whether the loss fell by more than its noise; there is no suggestion otherwise.
        why: what was found, or why there is no suggestion and what to do, in words.
    """

    rates: Float64[np.ndarray, " points"]
    losses: Float64[np.ndarray, " points"]
    smoothed: Float64[np.ndarray, " points"]
    steepest: float | None
    tenth: float | None
    largest_stable: float | None
    suggestion: float | None
    significant: bool
    why: str


def range_test(
    task: Task,
    optimizer: FirstOrder,
    state: State,
    stack: PyTree,
    batch_of: Callable[[PyTree], Batch],
    lowest: float = 1e-6,
    highest: float = 10.0,
    unit: float = 1.0,
) -> RangeTest:
    """Raise the learning rate geometrically from `lowest` to `highest`, a step each, on a copy of `state`.

    `state` is not touched: it is neither donated nor returned. The schedule is left out; moments are those of `state`.

    Args:
        task: what is learned.
        optimizer: how; its own learning rate is replaced.
        state: where to start.
        stack: batches; the first axis of every leaf is the step.
        batch_of: makes the batch of a step of its slice of `stack` (inside the compiled program).
        lowest: rate of the first step.
        highest: rate of the last step.
        unit: rate of a step over the one that is told, where a rule of the batch size lies between them.

    Raises:
        InputError: rates out of order, or too few steps.
    """
    steps = int(jax.tree.leaves(stack)[0].shape[0])
    if not 0.0 < lowest < highest < math.inf:
        raise InputError(f"learning rates from {lowest} to {highest}: they must be positive, finite and ascending")
    if steps < _LEAST_POINTS:
        raise InputError(f"a range test of {steps} steps: it needs at least {_LEAST_POINTS}")
    bare = dataclasses.replace(
        optimizer, hyper=optimizer.hyper._replace(learning_rate=unit), schedule=Schedule(), averaging=None
    )
    rates = np.geomspace(lowest, highest, steps)
    losses, accepted = _sweep(task, bare, state, stack, batch_of, rates)
    return judge(rates, np.where(accepted, losses, np.nan))


def _sweep(
    task: Task, optimizer: FirstOrder, state: State, stack: PyTree, batch_of: Callable, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss before each step, and whether it could be taken."""

    @jax.jit
    def sweep(state: State, stack: PyTree, rates: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(state: State, point: tuple[PyTree, jax.Array]) -> tuple[State, tuple[jax.Array, jax.Array]]:
            descent = state.optimizer._replace(scale=point[1].astype(state.optimizer.scale.dtype))
            at = State(state.variables, state.statistics, descent, state.key, state.samples)
            moved, info = optimizer.step(task, at, batch_of(point[0]))
            return moved, (info.loss, info.accepted)

        begun = state.optimizer
        if not optimizer.schedule_free:
            begun = begun._replace(average=None)
        start = State(state.variables, state.statistics, begun, state.key, state.samples)
        return jax.lax.scan(one, start, (stack, rates))[1]

    losses, accepted = jax.device_get(sweep(state, stack, jnp.asarray(rates, jnp.float32)))
    return np.asarray(losses, float), np.asarray(accepted, bool)


def judge(rates: Float64[np.ndarray, " steps"], losses: Float64[np.ndarray, " steps"]) -> RangeTest:
    """What a curve of losses over ascending learning rates says; all from the first that is not finite on is cut.

    >>> rates = np.geomspace(1e-4, 1.0, 50)
    >>> judge(rates, np.where(rates < 0.1, 1.0 / (1.0 + 30.0 * rates), np.nan)).significant
    True
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    kept = int(broken[0]) if broken.size else losses.size
    rates, losses = rates[:kept], losses[:kept]
    smoothed = _smooth(losses)
    if kept < _LEAST_POINTS:
        why = (
            f"the loss was finite at {kept} learning rates only, fewer than {_LEAST_POINTS}: start lower, raise it "
            "over more steps, or look for extreme values in the data"
        )
        return RangeTest(rates, losses, smoothed, None, None, None, None, False, why)
    least = int(np.argmin(smoothed))
    gain = float(smoothed[0] - smoothed[least])
    stable = _largest_stable(rates, losses, smoothed, least, gain, cut=bool(broken.size))
    spread = float(_SIGNIFICANT * _noise(losses, smoothed))
    if not gain > spread or least < 2:
        why = (
            f"the loss fell by {gain:.3g}, within its noise of {spread:.3g}: use larger batches or more steps, start "
            "lower, or end higher"
        )
        return RangeTest(rates, losses, smoothed, None, None, stable, None, False, why)
    # in the logarithm where there is one: the last tenth of a loss is worth as much as the first
    steepest = _steepest(rates, np.log(losses) if losses.min() > 0.0 else losses, least)
    suggestion = steepest if stable is None else min(steepest, _MARGIN * stable)
    limit = (
        f"it rises for good beyond {stable:.3g}"
        if stable is not None
        else f"it did not run away up to {rates[-1]:.3g}: a higher end would show the limit"
    )
    why = f"the loss fell by {gain:.3g}, fastest at a learning rate of {steepest:.3g}; {limit}"
    return RangeTest(rates, losses, smoothed, steepest, float(rates[least] / 10.0), stable, suggestion, True, why)


def _smooth(losses: np.ndarray) -> np.ndarray:
    """Exponential moving average, debiased."""
    found, total, weight = np.empty_like(losses), 0.0, 0.0
    for index, loss in enumerate(losses):
        total = _SMOOTHING * total + (1.0 - _SMOOTHING) * loss
        weight = _SMOOTHING * weight + (1.0 - _SMOOTHING)
        found[index] = total / weight
    return found


def _steepest(rates: np.ndarray, losses: np.ndarray, least: int) -> float:
    """Rate of the steepest fall before the least: of straight lines through a decade of rates each.

    Shorter ones find noise: through ten steps of a test of 400 the steepest lay three decades too low (measured). So
    does the bare slope where early batches differ much: compared is the slope plus two of its standard errors (two of
    six tests of batches of 32 rows lay two decades too low without, none with [measured]).
    """
    level = np.log10(rates)
    width = max(_LEAST_POINTS // 2, int(np.searchsorted(level, level[0] + 1.0)))
    if least + 1 <= width:
        return float(rates[least // 2])
    slopes = []
    for first in range(least + 2 - width):
        x = level[first : first + width] - level[first : first + width].mean()
        y = losses[first : first + width] - losses[first : first + width].mean()
        slope = float(x @ y / (x @ x))
        error = math.sqrt(float(np.square(y - slope * x).sum()) / (width - 2) / float(x @ x))
        slopes.append(slope + 2.0 * error)
    return float(rates[int(np.argmin(slopes)) + width // 2])


def _noise(losses: np.ndarray, smoothed: np.ndarray) -> float:
    """Standard deviation of the smoothed loss: from differences of neighbours, which a trend hardly moves."""
    least = max(int(np.argmin(smoothed)), 3)
    differences = np.diff(losses[: least + 1])
    single = 1.4826 * float(np.median(np.abs(differences - np.median(differences)))) / math.sqrt(2.0)
    return single * math.sqrt((1.0 - _SMOOTHING) / (1.0 + _SMOOTHING))


def _largest_stable(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, least: int, gain: float, cut: bool
) -> float | None:
    """The last rate before the loss leaves the band above its least for good; None where it never does."""
    band = smoothed[least] + _LOST * max(gain, 0.0) + 2.0 * _SIGNIFICANT * _noise(losses, smoothed)
    # the median of neighbours: one lucky batch far out does not count
    wide = np.pad(losses, _LAG // 2, mode="edge")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(wide, 2 * (_LAG // 2) + 1), axis=1)
    inside = np.flatnonzero(usual <= band)
    last = int(inside[-1]) if inside.size else 0
    # a step at the last rate is judged by the loss after it, the next point
    gone = last < losses.size - 3 or cut
    return float(rates[last]) if gone else None
