"""Schedules are clocked in samples, stay in [0, 1], and say what they do; a plateau decides as optax's does."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.training.schedules import NAMES, Plateau, PlateauRule, schedule

LENGTH = 100_000
every = pytest.mark.parametrize("name", NAMES)


def curve(name, **options):
    return schedule(name, LENGTH, **options)


@every
def test_multipliers_are_single_precision_between_0_and_1_from_the_first_sample_to_far_beyond_the_last(name):
    samples = jnp.asarray([0, 1, 17, 1999, 2000, 2001, 30_000, 79_999, 80_000, 99_999, 100_000, 100_001, 10**9])
    found = jax.jit(jax.vmap(curve(name)))(samples)
    assert found.dtype == jnp.float32
    assert np.all((np.asarray(found) >= 0.0) & (np.asarray(found) <= 1.0))
    assert np.asarray(found).max() == pytest.approx(1.0, abs=2e-3)
    assert float(found[-1]) == float(found[-3])  # stays at its end


@every
def test_the_clock_reads_the_same_from_any_kind_of_integer(name):
    one = curve(name)
    assert float(one(jnp.int32(12_345))) == float(one(jnp.int64(12_345))) == float(one(12_345))


def test_warm_up_and_cosine_are_what_they_are_called():
    one = curve("warm-up-cosine", warm_up=0.1, end=0.05)
    for samples in (0, 2_500, 10_000, 40_000, 77_777, 100_000):
        along = (samples - 10_000) / 90_000
        expected = samples / 10_000 if along < 0 else 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * along))
        assert float(one(samples)) == pytest.approx(expected, abs=1e-6)


def test_warm_up_stable_decay_is_three_straight_lines():
    one = curve("warm-up-stable-decay", warm_up=1_000, decay=0.25)
    places = [0, 500, 1_000, 50_000, 75_000, 87_500, 100_000, 200_000]
    found = [float(one(samples)) for samples in places]
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0], atol=1e-6)


def test_one_cycle_rises_falls_and_mirrors_the_momentum():
    one, base = curve("one-cycle"), jnp.float32(0.9)
    assert float(one(0)) == pytest.approx(1.0 / 25.0, rel=1e-5)
    assert float(one(30_000)) == pytest.approx(1.0, rel=1e-5)
    assert float(one(100_000)) == pytest.approx(4e-6, rel=1e-3)
    momentum = [float(one.momentum(samples, base)) for samples in (0, 15_000, 30_000, 65_000, 100_000)]
    assert momentum[0] == pytest.approx(0.95, abs=1e-6)
    assert momentum[2] == pytest.approx(0.85, abs=1e-6)
    assert momentum[0] > momentum[1] > momentum[2] < momentum[3] < momentum[4] == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "one-cycle"])
def test_no_other_schedule_moves_the_momentum(name):
    assert float(curve(name).momentum(5, jnp.float32(0.9))) == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["plateau", "schedule-free"])
def test_these_warm_up_and_stay(name):
    one = curve(name, warm_up=0.5)
    assert [float(one(samples)) for samples in (0, 25_000, 50_000, 10**7)] == [0.0, 0.5, 1.0, 1.0]


def test_a_schedule_describes_itself():
    assert curve("warm-up-stable-decay").describe() == (
        "rises to its top over 2,000 samples, stays there until 80,000, then falls in a line to 0 of it at 100,000"
    )
    assert len({curve(name).describe() for name in NAMES}) == len(NAMES)


def test_unknown_names_and_keys_are_refused_with_a_suggestion():
    with pytest.raises(UnknownOptionError, match="did you mean 'one-cycle'"):
        schedule("onecycle", 100)
    with pytest.raises(UnknownOptionError, match="unknown key of schedule 'warm-up-cosine' 'warmup': did you mean"):
        schedule("warm-up-cosine", 100, warmup=3)
    with pytest.raises(UnknownOptionError, match="decay"):
        schedule("constant", 100, decay=3)


@pytest.mark.parametrize(
    ("name", "samples", "options", "why"),
    [
        ("warm-up-cosine", 0, {}, "needs a length"),
        ("one-cycle", 1, {}, "needs a length"),
        ("warm-up-cosine", 100, {"warm_up": 100}, "do not fit"),
        ("warm-up-stable-decay", 100, {"warm_up": 60, "decay": 41}, "do not fit"),
        ("warm-up-cosine", 100, {"warm_up": -1}, "must not be negative"),
        ("warm-up-cosine", 100, {"end": 1.5}, r"must lie in \[0, 1\]"),
        ("one-cycle", 100, {"end": 0.0}, "must lie in"),
        ("one-cycle", 100, {"warm_up": 0}, "over 0 samples"),
    ],
)
def test_lengths_and_levels_out_of_range_are_refused(name, samples, options, why):
    with pytest.raises(InputError, match=why):
        schedule(name, samples, **options)


@settings(max_examples=20)
@given(
    losses=st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=30),  # compared exactly
    patience=st.integers(1, 4),
    cooldown=st.integers(0, 2),
)
def test_a_plateau_decides_as_optax_does(losses, patience, cooldown):
    rule = PlateauRule(0.5, patience, 2**-7, cooldown, 1e-2)
    theirs = optax.contrib.reduce_on_plateau(0.5, patience, 2**-7, 0.0, cooldown, 1, 1e-2)
    ours, state = Plateau(), theirs.init(jnp.ones(()))
    with jax.disable_jit():
        for loss in losses:
            ours = ours.after(loss, rule)
            _, state = theirs.update(jnp.ones(()), state, value=jnp.asarray(loss))
    assert ours.scale == pytest.approx(float(state.scale))


def test_a_plateau_of_losses_below_zero_or_not_finite_is_one_too():
    state, rule = Plateau(), PlateauRule(patience=3, tolerance=0.01)
    for loss in (-1.0, -2.0, -3.0, -4.0):
        state = state.after(loss, rule)
    assert state.scale == 1.0
    for loss in (-4.01, float("nan"), float("inf")):
        state = state.after(loss, rule)
    assert state.scale == 0.5
    assert state.best == -4.0
