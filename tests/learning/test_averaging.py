"""Averages of weights: debiased from the first point on, their weights counted in samples."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.training.averaging import Average, Averaging

counts = st.lists(st.integers(1, 500), min_size=1, max_size=8)
kinds = pytest.mark.parametrize("averaging", [Averaging(), Averaging(300.0)], ids=["plain", "half-life"])


def walk(averaging, points, counts, seen=0):
    average = Average.empty(jnp.full(2, 1e6))
    for point, count in zip(points, counts, strict=True):
        seen += count
        average = averaging.after(average, jnp.asarray(point), jnp.asarray(seen), jnp.asarray(count))
    return average


@kinds
@settings(max_examples=20)
@given(counts=counts)
def test_the_average_of_one_place_is_that_place_from_the_first_step_on(averaging, counts):
    found = walk(averaging, [[3.0, -1.0]] * len(counts), counts)
    np.testing.assert_allclose(found.value, [3.0, -1.0], rtol=1e-12)


@settings(max_examples=20)
@given(counts=counts)
def test_the_plain_average_weighs_by_samples(counts):
    points = np.random.default_rng(len(counts)).standard_normal((len(counts), 2))
    np.testing.assert_allclose(
        walk(Averaging(), points, counts).value, np.average(points, axis=0, weights=counts), rtol=1e-9, atol=1e-12
    )


@settings(max_examples=20)
@given(counts=counts)
def test_the_moving_average_is_the_same_for_any_steps_that_show_the_same_samples(counts):
    """One step of 2n samples weighs what two of n do, at the same place."""
    points = np.random.default_rng(len(counts)).standard_normal((len(counts), 2))
    whole = walk(Averaging(300.0), points, [2 * count for count in counts])
    halves = walk(Averaging(300.0), np.repeat(points, 2, axis=0), np.repeat(counts, 2).tolist())
    np.testing.assert_allclose(whole.value, halves.value, rtol=1e-9, atol=1e-12)


def test_a_points_weight_halves_in_a_half_life():
    found = walk(Averaging(300.0), [[1.0, 0.0], [0.0, 0.0]], [300, 300])
    np.testing.assert_allclose(found.value[0], 1.0 / 3.0, rtol=1e-12)  # 1/4 against 1/2


@kinds
def test_before_its_start_there_is_no_average(averaging):
    late = Averaging(averaging.half_life, start=100)
    early = walk(late, [[5.0, 5.0]], [100])
    np.testing.assert_array_equal(early.or_else(jnp.asarray([1.0, 2.0])), [1.0, 2.0])
    begun = walk(late, [[5.0, 5.0], [7.0, 8.0]], [100, 1])
    np.testing.assert_allclose(begun.or_else(jnp.zeros(2)), [7.0, 8.0])
