"""Laws of batches and of the order in which they come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.problems import data
from volgrad.learning.batching.batch import Batch, batches_per_epoch, epoch_order, take
from volgrad.learning.training.state import mean_loss

seeds = st.integers(0, 2**31 - 1)


def order_of(batch, size, seed=0, epoch=0):
    return np.asarray(epoch_order(batch, size, jax.random.key(seed), jnp.asarray(epoch)))


@pytest.mark.parametrize(("rows", "padding", "size"), [(1, 0, 1), (1, 5, 2), (7, 0, 3), (9, 4, 4), (5, 3, 20)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_cluster_comes_once_an_epoch_and_padding_last(rows, padding, size, seed):
    batch = data(rows, rows + padding)
    order = order_of(batch, size, seed)
    assert order.shape == (batches_per_epoch(batch, size), size)
    flat = order.ravel()
    assert sorted(flat[:rows].tolist()) == list(range(rows))
    assert sorted(flat[: rows + padding].tolist()) == list(range(rows + padding))
    assert np.all(flat[rows + padding :] == rows + padding)
    masks = [np.asarray(take(batch, jnp.asarray(one)).mask) for one in order]
    np.testing.assert_array_equal(np.concatenate(masks), np.arange(flat.size) < rows)


def test_the_order_depends_on_key_and_epoch_only():
    batch = data(30)
    np.testing.assert_array_equal(order_of(batch, 8), order_of(batch, 8))
    assert not np.array_equal(order_of(batch, 8, epoch=1), order_of(batch, 8))
    assert not np.array_equal(order_of(batch, 8, seed=1), order_of(batch, 8))
    np.testing.assert_array_equal(order_of(batch, 8).ravel()[:30], order_of(batch, 5).ravel()[:30])


@pytest.mark.parametrize("places", [30, 48, 128])
def test_the_order_of_the_real_clusters_does_not_depend_on_the_padding(places):
    np.testing.assert_array_equal(order_of(data(30, places), 8).ravel()[:30], order_of(data(30), 8).ravel()[:30])


def test_over_the_epochs_every_place_is_equally_likely():
    batch = data(5)
    first = [order_of(batch, 2, seed, epoch)[0, 0] for seed in range(20) for epoch in range(10)]
    counts = np.bincount(first, minlength=5)
    assert ((counts - 40.0) ** 2 / 40.0).sum() < 18.5  # chi-square, 4 degrees: one in a thousand


@given(st.just(6), st.just(3), seeds)
@settings(max_examples=20)
def test_a_batch_holds_the_rows_that_were_asked_for(rows, padding, seed):
    batch = data(rows, rows + padding)
    index = np.random.default_rng(seed).integers(0, rows + padding + 3, 6)
    got = take(batch, jnp.asarray(index))
    real = index < rows
    np.testing.assert_array_equal(got.mask, real)
    np.testing.assert_array_equal(np.asarray(got.rows[1])[real], np.asarray(batch.rows[1])[index[real]])
    assert np.all(np.isfinite(got.rows[0]))  # what is masked is finite


def test_one_cluster_and_the_whole_data_are_batches():
    batch = data(7)
    assert order_of(batch, 1).shape == (7, 1)
    assert order_of(batch, 7).shape == (1, 7)
    assert order_of(batch, 100).shape == (1, 100)
    whole = take(batch, jnp.asarray(order_of(batch, 100)[0]))
    assert int(whole.mask.sum()) == 7


@given(seeds)
@settings(max_examples=20)
def test_the_mean_loss_is_that_of_the_real_clusters_by_weight(seed):
    random = np.random.default_rng(seed)
    mask = random.random(9) < 0.6
    mask[0] = True
    weight, losses = random.random(9) + 0.1, random.standard_normal(9)
    found = mean_loss(jnp.asarray(losses), Batch(None, jnp.asarray(mask), jnp.asarray(weight)))
    assert float(found) == pytest.approx((weight * losses)[mask].mean())


def test_of_nothing_the_mean_loss_is_zero_and_so_is_its_slope():
    empty = Batch(None, jnp.zeros(3, bool), jnp.ones(3))
    value, slope = jax.value_and_grad(lambda x: mean_loss(x * jnp.ones(3), empty))(2.0)
    assert float(value) == 0.0
    assert float(slope) == 0.0
