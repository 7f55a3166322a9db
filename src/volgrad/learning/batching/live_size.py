"""How many quotes of a live stream to process at once: the smallest size that keeps the promised latency.

A larger size carries more quotes a second; a smaller one is done sooner while it keeps up. So the smallest is chosen
that is predicted to keep the objective at the rate seen (`live_queue`), with what waits now done in time too.

Pure: the clock is an argument and the state a tuple. `init`, then `update` each time the processor is free; `explain`
says in words what was chosen and why.

>>> from volgrad.learning.batching.live_queue import ladder
>>> times = ladder([1, 16, 256], [0.001, 0.002, 0.008])
>>> state = init(times, objective_seconds=0.05)
>>> state, size = update(state, arrivals=1, now_seconds=0.2, backlog=1)
>>> size
1
>>> state, size = update(state, arrivals=400, now_seconds=0.204, backlog=400)
>>> size
256
"""

import math
from typing import NamedTuple

from volgrad.errors import InputError
from volgrad.learning.batching.live_queue import MARGIN, Choice, Ladder, Outcome, choose, predicted_latency, stability

__all__ = ["LiveSize", "explain", "init", "update"]

_FAST, _SLOW, _HOLD = 2.0, 20.0, 10.0  # of the objective: memories of the rate, and how long before a way down
_DOWN = 1.25  # a smaller size must carry this many times the rate before it is gone down to (assumption)
_GRID = 1.05  # rates and dispersions are rounded up to its powers: a choice is made once for each


class LiveSize(NamedTuple):
    """The policy's state: what it was given, what it has seen, and what it does.

    ladder, objective_seconds, quantile: as given.
    now_seconds: of the last observation; NaN before the first.
    fast, slow: quotes a second, of short and of long memory.
    spread: squared surprise of the counts and their expectation, of long memory.
    choice: in force.
    calm_since_seconds: since when a smaller size would have done; NaN where it would not.
    calm_size: the largest size asked for since then.
    changes: how often the size changed.
    reason: of the last change.
    """

    ladder: Ladder
    objective_seconds: float
    quantile: float
    now_seconds: float
    fast: float
    slow: float
    spread: tuple[float, float]
    choice: Choice
    calm_since_seconds: float
    calm_size: int
    changes: int
    reason: str

    @property
    def rate(self) -> float:
        """Quotes a second: the larger of the short and the long memory, so that it rises at once and falls slowly."""
        return max(self.fast, self.slow)

    @property
    def dispersion(self) -> float:
        """Variance over mean of arrivals between looks, at least 1, which is that of a Poisson stream."""
        return max(1.0, self.spread[0] / self.spread[1]) if self.spread[1] > 1.0 else 1.0


def init(times: Ladder, objective_seconds: float, quantile: float = 0.99) -> LiveSize:
    """The state before the first observation; the stream counts as silent until it is heard.

    Args:
        times: what the processor can do.
        objective_seconds: from the arrival of a quote to the end of its step, at `quantile`.
        quantile: of the latency that is promised.

    Raises:
        InputError: an objective that is not positive, or a quantile outside of (0, 1).
    """
    if not 0.0 < objective_seconds < math.inf or not 0.0 < quantile < 1.0:
        raise InputError(
            f"objective of {objective_seconds} s at quantile {quantile}: give positive seconds and a share below 1"
        )
    silent = choose(0.0, times, objective_seconds, quantile)
    return LiveSize(
        times,
        objective_seconds,
        quantile,
        math.nan,
        0.0,
        0.0,
        (0.0, 0.0),
        silent,
        math.nan,
        0,
        0,
        "from the start",
    )


def update(state: LiveSize, arrivals: int, now_seconds: float, backlog: int) -> tuple[LiveSize, int]:
    """Take in what has happened, and say how many quotes to process at most.

    Goes up at once; goes down when a smaller size has sufficed without a break for ten times the objective, and then to
    the largest that was asked for meanwhile.

    Args:
        state: as of the last call.
        arrivals: quotes that came since the last call.
        now_seconds: of any clock that runs forward; time that runs back counts as no time.
        backlog: quotes that wait now.

    Raises:
        InputError: counts that are negative, or a time that is not finite.
    """
    if arrivals < 0 or backlog < 0 or not math.isfinite(now_seconds):
        raise InputError(
            f"{arrivals} arrivals and a backlog of {backlog} at {now_seconds} s: give counts from 0 on and a "
            "finite time"
        )
    state = _seen(state, arrivals, now_seconds)
    rate, dispersion = _rounded(state.rate), _rounded(state.dispersion)
    asked = (state.ladder, state.objective_seconds, state.quantile, dispersion)
    wanted, easier = choose(rate, *asked), choose(_rounded(_DOWN * rate), *asked)
    cleared, in_time = _clearing(state, backlog)
    if max(wanted.size, cleared) > state.choice.size:
        why = "quotes came" if wanted.size >= cleared else f"{backlog} quotes were waiting and more came"
        state = _changed(state, max(wanted.size, cleared), f"up from {{}} because {why} at {state.rate:,.0f} a second")
    else:
        held = predicted_latency(rate, state.choice.size, state.ladder, state.quantile, dispersion)
        # a size that breaks its promise is not held on to
        at_once = held > state.objective_seconds and in_time and easier.outcome is Outcome.MEETS
        state = _calmed(state, max(cleared, easier.size), at_once)
    latency = predicted_latency(rate, state.choice.size, state.ladder, state.quantile, dispersion)
    outcome = Outcome.MEETS if latency <= state.objective_seconds and in_time else Outcome.LATE
    if wanted.outcome is Outcome.UNSTABLE:
        outcome = Outcome.UNSTABLE
    state = state._replace(choice=Choice(state.choice.size, outcome, latency))
    return state, state.choice.size


def explain(state: LiveSize) -> str:
    """What is done, at what rate, what it promises, and why.

    >>> from volgrad.learning.batching.live_queue import ladder
    >>> for part in explain(init(ladder([1, 16], [0.001, 0.002]), objective_seconds=0.02)).split(". "):
    ...     print(part)
    1 quote at once (from the start)
    At 0 quotes/s, in bursts of 1, 99 % are predicted to be done within 1 ms; objective: 20 ms.
    """
    size, outcome, latency = state.choice
    head = f"{size} quote{'s' * (size != 1)} at once ({state.reason})."
    seen = f"At {state.rate:,.0f} quotes/s, in bursts of {state.dispersion:.0f},"
    share, objective = f"{100.0 * state.quantile:g} %", f"objective: {1e3 * state.objective_seconds:g} ms"
    if outcome is Outcome.UNSTABLE:
        most = stability(state.rate, state.ladder).most_per_second
        return (
            f"{head} {seen} no size keeps up: shed load or conflate quotes; the largest throughput is {most:,.0f} "
            f"quotes/s, of which {100.0 * MARGIN:.0f} % are kept free."
        )
    promise = f"{share} are predicted to be done within {1e3 * latency:.3g} ms; {objective}"
    if outcome is Outcome.LATE:
        more = latency <= state.objective_seconds
        promise += " (what waits now is past it)" if more else ", which is not kept: allow more time or shed load"
    return f"{head} {seen} {promise}."


def _seen(state: LiveSize, arrivals: int, now: float) -> LiveSize:
    """The state with its memories moved on."""
    elapsed = 0.0 if math.isnan(state.now_seconds) else max(now - state.now_seconds, 0.0)
    quick, steady = _FAST * state.objective_seconds, _SLOW * state.objective_seconds
    fast, linger = _faded(state.fast, arrivals, elapsed, quick), math.exp(-elapsed / steady)
    expected = elapsed * fast  # this look included, so that the first after a long silence is no surprise
    # A ratio of sums: looks that an arrival ends may be short, and a mean of ratios would have no end. Half of the
    # scale is what came, so that the first look at a burst counts as its size rather than as any number.
    spread = (
        linger * state.spread[0] + (arrivals - expected) ** 2,
        linger * state.spread[1] + 0.5 * (expected + arrivals),
    )
    return state._replace(
        now_seconds=now if math.isnan(state.now_seconds) else max(now, state.now_seconds),
        fast=fast,
        slow=_faded(state.slow, arrivals, elapsed, steady),
        spread=spread,
    )


def _faded(rate: float, arrivals: int, elapsed: float, memory: float) -> float:
    """A rate of exponential memory, after arrivals spread evenly over the time elapsed."""
    span = elapsed / memory
    share = -math.expm1(-span) / span if span > 0.0 else 1.0
    return math.exp(-span) * rate + arrivals * share / memory


def _clearing(state: LiveSize, backlog: int) -> tuple[int, bool]:
    """The smallest size that is done with the backlog in time, and True; else the one done first, and False."""
    used = state.ladder.seconds[state.ladder.sizes.index(state.choice.size)]  # that the oldest may have waited
    done = [
        (math.ceil(backlog / size) * seconds, size)
        for size, seconds in zip(state.ladder.sizes, state.ladder.seconds, strict=True)
    ]
    in_time = [size for seconds, size in done if seconds + used <= state.objective_seconds]
    return (in_time[0], True) if in_time else (min(done)[1], False)


def _calmed(state: LiveSize, enough: int, at_once: bool) -> LiveSize:
    """The state after a look at which the size `enough` would have done."""
    if enough >= state.choice.size:
        return state._replace(calm_since_seconds=math.nan, calm_size=0)
    since = state.now_seconds if math.isnan(state.calm_since_seconds) else state.calm_since_seconds
    calm, held = max(state.calm_size, enough), state.now_seconds - since
    if at_once or held >= _HOLD * state.objective_seconds:
        return _changed(state, calm, f"down from {{}} because {calm} has sufficed for {held:.3g} s")
    return state._replace(calm_since_seconds=since, calm_size=calm)


def _changed(state: LiveSize, size: int, reason: str) -> LiveSize:
    return state._replace(
        choice=state.choice._replace(size=size),
        calm_since_seconds=math.nan,
        calm_size=0,
        changes=state.changes + 1,
        reason=reason.format(state.choice.size),
    )


def _rounded(value: float) -> float:
    """Up to a power of the grid's step; 0 stays."""
    return _GRID ** math.ceil(math.log(value, _GRID) - 1e-9) if value > 0.0 else 0.0
