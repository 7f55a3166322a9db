"""Which batch size gets there first: measured seconds a step, times the steps that the gradient's noise asks for.

Steps to a target are `S(B) = S_min (1 + B_c / B)`, with `B_c` the gradient noise scale in clusters (McCandlish et al.
2018, arXiv 1812.06162, eq. 5 [paper]), so that a size costs `(1 + B_c / B) t(B)` with `t` as measured. Measured steps
have cliffs that no formula knows: the best is looked for among the sizes that were timed. Missing the best by a factor
k costs at most `(k + 1/k - 2) / 4` where `t = a + b B`: a ladder of powers of two loses at most 3 %.

>>> ladder = [Timed(size, size, 1e-4 + 1e-6 * size, 0.0, 0) for size in (16, 64, 256, 1024)]
>>> choice = choose(ladder, 640.0, Work(samples=100_000, reference=64))
>>> ladder[choice.place].clusters, [round(seconds, 3) for seconds in choice.predicted_s]
(256, [0.676, 0.256, 0.177, 0.259])
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from volgrad.errors import InputError, UnknownOptionError

__all__ = ["OBJECTIVES", "Bounds", "Choice", "Objective", "Timed", "Work", "choose", "most_samples", "predicted"]

#: What a size is chosen for.
Objective = Literal["time", "samples", "memory"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

_MORE_SAMPLES = 1.1  # of the fewest that any size needs: what "samples" allows for the sake of time (assumption)
_MORE_TIME = 1.25  # of the shortest time: what "memory" allows for the sake of memory (assumption)
_TIE = 0.02  # of the predicted time, below which the smaller size is taken: the error of a timing (assumption)


class Timed(NamedTuple):
    """One rung of the ladder.

    clusters: a batch.
    rows: a batch, on average.
    step_s_median, step_s_iqr: seconds a step, median and interquartile range; NaN where it does not fit.
    bytes: of memory that the compiled step needs, its arguments included; 0 where the compiler does not say.
    fits: False where memory did not suffice.
    measured: False where the time is drawn on from the smaller sizes, as the trial would have taken too long.
    """

    clusters: int
    rows: int
    step_s_median: float
    step_s_iqr: float
    bytes: int
    fits: bool = True
    measured: bool = True


class Work(NamedTuple):
    """What there is to do: as much progress as `samples` clusters bring in batches of `reference` clusters."""

    samples: int
    reference: int

    def least_steps(self, noise: float) -> float:
        """Steps that the same progress takes without noise: `S_min`."""
        return self.samples / self.reference / (1.0 + noise / self.reference)


class Bounds(NamedTuple):
    """Clusters a batch that a user allows."""

    least: int = 1
    most: int | None = None

    def hold(self, clusters: int) -> bool:
        """Whether a size is allowed."""
        return self.least <= clusters and (self.most is None or clusters <= self.most)


class Choice(NamedTuple):
    """A size, and what every other would cost.

    place: of the chosen rung in the ladder.
    predicted_s: seconds to the same progress, of each rung; infinite where it does not fit. Shape: (rungs,).
    samples: clusters that each rung needs for it. Shape: (rungs,).
    """

    place: int
    predicted_s: tuple[float, ...]
    samples: tuple[float, ...]


def predicted(ladder: Sequence[Timed], noise: float, work: Work) -> list[float]:
    """Seconds to the same progress by every rung; `noise` in clusters."""
    least = work.least_steps(noise)
    return [least * (1.0 + noise / rung.clusters) * rung.step_s_median if rung.fits else math.inf for rung in ladder]


def most_samples(noise: float) -> float:
    """The largest batch, in clusters, that needs at most a tenth more samples than the smallest: `.1 B_c`.

    Samples are `E(B) = E_min (1 + B / B_c)` (McCandlish et al. 2018, eq. 5 [paper]).
    """
    return (_MORE_SAMPLES - 1.0) * noise


def choose(
    ladder: Sequence[Timed],
    noise: float,
    work: Work,
    objective: Objective = "time",
    bounds: Bounds = Bounds(),  # noqa: B008 - a tuple
) -> Choice:
    """The rung of the ladder that serves the objective best.

    "time": least predicted seconds. "samples": the fastest of those up to a tenth of the noise scale, which need at
    most a tenth more samples than the least possible. "memory": the least memory of those that take at most a quarter
    longer than the fastest.

    Args:
        ladder: by ascending size.
        noise: gradient noise scale in clusters; 0 or more, finite.
        work: what there is to do.
        objective: what counts.
        bounds: sizes that are allowed.

    Raises:
        UnknownOptionError: no such objective.
        InputError: no rung fits, or none is allowed.
    """
    if objective not in OBJECTIVES:
        raise UnknownOptionError.of("objective", objective, OBJECTIVES)
    seconds = predicted(ladder, noise, work)
    fitting = [place for place, rung in enumerate(ladder) if rung.fits]
    if not fitting:
        raise InputError("no batch size fits into memory, not even the smallest: use a smaller model, or fewer rows")
    allowed = [place for place in fitting if bounds.hold(ladder[place].clusters)]
    if not allowed:
        sizes = f"{ladder[fitting[0]].clusters:,} to {ladder[fitting[-1]].clusters:,}"
        most = "any" if bounds.most is None else f"{bounds.most:,}"
        raise InputError(f"no batch of {bounds.least:,} to {most} clusters: there are {sizes}; widen it")
    if objective == "samples":
        few = [place for place in allowed if ladder[place].clusters <= most_samples(noise)]
        place = _fastest(few or allowed[:1], seconds)
    else:
        place = _fastest(allowed, seconds)
        if objective == "memory":
            near = [other for other in allowed if seconds[other] <= _MORE_TIME * seconds[place]]
            place = min(near, key=lambda other: (ladder[other].bytes, ladder[other].clusters))
    least = work.least_steps(noise)
    return Choice(place, tuple(seconds), tuple(least * (rung.clusters + noise) for rung in ladder))


def _fastest(places: Sequence[int], seconds: Sequence[float]) -> int:
    """The least time, and of times that are alike the smallest size."""
    best = min(seconds[place] for place in places)
    return next(place for place in places if seconds[place] <= (1.0 + _TIE) * best)
