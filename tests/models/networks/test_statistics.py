"""Moments without padding, and running statistics: float64 numpy is the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.networks.rows import SHAPES, batch
from volgrad.models.networks import statistics
from volgrad.models.networks.statistics import Moments, Running, grouped

advance, moments = jax.jit(statistics.advance), jax.jit(statistics.moments)
LARGE = 60_000.0  # an index level, in dollars


def cast(tree, kind):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, kind), tree)


@settings(max_examples=12)
@given(SHAPES, st.sampled_from([jnp.float32, jnp.float64]))
def test_moments_are_those_of_the_real_rows_at_any_level(shape, kind):
    x, mask = batch(*shape)
    x = np.asarray(jnp.asarray(x, kind), np.float64)  # what the rows hold in that precision
    found, centred = moments(jnp.asarray(x, kind)[None], jnp.asarray(mask)[None])
    real = x[mask]
    tolerance = 1e-5 if kind == jnp.float32 else 1e-12
    mean = np.asarray(found.centre[0], np.float64) + np.asarray(found.offset[0], np.float64)
    np.testing.assert_allclose(mean, real.mean(axis=0), atol=30.0 * tolerance)
    np.testing.assert_allclose(found.variance[0], real.var(axis=0), rtol=4 * tolerance, atol=100.0 * tolerance)
    assert (int(found.rows[0]), int(found.clusters[0])) == (mask.sum(), mask.any(axis=1).sum())
    expected = np.where(mask[..., None], x - real.mean(axis=0), 0.0)
    np.testing.assert_allclose(centred[0], expected, atol=40.0 * tolerance)


def test_at_a_mean_of_60000_the_variance_is_right_where_the_textbook_formula_has_none():
    """Of the same rows flax 0.12.8's BatchNorm (its default, use_fast_variance) gives 0 and torch 2.13.0 99.536, n - 1.

    Rows: numpy's default_rng(0), `60000 + 10 * standard_normal((4096, 1))` in float32; float64 says 99.51142613929915.
    """
    rows = (LARGE + 10.0 * np.random.default_rng(0).standard_normal((4096, 1))).astype(np.float32)
    found, centred = moments(jnp.asarray(rows)[None, None], jnp.ones((1, 1, 4096), bool))
    assert float(found.variance[0, 0]) == pytest.approx(99.51142613929915, rel=1e-6)
    assert float(jnp.mean(centred)) == pytest.approx(0.0, abs=1e-5)
    x = jnp.asarray(rows)
    assert abs(float(jnp.mean(x**2) - jnp.mean(x) ** 2) - 99.5) > 50.0
    running = advance(Running.start(1), found, 100.0)
    assert float(running.variance[0]) == pytest.approx(99.53572682487647, rel=1e-6)  # rows.var(ddof=1) in float64


def weighted(batches, half_life):
    """Means and variances of batches, weighted by what is left of each after those that follow."""
    left, totals = 1.0, np.zeros(3)
    for x, clusters in reversed(batches):
        weight = left * (1.0 - 2.0 ** (-clusters / half_life))
        totals += weight * np.array([1.0, x.mean(), x.var(ddof=1)])
        left *= 2.0 ** (-clusters / half_life)
    return totals[1:] / totals[0]


@settings(max_examples=8)
@given(st.lists(st.sampled_from([1, 4]), min_size=1, max_size=6), st.floats(2.0, 500.0), st.integers(0, 99))
def test_running_statistics_are_the_weighted_average_whose_weights_sum_to_one(sizes, half_life, seed):
    random, running, seen = np.random.default_rng(seed), cast(Running.start(1), jnp.float64), []
    for clusters in sizes:
        x = random.uniform(-50.0, 50.0) + random.uniform(0.01, 4.0) * random.standard_normal((clusters, 3, 1))
        found, _ = moments(jnp.asarray(x)[None], jnp.ones((1, clusters, 3), bool))
        running = advance(running, found, half_life)
        seen.append((x, clusters))
    np.testing.assert_allclose([running.mean[0], running.variance[0]], weighted(seen, half_life), rtol=1e-9)


@pytest.mark.parametrize("batches", [1, 10, 100])
def test_nothing_of_the_start_is_left_in_the_first_batches(batches):
    """Rivals, on batches of 64 of `5 + 0.1 z` at momentum 0.99 (numpy's default_rng(1)); the variance is 0.01.

    In serving after 1, 10 and 100 batches torch 2.13.0 has 0.990, 0.905 and 0.372 (mean 0.05, 0.48, 3.17); flax 0.12.8
    the same; equinox 0.13.8 in its mode "batch" 99.0, 9.47 and 0.587.
    """
    random, running = np.random.default_rng(1), Running.start(1)
    half_life = 64 * np.log(2.0) / -np.log(0.99)
    for _ in range(batches):
        x = (5.0 + 0.1 * random.standard_normal((64, 1, 1))).astype(np.float32)
        found, _ = moments(jnp.asarray(x)[None], jnp.ones((1, 64, 1), bool))
        running = advance(running, found, half_life)
    assert float(running.variance[0]) == pytest.approx(0.01, rel=0.3)
    assert float(running.mean[0]) == pytest.approx(5.0, abs=0.03)


def test_small_moves_of_a_large_level_are_not_lost():
    """In float32 an average kept as one number stops moving where a step is below half a unit of its last place."""
    found = Moments(*(jnp.asarray(v, jnp.float32) for v in ([[LARGE]], [[0.0]], [[1.0]], [100.0], [1.0])))
    running = advance(Running.start(1), found, 5_000.0)
    moved = found._replace(offset=jnp.full((1, 1), 0.5, jnp.float32))
    running = jax.lax.fori_loop(0, 20_000, lambda _, r: statistics.advance(r, moved, 5_000.0), running)
    weight = 1.0 - 2.0**-4 * (1.0 - 2.0 ** (-1 / 5_000)) / (1.0 - 2.0 ** (-20_001 / 5_000))
    assert float(running.offset[0]) == pytest.approx(0.5 * weight, rel=1e-3)


@settings(max_examples=8)
@given(st.sampled_from([(3, 2), (2, 1)]), st.integers(0, 99))
def test_groups_in_one_batch_or_one_after_the_other_leave_the_same(shape, seed):
    groups, size = shape
    x, mask = batch(groups * size, 5, 2, seed, 3.0)
    start = cast(Running.start(2), jnp.float64)
    together = advance(start, moments(*grouped(jnp.asarray(x), jnp.asarray(mask), size))[0], 20.0)
    one = start
    for number in range(groups):
        part = slice(number * size, (number + 1) * size)
        one = advance(one, moments(jnp.asarray(x[part])[None], jnp.asarray(mask[part])[None])[0], 20.0)
    for left, right in zip(together, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


def test_the_half_life_is_one_of_samples_whatever_the_batch():
    """After as many clusters as the half-life, half of the weight of what was before is left, in 1 step or in 64."""
    ages = []
    for clusters in (1, 8, 64):
        zero = cast(Running(*map(jnp.zeros, ((1,), (1,), (1,), ()))), jnp.float64)._replace(age=jnp.asarray(50.0))
        found = Moments(*(jnp.asarray(v, float) for v in ([[0.0]], [[1.0]], [[1.0]], [3.0 * clusters], [clusters])))
        for _ in range(64 // clusters):
            zero = advance(zero, found, 64.0)
        ages.append(float(zero.mean[0]))
    np.testing.assert_allclose(ages, 0.5, rtol=1e-9)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_one_row_or_none_leaves_statistics_alone(rows):
    mask = jnp.arange(4).reshape(1, 2, 2) < rows
    found, centred = moments(jnp.full((1, 2, 2, 1), 7.0), mask)
    before = advance(
        cast(Running.start(1), jnp.float64), Moments(*map(jnp.asarray, ([[3.0]], [[0.0]], [[4.0]], [9.0], [3.0]))), 5.0
    )
    after = advance(before, found, 5.0)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, after))
    assert not centred.any()
