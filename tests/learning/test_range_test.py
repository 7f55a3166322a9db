"""The range test: finds what a quadratic's curvature says, touches nothing, and never speaks of NaN."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.problems import Cliff, Regression, data
from volgrad.errors import InputError
from volgrad.learning.training.averaging import Averaging
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin
from volgrad.learning.training.range_test import RangeTest, judge, range_test
from volgrad.learning.training.schedules import schedule

STEPS = 120


def stack(noise=0.1, rows=40):
    batches = [data(rows, noise=noise, seed=seed) for seed in range(STEPS)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)


def identity(batch):
    return batch


def numbers(found: RangeTest):
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, np.ndarray | float):
            yield from np.ravel(value)


def test_a_quadratics_limit_is_found_and_the_suggestion_lies_below_it():
    """Descent on a quadratic is stable up to 2 over its largest curvature, here about 1."""
    optimizer = named("sgd", beta1=0.0)
    state = begin(Regression(), optimizer, jax.random.key(0))
    found = range_test(Regression(), optimizer, state, stack(), identity, 1e-4, 100.0)
    features = np.asarray(data().rows[0])
    columns = np.concatenate([features, np.ones((40, 1))], axis=1)
    limit = 2.0 / np.linalg.eigvalsh(columns.T @ columns / 40.0).max()
    assert found.significant
    assert limit / 2.5 < found.largest_stable < 2.5 * limit
    assert 1e-3 < found.suggestion <= found.largest_stable / 2.0
    assert found.tenth < found.largest_stable
    assert "rises for good beyond" in found.why


def test_the_state_is_as_it_was_to_the_bit():
    optimizer = named("adam", schedule("warm-up-cosine", 1000), averaging=Averaging(), clip=1.0)
    state = begin(Regression(), optimizer, jax.random.key(3))

    def bits(state):
        state = dataclasses.replace(state, key=jax.random.key_data(state.key))
        return [(leaf.dtype, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(state)]

    before = bits(state)
    found = range_test(Regression(), optimizer, state, stack(), identity, 1e-5, 1e6)
    assert found.rates.size
    assert bits(state) == before


@pytest.mark.parametrize("name", ["adam", "schedule-free"])
def test_what_is_not_finite_is_cut_off_and_nowhere_told(name):
    """The loss is NaN as soon as a slope leaves [-.2, .2]."""
    task, optimizer = Cliff(edge=jnp.asarray(0.2)), named(name, clip=1.0)
    found = range_test(
        task, optimizer, begin(task, optimizer, jax.random.key(0)), stack(), identity, lowest=1e-5, highest=1e3
    )
    assert 20 < found.rates.size < STEPS
    assert found.rates.size == found.losses.size == found.smoothed.size
    assert np.all(np.isfinite(list(numbers(found))))
    assert found.largest_stable <= found.rates[-1]
    assert "nan" not in found.why.lower()


def test_the_schedule_and_the_usual_rate_do_not_matter():
    plain = named("sgd", learning_rate=0.5)
    other = named("sgd", schedule("warm-up-cosine", 10, warm_up=0.5), learning_rate=1e-5)
    results = [
        range_test(Regression(), one, begin(Regression(), one, jax.random.key(0)), stack(), identity, 1e-4, 1.0)
        for one in (plain, other)
    ]
    np.testing.assert_array_equal(results[0].losses, results[1].losses)


def test_noise_alone_gives_no_suggestion_and_says_why():
    losses = 1.0 + 0.1 * np.random.default_rng(0).standard_normal(200)
    found = judge(np.geomspace(1e-6, 1.0, 200), losses)
    assert not found.significant
    assert found.suggestion is found.steepest is None
    assert "within its noise" in found.why
    assert "larger batches" in found.why


def test_a_loss_that_never_runs_away_has_no_limit():
    rates = np.geomspace(1e-5, 1e-1, 100)
    found = judge(rates, 1.0 / (1.0 + 100.0 * rates))
    assert found.significant
    assert found.largest_stable is None
    assert "a higher end would show the limit" in found.why


def test_too_few_finite_losses_are_told():
    losses = np.full(50, np.nan)
    losses[:7] = 1.0
    found = judge(np.geomspace(1e-5, 1.0, 50), losses)
    assert (found.rates.size, found.suggestion, found.significant) == (7, None, False)
    assert "finite at 7 learning rates only" in found.why


@settings(max_examples=60)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=0, max_size=60))
def test_whatever_the_losses_no_number_told_is_nan(losses):
    rates = np.geomspace(1e-6, 1.0, max(len(losses), 2))[: len(losses)]
    found = judge(rates, np.asarray(losses, float))
    assert np.all(np.isfinite(list(numbers(found))))
    assert found.significant == (found.suggestion is not None)
    if found.suggestion is not None:
        assert 0.0 < found.suggestion <= (math.inf if found.largest_stable is None else found.largest_stable)


@pytest.mark.parametrize(
    ("low", "high", "steps", "why"),
    [(1.0, 0.1, 30, "ascending"), (0.0, 1.0, 30, "positive"), (0.1, math.nan, 30, "ascending"), (0.1, 1.0, 5, "least")],
)
def test_what_makes_no_test_is_refused(low, high, steps, why):
    optimizer = named("sgd")
    few = jax.tree.map(lambda leaf: leaf[:steps], stack())
    with pytest.raises(InputError, match=why):
        range_test(Regression(), optimizer, begin(Regression(), optimizer, jax.random.key(0)), few, identity, low, high)


@pytest.mark.parametrize("seed", range(8))
def test_noise_of_early_batches_is_not_taken_for_the_steepest_fall(seed):
    """The loss falls between rates of .003 and .3; its noise is a share of it, as that of small batches is."""
    rates = np.geomspace(1e-5, 10.0, 200)
    level = 0.1 + 1.0 / (1.0 + 30.0 * rates)
    noisy = level * np.random.default_rng(seed).gamma(3.0, 1.0 / 3.0, rates.size)
    steepest = judge(rates, noisy).steepest
    assert steepest is not None
    assert 3e-3 < steepest < 0.3


def test_rates_are_told_in_the_unit_of_the_recipe():
    """What a rule of the batch size makes four times as long is a step of four times the rate that is told."""
    optimizer = named("sgd", beta1=0.0)
    state = begin(Regression(), optimizer, jax.random.key(0))
    plain = range_test(Regression(), optimizer, state, stack(), identity, 4e-4, 40.0)
    told = range_test(Regression(), optimizer, state, stack(), identity, 1e-4, 10.0, unit=4.0)
    common = min(told.losses.size, plain.losses.size, 60)
    np.testing.assert_allclose(4.0 * told.rates[:common], plain.rates[:common])
    np.testing.assert_allclose(told.losses[:common], plain.losses[:common], rtol=1e-4)
