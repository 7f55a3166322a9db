"""Laws of the size policy: it settles, follows, never flaps, starts anew where the run does, and remembers exactly."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.batching.noise_scale import NoiseScale, noise_scale
from volgrad.learning.batching.size_choice import Bounds, Timed, Work, choose, predicted
from volgrad.learning.batching.size_policy import Observation, PolicyRule, SizePolicy, SizeState, steering

TOTAL = 1_000_000
WORK = Work(samples=TOTAL, reference=64)
#: Seconds a step of 0.1 ms and 1 us a cluster, as on a processor: the best size is 10 sqrt(noise) clusters.
LADDER = [Timed(1 << power, 1 << power, 1e-4 + 1e-6 * (1 << power), 0.0, 1 << power) for power in range(13)]
SIZES = [rung.clusters for rung in LADDER]


def measured(
    clusters: float, rng: np.random.Generator, units: int = 64, d: int = 1000, scale: float = 1.0
) -> NoiseScale:
    """An estimate as a probe makes it, from gradients whose true noise scale is so many clusters."""
    gradients = scale * (rng.standard_normal((units, d)) + math.sqrt(1.0 / clusters))
    return noise_scale(gradients @ gradients.T)


def followed(curve, seed: int = 0, *, policy: SizePolicy | None = None, first: int = 64, **how) -> list[SizeState]:
    """States of a policy after each probe of a run whose true noise scale is `curve(share of the run)`."""
    rng, policy = np.random.default_rng(seed), policy or SizePolicy(LADDER, WORK)
    states = [policy.init(first, measured(curve(0.0), rng, **how))]
    while (at := states[-1].due) < TOTAL:
        assert policy.due(states[-1], at)
        states.append(policy.update(states[-1], Observation(at, 1.0, noise=measured(curve(at / TOTAL), rng, **how))))
    return states


def sizes(states: list[SizeState]) -> list[int]:
    return [state.clusters for state in states]


def turns(states: list[SizeState]) -> int:
    """How often the direction of the changes turned."""
    moves = np.diff(np.log2(sizes(states)))
    signs = np.sign(moves[moves != 0.0])
    return int((signs[1:] != signs[:-1]).sum())


def best(noise: float) -> int:
    return LADDER[choose(LADDER, noise, WORK).place].clusters


# --- following the noise ---


@pytest.mark.parametrize(("noise", "units"), [(30.0, 24), (300.0, 24), (1000.0, 64)])
def test_under_constant_noise_it_settles_and_does_not_flap(noise, units):
    for seed in range(4):
        states = followed(lambda _: noise, seed, units=units)
        assert turns(states) <= 1
        assert len({*sizes(states)[-8:]}) <= 2
        seconds = predicted(LADDER, noise, WORK)
        last = seconds[SIZES.index(states[-1].clusters)]
        assert last <= 1.25 * min(seconds)


def test_without_hysteresis_it_would_flap():
    """What the rule of two probes and three percent is there for."""
    loose = PolicyRule(gain=0.0, running=1)
    kinds = {}
    for name, rule in (("loose", loose), ("usual", PolicyRule())):
        policy = SizePolicy(LADDER, WORK, rule=rule)
        kinds[name] = sum(turns(followed(lambda _: 300.0, seed, policy=policy, units=24)) for seed in range(4))
    assert kinds["usual"] <= 1 < kinds["loose"]


def test_sizes_grow_with_the_noise_and_shrink_with_it():
    up = followed(lambda share: 20.0 * 100.0**share, units=96)
    assert sizes(up) == sorted(sizes(up))
    assert sizes(up)[-1] >= best(2000.0) // 2
    down = followed(lambda share: 2000.0 * 100.0**-share, first=512, units=96)
    assert sizes(down) == sorted(sizes(down), reverse=True)
    assert sizes(down)[-1] <= 2 * best(20.0)
    for states in (up, down):
        for before, after in itertools.pairwise(states):
            if after.clusters != before.clusters:
                assert f"batches of {before.clusters:,} -> {after.clusters:,} clusters reach the same" in after.reason
            steps = abs(SIZES.index(after.clusters) - SIZES.index(before.clusters))
            assert steps <= 2 or "signal" in after.reason


def test_the_scale_of_the_gradients_between_probes_does_not_matter():
    """Adam's preconditioner and the fall of the gradients change it by orders of magnitude."""
    rng, policy = np.random.default_rng(1), SizePolicy(LADDER, WORK)
    state = policy.init(64, measured(300.0, rng))
    for scale in (1e3, 1e-3, 1.0, 1e-6, 1e6):
        state = policy.update(state, Observation(state.due, noise=measured(300.0, rng, scale=scale)))
        assert state.mean is not None
        assert 100.0 < state.mean.clusters < 900.0
        assert "signal" not in state.reason


def test_a_jump_of_the_noise_drops_the_memory_and_is_followed_at_once():
    states = followed(lambda share: 100.0 if share < 0.5 else 1500.0, units=96)
    after = next(state for state in states if "signal fell" in state.reason)
    assert after.clusters >= best(1500.0) // 2
    assert "-fold; noise scale rose from" in after.reason
    assert "sooner" in after.reason
    back = followed(lambda share: 1500.0 if share < 0.5 else 20.0, first=512, units=96)
    assert any("signal rose" in state.reason for state in back)
    assert back[-1].clusters <= 2 * best(20.0)


def test_where_the_signal_is_not_significant_it_rises_a_rung_at_most_and_never_falls():
    rng, policy = np.random.default_rng(0), SizePolicy(LADDER, WORK)
    vague = measured(1e9, rng)
    assert not vague.significant
    assert vague.lo > 300.0  # at least so many: larger batches than 64 are worth while for certain
    state = policy.init(64)
    for expected in (64, 128, 128, 256):
        state = policy.update(state, Observation(state.due, noise=vague))
        assert state.clusters == expected
    assert "at least" in state.reason
    high = policy.init(4096)
    for _ in range(4):
        high = policy.update(high, Observation(high.due, noise=vague))
    assert high.clusters == 4096


@given(
    st.floats(1.0, 1e5),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from(["time", "samples", "memory"]),
)
@settings(max_examples=10)
def test_bounds_hold_whatever_is_seen(noise, one, other, first, objective):
    least, most = sorted((SIZES[one], SIZES[other]))
    policy = SizePolicy(LADDER, WORK, objective, Bounds(least, most))
    state = policy.init(min(max(SIZES[first], least), most))
    rng = np.random.default_rng(0)
    for at in range(1, 7):
        state = policy.update(state, Observation(50_000 * at, 1.0, noise=measured(noise, rng, units=24, d=50)))
        assert least <= state.clusters <= most
        assert state.clusters in SIZES


@pytest.mark.parametrize("objective", ["samples", "memory"])
def test_a_smaller_size_is_taken_where_that_spares_what_counts(objective):
    policy = SizePolicy(LADDER, WORK, objective)
    state = policy.init(1024)
    rng = np.random.default_rng(0)
    for _ in range(8):
        state = policy.update(state, Observation(state.due, noise=measured(300.0, rng)))
    assert state.mean is not None
    assert state.clusters == LADDER[choose(LADDER, steering(state.mean), WORK, objective).place].clusters


# --- starting anew ---


def steady(policy: SizePolicy, losses: int = 12, rng=None) -> SizeState:
    """A state with a band of losses about 1 and a noise scale of 300 clusters."""
    rng = rng or np.random.default_rng(0)
    state = policy.init(64, measured(300.0, rng))
    for at in range(losses):
        state = policy.update(state, Observation(100 * (at + 1), 1.0 + 0.01 * rng.standard_normal()))
    return state


def test_a_loss_above_its_band_asks_for_a_probe_and_then_the_memory_is_dropped():
    policy = SizePolicy(LADDER, WORK)
    state = steady(policy)
    assert not policy.due(state, 1_300)
    state = policy.update(state, Observation(1_300, 2.0))
    assert policy.due(state, 1_300)
    found = measured(1000.0, np.random.default_rng(2), units=128, d=4000)
    state = policy.update(state, Observation(1_300, noise=found))
    assert state.mean == found
    assert "the loss rose from 1" in state.reason
    assert state.clusters >= 256  # at once, and as far as need be
    assert not state.alarm


@pytest.mark.parametrize("loss", [0.2, 1.05, math.nan])
def test_losses_that_fall_wobble_or_are_missing_are_no_drift(loss):
    policy = SizePolicy(LADDER, WORK)
    state = policy.update(steady(policy), Observation(1_300, loss))
    assert not state.alarm
    assert not policy.due(state, 1_300)


def test_a_change_of_size_is_no_drift_of_the_loss():
    policy = SizePolicy(LADDER, WORK)
    state = steady(policy)
    rng = np.random.default_rng(3)
    while state.clusters == 64:
        state = policy.update(state, Observation(state.due, noise=measured(1000.0, rng, units=128)))
    state = policy.update(state, Observation(state.due - 1, 2.0))
    assert not state.alarm


def test_what_the_guard_did_drops_the_memory_too():
    policy = SizePolicy(LADDER, WORK)
    state = policy.update(steady(policy), Observation(1_300, 50.0, acted="loss 50 ran away"))
    assert policy.due(state, 1_300)
    state = policy.update(state, Observation(1_300, noise=measured(290.0, np.random.default_rng(4))))
    assert state.reason.startswith("loss 50 ran away: the noise scale is measured anew") or "->" in state.reason


def test_memory_that_does_not_suffice_is_remembered():
    policy = SizePolicy(LADDER, WORK)
    bounded = SizePolicy(LADDER, WORK, bounds=Bounds(least=512))
    assert bounded.update(bounded.init(512), Observation(5_000, lost=512)).clusters == 512  # nowhere to go
    state = policy.update(policy.init(512), Observation(5_000, lost=512))
    assert state.clusters == 256
    assert "memory does not suffice for batches of 512 clusters: back to 256" in state.reason
    rng = np.random.default_rng(0)
    for _ in range(6):
        state = policy.update(state, Observation(state.due, noise=measured(5_000.0, rng, units=64)))
    assert state.clusters == 256


# --- probes ---


def test_probes_lie_at_doubled_distances_first_and_then_at_even_ones():
    positions = [state.due for state in followed(lambda _: 30.0)][:7]
    assert positions == [10_000, 20_000, 40_000, 80_000, 130_000, 180_000, 230_000]


@given(st.floats(1e-4, 1.0), st.floats(0.0, 1e-3))
@settings(max_examples=10)
def test_probes_take_a_hundredth_of_the_run_at_most(probe_s, change_s):
    policy = SizePolicy(LADDER, WORK, probe_s=probe_s, change_s=change_s)
    state, rng, made = policy.init(64), np.random.default_rng(0), 0
    sure = measured(30.0, rng, units=24, d=100)
    for at in range(5_000, TOTAL + 5_000, 5_000):
        if policy.due(state, at):
            state, made = policy.update(state, Observation(at, noise=sure)), made + 1
    assert made * probe_s <= 0.01 * policy.seconds(64) * (1.0 + 1e-9) or state.clusters != 64
    assert made <= policy.probes(64) or state.clusters != 64
    assert state.spent_s == pytest.approx(made * probe_s)


def test_a_probe_that_failed_is_paid_for_and_tried_again_at_the_next_position():
    policy = SizePolicy(LADDER, WORK, probe_s=1e-4)
    state = policy.update(policy.init(64), Observation(10_000, probed=True))
    assert state.due == 20_000
    assert state.spent_s == 1e-4


def test_a_change_must_save_more_than_compiling_it_takes():
    rng = np.random.default_rng(0)
    found = [measured(2000.0, rng, units=128) for _ in range(3)]
    for change_s, moves in ((0.0, True), (100.0, False)):
        policy = SizePolicy(LADDER, WORK, change_s=change_s)
        state = policy.init(64)
        for one in found:
            state = policy.update(state, Observation(state.due, noise=one))
        assert (state.clusters != 64) is moves


# --- remembering and telling ---


@given(st.integers(0, 20), st.integers(0, 10))
@settings(max_examples=8)
def test_a_policy_that_is_stored_and_read_goes_on_as_one_that_was_not(cut, seed):
    rng = np.random.default_rng(seed)
    policy = SizePolicy(LADDER, WORK, probe_s=1e-5)
    seen = [
        Observation(10_000 * at, float(rng.gamma(2.0)), noise=measured(50.0 * at, rng, d=50) if at % 3 == 0 else None)
        for at in range(1, 21)
    ]
    whole = parted = policy.init(64)
    for at, one in enumerate(seen):
        whole = policy.update(whole, one)
        if at == cut:
            parted = SizeState.from_dict(json.loads(json.dumps(parted.as_dict())))
        parted = policy.update(parted, one)
    assert repr(parted) == repr(whole)
    assert repr(SizeState.from_dict(json.loads(json.dumps(whole.as_dict())))) == repr(whole)


def test_it_says_where_it_stands_and_what_others_would_cost():
    policy = SizePolicy(LADDER, WORK)
    told = policy.explain(followed(lambda _: 1000.0)[-1])
    assert "batches of" in told
    assert "the gradient noise scale is" in told
    assert "4,096: +" in told
