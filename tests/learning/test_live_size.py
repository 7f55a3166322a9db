"""Live micro-batches: the promise is kept on simulated streams wherever some size keeps it, and laws of the choice."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.learning.batching.live_queue import (
    Choice,
    Ladder,
    Outcome,
    choose,
    ladder,
    predicted_latency,
    stability,
)
from volgrad.learning.batching.live_size import LiveSize, explain, init, update

TIMES = ladder([1, 4, 16, 64, 256, 1024], [0.0010, 0.0011, 0.0015, 0.003, 0.009, 0.033])
OBJECTIVE = 0.03


# ------------------------------------------------------------------------------------------ simulated streams


def poisson(rate: float, seconds: float, random, start: float = 0.0) -> np.ndarray:
    return start + np.sort(random.uniform(0.0, seconds, random.poisson(rate * seconds)))


def on_off(low: float, high: float, quiet: float, loud: float, seconds: float, random) -> np.ndarray:
    """Poisson at `low`, then at `high`, for exponential times of these means."""
    parts, at = [], 0.0
    while at < seconds:
        for rate, mean in ((low, quiet), (high, loud)):
            length = random.exponential(mean)
            parts.append(poisson(rate, length, random, at))
            at += length
    return np.concatenate(parts)


def hawkes(rate: float, branching: float, decay: float, seconds: float, random) -> np.ndarray:
    """Self-exciting arrivals, by their clusters: each has Poisson(branching) children, exponential times later."""
    generation = poisson(rate, seconds, random)
    everyone = [generation]
    while generation.size:
        parents = np.repeat(generation, random.poisson(branching, generation.size))
        generation = parents + random.exponential(1.0 / decay, parents.size)
        generation = generation[generation < seconds]
        everyone.append(generation)
    return np.sort(np.concatenate(everyone))


def ramp(random) -> np.ndarray:
    """Twice the rate every half second, up to 12,800, and down again."""
    rates = [50.0 * 2**k for k in [*range(9), *reversed(range(9))]]
    return np.concatenate([poisson(rate, 0.5, random, 0.5 * k) for k, rate in enumerate(rates)])


def spike(random) -> np.ndarray:
    """Twenty seconds of quiet with a burst of 100,000 quotes a second in them."""
    return np.sort(np.concatenate([poisson(100.0, 20.0, random), poisson(1e5, 0.02, random, 5.0)]))


class Run:
    """A queue under the policy, or under one size: a free processor takes what waits, at most the size."""

    def __init__(self, arrivals: np.ndarray, times: Ladder, objective: float, fixed: int | None = None) -> None:
        cost = dict(zip(times.sizes, times.seconds, strict=True))
        self.state, self.latency = init(times, objective), np.empty(arrivals.size)
        self.sizes, self.at, self.backlog = [], [], []
        now, done, seen = 0.0, 0, 0
        while done < arrivals.size:
            now = max(now, float(arrivals[done]))
            come = int(np.searchsorted(arrivals, now, side="right"))
            size = fixed
            if size is None:
                self.state, size = update(self.state, come - seen, now, come - done)
            self.sizes.append(size)
            self.at.append(now)
            self.backlog.append(come - done)
            seen, taken = come, min(size, come - done)
            now += cost[size]
            self.latency[done : done + taken] = now - arrivals[done : done + taken]
            done += taken

    @property
    def p99(self) -> float:
        return float(np.quantile(self.latency, 0.99))

    def size_at(self, seconds: float) -> int:
        return self.sizes[int(np.searchsorted(self.at, seconds)) - 1]


FAST = ladder([1, 16, 256, 4096], [0.001, 0.0012, 0.0025, 0.02])
STREAMS = {
    "quiet": (lambda r: poisson(10.0, 30.0, r), TIMES, OBJECTIVE),
    "slow": (lambda r: poisson(500.0, 6.0, r), TIMES, OBJECTIVE),
    "busy": (lambda r: poisson(5000.0, 3.0, r), TIMES, OBJECTIVE),
    "near the limit": (lambda r: poisson(24_000.0, 2.0, r), TIMES, OBJECTIVE),
    "on and off": (lambda r: on_off(200.0, 15_000.0, 1.0, 0.3, 5.0, r), TIMES, OBJECTIVE),
    "short bursts": (lambda r: on_off(50.0, 22_000.0, 1.0, 0.1, 6.0, r), TIMES, OBJECTIVE),
    "self-exciting": (lambda r: hawkes(400.0, 0.9, 50.0, 6.0, r), TIMES, OBJECTIVE),
    "strongly so": (lambda r: hawkes(1500.0, 0.8, 200.0, 4.0, r), TIMES, OBJECTIVE),
    "ramp": (ramp, TIMES, OBJECTIVE),
    "spike": (spike, FAST, 0.06),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_objective_is_met_where_any_size_of_the_ladder_meets_it(name):
    make, times, objective = STREAMS[name]
    arrivals = make(np.random.default_rng(7))
    kept_up = [b for b in times.sizes if stability(arrivals.size / arrivals[-1], times).stable[times.sizes.index(b)]]
    fixed = {b: Run(arrivals, times, objective, b).p99 for b in kept_up if b >= kept_up[-1] // 64}
    assert min(fixed.values()) <= objective, "the stream is no test: no size meets the objective"
    found = Run(arrivals, times, objective)
    assert found.p99 <= objective
    assert max(found.backlog) <= 8 * times.sizes[-1]


@pytest.mark.parametrize("size", [1, 4, 16, 64, 256])
@pytest.mark.parametrize("load", [0.05, 0.3, 0.6, 0.85])
def test_the_prediction_is_within_a_factor_of_the_simulated(size, load):
    seconds = TIMES.seconds[TIMES.sizes.index(size)]
    rate = load * size / seconds
    arrivals = poisson(rate, 30_000 / rate, np.random.default_rng(size))
    simulated = Run(arrivals, TIMES, OBJECTIVE, size).p99
    assert 0.85 < predicted_latency(rate, size, TIMES) / simulated < 1.6


@pytest.mark.parametrize("load", [0.2, 0.6])
@pytest.mark.parametrize("burst", [4, 16])
def test_the_prediction_holds_for_clusters_of_arrivals(load, burst):
    rate = load * 16 / 0.0015
    starts = poisson(rate / burst, 40_000 / rate, np.random.default_rng(burst))
    simulated = Run(np.repeat(starts, burst), TIMES, OBJECTIVE, 16).p99
    assert 0.8 < predicted_latency(rate, 16, TIMES, dispersion=burst) / simulated < 1.7
    assert predicted_latency(rate, 16, TIMES) <= predicted_latency(rate, 16, TIMES, dispersion=burst)


def test_a_spike_is_gone_up_for_within_the_objective_and_down_from_afterwards():
    found = Run(spike(np.random.default_rng(7)), FAST, 0.06)
    assert found.size_at(4.99) == 1
    assert found.size_at(5.06) >= 256
    assert found.sizes[-1] == 1
    assert found.state.changes <= 8


def test_rates_that_hover_about_a_threshold_do_not_flap():
    """The threshold of the smallest size: rates of 5 % either side, in turn, every half second."""
    sizes = [(rate, choose(rate, TIMES, OBJECTIVE).size) for rate in np.arange(100.0, 1000.0)]
    edge = next(rate for rate, size in sizes if size > 1)
    random = np.random.default_rng(3)
    arrivals = [poisson(edge * (0.95 + 0.1 * (k % 2)), 0.5, random, 0.5 * k) for k in range(24)]
    found = Run(np.concatenate(arrivals), TIMES, OBJECTIVE)
    assert found.state.changes <= 3


def test_where_no_size_keeps_up_that_is_said_and_the_most_is_carried():
    found = Run(poisson(60_000.0, 0.4, np.random.default_rng(1)), TIMES, OBJECTIVE)
    outcomes, state, at = set(), init(TIMES, OBJECTIVE), 0.0
    for _ in range(40):
        at += 0.033
        state, size = update(state, 2000, at, 10_000)
        outcomes.add(state.choice.outcome)
    assert Outcome.UNSTABLE in outcomes
    assert size == 1024
    assert found.sizes[-1] == 1024
    words = explain(state)
    assert "no size keeps up: shed load or conflate" in words
    assert "31,030 quotes/s" in words


def test_an_objective_that_no_size_can_keep_is_named_late_and_the_quickest_serves():
    state, size = update(init(TIMES, 0.0012), 100, 0.1, 100)
    state, size = update(state, 5, 0.11, 5)
    assert state.choice.outcome is Outcome.LATE
    assert "not kept" in explain(state)
    assert choose(4000.0, TIMES, 0.0012) == min(
        (
            Choice(b, Outcome.LATE, predicted_latency(4000.0, b, TIMES))
            for b, sound in zip(TIMES.sizes, stability(4000.0, TIMES).stable, strict=True)
            if sound
        ),
        key=lambda choice: choice.latency_seconds,
    )
    assert size in TIMES.sizes


# ------------------------------------------------------------------------------------------ laws

rates = st.floats(0.0, 1e6)
ladders = st.lists(st.tuples(st.integers(1, 5000), st.floats(1e-5, 1.0)), min_size=1, max_size=8).map(
    lambda pairs: ladder(sorted({size for size, _ in pairs}), [t for _, t in pairs][: len({s for s, _ in pairs})])
)


@given(times=ladders, low=rates, high=rates, dispersion=st.floats(1.0, 100.0), quantile=st.floats(0.5, 0.999))
def test_latency_rises_with_the_rate_with_bursts_and_with_the_quantile(times, low, high, dispersion, quantile):
    low, high = sorted((low, high))
    for size, seconds in zip(times.sizes, times.seconds, strict=True):
        calm = predicted_latency(low, size, times, quantile)
        assert seconds <= calm <= predicted_latency(high, size, times, quantile) * (1 + 1e-9)
        assert calm <= predicted_latency(low, size, times, quantile, dispersion) * (1 + 1e-9)
        assert calm <= predicted_latency(low, size, times, 0.5 + 0.5 * quantile) * (1 + 1e-9)
        assert math.isinf(calm) == (low * seconds >= size)


@given(times=ladders, low=rates, high=rates, objective=st.floats(1e-4, 10.0), dispersion=st.floats(1.0, 50.0))
def test_the_size_never_falls_as_the_rate_rises_while_the_objective_is_kept(times, low, high, objective, dispersion):
    low, high = sorted((low, high))
    calm, busy = (choose(rate, times, objective, 0.99, dispersion) for rate in (low, high))
    assert list(Outcome).index(calm.outcome) <= list(Outcome).index(busy.outcome)
    if busy.outcome is Outcome.MEETS:
        assert calm.size <= busy.size
    assert (calm.latency_seconds <= objective) == (calm.outcome is Outcome.MEETS)
    more = choose(low, times, objective, 0.99, dispersion + 1.0)
    if more.outcome is Outcome.MEETS:
        assert calm.size <= more.size


@given(times=ladders, rate=rates)
def test_stability_is_the_condition_with_its_margin(times, rate):
    found = stability(rate, times, 0.1)
    for size, seconds, load, stable in zip(times.sizes, times.seconds, found.load, found.stable, strict=True):
        assert load == pytest.approx(rate * seconds / size)
        assert stable == (load <= 0.9)
    assert found.stable.any() == (rate <= 0.9 * found.most_per_second) or rate == pytest.approx(
        0.9 * found.most_per_second
    )


@given(
    looks=st.lists(
        st.tuples(st.integers(0, 5000), st.floats(-0.1, 2.0), st.integers(0, 10**6)), min_size=1, max_size=30
    ),
    times=ladders,
)
def test_any_observations_give_a_size_of_the_ladder_and_words(looks, times):
    state, now = init(times, 0.05), 0.0
    for arrivals, elapsed, backlog in looks:
        now += elapsed
        before = state
        state, size = update(state, arrivals, now, backlog)
        again = update(before, arrivals, now, backlog)
        assert again[1] == size
        assert again[0].choice == state.choice
        assert size in times.sizes
        assert size == state.choice.size
        assert (state.changes > before.changes) == (size != before.choice.size)
        assert math.isfinite(state.rate)
        assert state.dispersion >= 1.0
        assert f"{size} quote" in explain(state)


def test_a_larger_backlog_never_asks_for_a_smaller_size_that_clears_it_in_time():
    state = init(TIMES, OBJECTIVE)
    sizes = [update(state, 0, 0.0, backlog)[1] for backlog in range(600)]
    assert all(a <= b for a, b in itertools.pairwise(sizes))
    assert sizes[-1] == 256


def test_the_memories_find_the_rate_and_the_dispersion():
    random = np.random.default_rng(2)
    for burst in (1, 9):
        state: LiveSize = init(TIMES, OBJECTIVE)
        for look in range(1500):
            state, _ = update(state, burst * int(random.poisson(20.0 / burst)), 0.01 * look, 1)
        assert state.rate == pytest.approx(2000.0, rel=0.4)
        assert state.slow == pytest.approx(2000.0, rel=0.15)
        assert state.dispersion == pytest.approx(burst, rel=0.5)


def test_an_hour_of_silence_does_not_dull_the_ear():
    state, _ = update(update(init(TIMES, OBJECTIVE), 3, 0.0, 3)[0], 1, 3600.0, 1)
    for look in range(1, 30):
        state, _ = update(state, 40, 3600.0 + 0.002 * look, 40)
    assert state.rate > 0.5 * 20_000.0
    assert 64 <= state.choice.size <= 256
    assert state.choice.outcome is Outcome.MEETS


def test_times_are_made_to_rise_and_what_cannot_be_is_refused():
    assert ladder([1, 2, 4, 8], [0.2, 0.1, 0.3, 0.25]).seconds == (0.2, 0.2, 0.3, 0.3)
    for sizes, seconds in (([], []), ([2, 1], [0.1, 0.2]), ([0, 1], [0.1, 0.2]), ([1], [0.0]), ([1, 2], [0.1])):
        with pytest.raises(InputError, match="ascending sizes"):
            ladder(sizes, seconds)
    for objective, quantile in ((0.0, 0.99), (math.nan, 0.99), (0.1, 1.0)):
        with pytest.raises(InputError, match="objective"):
            init(TIMES, objective, quantile)
    for arrivals, now, backlog in ((-1, 0.0, 0), (0, math.nan, 0), (0, 0.0, -1)):
        with pytest.raises(InputError, match="finite time"):
            update(init(TIMES, OBJECTIVE), arrivals, now, backlog)
