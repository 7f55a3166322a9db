"""A queue that is served in batches: which sizes keep up with a stream of quotes, and how late the last ones are.

A processor that is free takes what waits, at most `size` quotes, in a program of fixed shape that takes `t(size)`
seconds however full it is (Bailey 1954, J. R. Stat. Soc. B 16; Neuts 1967, Ann. Math. Stat. 38, his general rule with
a least batch of one) [paper]. Waiting for a full batch would carry no more quotes a second, for both rules give out at
`rate * t(size) / size = 1`, and would keep the first quote of a batch `(size - 1) / rate` seconds longer.
"""

import enum
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from volgrad.errors import InputError

__all__ = ["MARGIN", "Choice", "Ladder", "Outcome", "Stability", "choose", "ladder", "predicted_latency", "stability"]

#: Share of a size's throughput that is left for what the estimate of the rate misses (assumption).
MARGIN = 0.1


class Outcome(enum.StrEnum):
    """What the size chosen can do.

    MEETS: it keeps the objective. LATE: it keeps up, but no size keeps the objective. UNSTABLE: no size keeps up.
    """

    MEETS = "meets"
    LATE = "late"
    UNSTABLE = "unstable"


class Ladder(NamedTuple):
    """Seconds a step by size, both ascending. Make one with `ladder`."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]


class Stability(NamedTuple):
    """Which sizes keep up.

    load: share of the time that steps take at this rate when all are full, `rate * t(B) / B`. Shape: (sizes,).
    stable: whether load is at most 1 less the margin. Shape: (sizes,).
    most_per_second: largest throughput of any size, quotes a second.
    """

    load: Float64[np.ndarray, " sizes"]
    stable: Bool[np.ndarray, " sizes"]
    most_per_second: float


class Choice(NamedTuple):
    """A size, and what it can do at one rate.

    size: quotes processed at once.
    outcome: see `Outcome`.
    latency_seconds: predicted quantile from arrival to done; infinite where the size does not keep up.
    """

    size: int
    outcome: Outcome
    latency_seconds: float


def ladder(sizes: Sequence[int], seconds: Sequence[float]) -> Ladder:
    """Measured step times, made to rise with the size.

    A size measured faster than a smaller one counts as slow as that one: the difference is noise of the measurement,
    and the slower time is the safe one (assumption).

    Raises:
        InputError: no size, sizes that do not ascend from 1 or more, or times that are not positive.

    >>> ladder([1, 2, 4], [0.001, 0.003, 0.002]).seconds
    (0.001, 0.003, 0.003)
    """
    ascend = all(a < b for a, b in zip([0, *sizes], sizes, strict=False))
    if not sizes or len(sizes) != len(seconds) or not ascend or not all(0.0 < t < math.inf for t in seconds):
        raise InputError(
            f"sizes {list(sizes)} with step times of {list(seconds)} s: give ascending sizes, from 1 on, and one "
            "positive time each"
        )
    risen = np.maximum.accumulate(np.asarray(seconds, np.float64))
    return Ladder(tuple(map(int, sizes)), tuple(map(float, risen)))


def stability(rate: float, times: Ladder, margin: float = MARGIN) -> Stability:
    """Which sizes keep up with `rate` quotes a second: those with `rate * t(B) / B <= 1 - margin`.

    A queue that is served in batches of at most B every t(B) seconds does not grow without bound if and only if fewer
    than B arrive in t(B) on average, whatever the pattern of arrivals (Loynes 1962, Proc. Camb. Phil. Soc. 58) [paper].

    >>> stability(1000.0, ladder([1, 16], [0.001, 0.002])).stable.tolist()
    [False, True]
    """
    sizes, seconds = np.asarray(times.sizes, np.float64), np.asarray(times.seconds)
    load = rate * seconds / sizes
    return Stability(load, load <= 1.0 - margin, float((sizes / seconds).max()))


def predicted_latency(rate: float, size: int, times: Ladder, quantile: float = 0.99, dispersion: float = 1.0) -> float:
    """Quantile of the seconds from a quote's arrival to the end of its step; infinite where the size does not keep up.

    A quote waits for the rest of the step that runs, uniform on (0, t), for one step more for every `size` quotes
    before it, and for its own. Quotes left behind by a step follow `M' = max(M + A - size, 0)`, `A` arriving in a step.
    With `f` the positive root of `E exp(f (A - size)) = 1`, `P(M > x) <= exp(-f x)` (Kingman 1970, J. R. Stat. Soc. B
    32) [paper]; `P(M > 0)` is also at most the sum over n of `P(A_1 + .. + A_n > n size)`, each by Chernoff's bound.
    Their product is taken for `P(M > x)` (assumption). A quote that finds the processor idle waits for nothing: with
    Poisson arrivals and few left behind, the share that finds it busy is `a e^a / (1 + a e^a)`, `a = rate t` (renewal
    of busy periods, derived; assumption for larger loads, where it is near 1 anyway).

    Bursts: quotes that come in clusters of `dispersion` at once have that variance over mean, and divide both exponents
    by it (derived; that real bursts are such clusters is an assumption). It rises with rate and with dispersion.

    Against simulated arrivals, sizes 1 to 256, loads .01 to .95, quantile .99: 0.85 to 1.5 times the simulated for
    Poisson arrivals and 0.8 to 1.55 times for clusters of 4 and 16 (measured).

    >>> times = ladder([16], [0.002])
    >>> [round(1e3 * predicted_latency(rate, 16, times), 1) for rate in (0.1, 1000.0, 7000.0, 9000.0)]
    [2.0, 4.0, 6.7, inf]
    """
    seconds = times.seconds[times.sizes.index(size)]
    arriving = rate * seconds
    if arriving >= size:
        return math.inf
    if arriving <= 0.0:
        return seconds
    late = 1.0 - quantile
    crowd = arriving * math.exp(min(arriving, 700.0))
    busy = 1.0 - (1.0 / (1.0 + crowd)) / dispersion
    if busy <= late:
        return seconds
    surprise = (size * math.log(size / arriving) - size + arriving) / dispersion
    left = min(busy, math.exp(-surprise) / -math.expm1(-surprise)) if surprise > 0.0 else busy
    decay = _decay(size / arriving) * size / dispersion
    # the tail is left * exp(-decay (m - 1)) at 1 + m steps, busy at one step, and a straight line between
    steps = 1 + max(0, math.ceil(math.log(left / late) / decay)) if left > 0.0 else 1
    after = left * math.exp(-decay * (steps - 1))
    before = busy if steps == 1 else left * math.exp(-decay * (steps - 2))
    part = (before - late) / (before - after) if before > after else 1.0
    return seconds * (steps + min(part, 1.0))


def _decay(spare: float) -> float:
    """The positive root of `exp(f) - 1 = spare f`, spare > 1, by Newton's method from the right, where it is safe."""
    spare = min(spare, 1e100)
    root = 2.0 * math.log(spare)  # no smaller than the root, for r - 1 / r >= 2 ln r
    for _ in range(60):
        rise = math.exp(root)
        step = (rise - 1.0 - spare * root) / (rise - spare) if rise > spare else 0.0
        root -= step
        if step <= 1e-12 * root:
            break
    return max(root, 1e-300)


@functools.lru_cache(maxsize=4096)
def choose(
    rate: float,
    times: Ladder,
    objective_seconds: float,
    quantile: float = 0.99,
    dispersion: float = 1.0,
    margin: float = MARGIN,
) -> Choice:
    """The smallest size that keeps up and is predicted to keep the objective; it never falls as the rate rises.

    Where none keeps the objective: the one of least predicted latency that keeps up. Where none keeps up: the one of
    largest throughput.

    >>> times = ladder([1, 16, 256], [0.001, 0.002, 0.008])
    >>> [choose(rate, times, 0.02).size for rate in (10.0, 3000.0, 20000.0)]
    [1, 16, 256]
    >>> choose(1e6, times, 0.02).outcome
    <Outcome.UNSTABLE: 'unstable'>
    """
    stable = stability(rate, times, margin).stable
    found = [
        (predicted_latency(rate, size, times, quantile, dispersion), size)
        for size, sound in zip(times.sizes, stable, strict=True)
        if sound
    ]
    if not found:
        size = _fastest(times)
        return Choice(size, Outcome.UNSTABLE, predicted_latency(rate, size, times, quantile, dispersion))
    for latency, size in found:
        if latency <= objective_seconds:
            return Choice(size, Outcome.MEETS, latency)
    latency, size = min(found)
    return Choice(size, Outcome.LATE, latency)


def _fastest(times: Ladder) -> int:
    """The size of largest throughput, the smallest of them."""
    best = max(size / seconds for size, seconds in zip(times.sizes, times.seconds, strict=True))
    return next(size for size, seconds in zip(times.sizes, times.seconds, strict=True) if size / seconds >= best)
