"""Data in memory as an image: through the loader it trains and counts as it would have done by itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.problems import Logistic, Regression, data
from volgrad.errors import InputError
from volgrad.learning.batching import indexed as module
from volgrad.learning.batching.batch import Batch, Rows
from volgrad.learning.batching.indexed import indexed
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin, make_step
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import Task


def batch_from(image, position, clusters, seed=0) -> Batch:
    loader = Loader(image, range(image.clusters), seed)
    try:
        return batch_of(*(jnp.asarray(part[0]) for part in loader.stack(position, 1, clusters)))
    finally:
        loader.close()


@jax.jit
def mean_and_slope(task, variables, batch):
    def mean(at):
        return mean_loss(task.loss(at, None, batch, jax.random.key(1))[0], batch)

    return jax.value_and_grad(mean)(variables)


def weighted(clusters=20, places=26) -> Batch:
    """Clusters of uneven weight, real ones among the padding."""
    plain = data(clusters, places)
    order = np.random.default_rng(0).permutation(places)
    columns, mask = jax.tree.map(lambda leaf: leaf[order], (plain.rows, plain.mask))
    return Batch(columns, mask, jnp.asarray(np.random.default_rng(1).uniform(0.5, 1.5, places)))


@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 5))
@settings(max_examples=15)
def test_the_image_names_every_real_cluster_once(real, padding, seed):
    places = real + padding
    mask = np.random.default_rng(seed).permutation(places) < real
    _, image = indexed(Regression(), Batch(np.zeros(places), mask, np.ones(places)))
    assert image.clusters == image.n_rows == real
    np.testing.assert_array_equal(image.rows[:, 0], np.flatnonzero(mask))


@pytest.mark.parametrize("kind", [Regression, Logistic])
def test_the_loss_over_an_epoch_is_that_of_the_data(kind):
    inner, held = kind(), weighted()
    task, image = indexed(inner, held)
    variables = jax.tree.map(lambda leaf: leaf + 0.3, inner.init(jax.random.key(0))[0])

    def slope(task, batch):
        return jax.value_and_grad(lambda at: mean_loss(task.loss(at, None, batch, jax.random.key(1))[0], batch))(
            variables
        )

    batch = batch_from(image, 0, image.clusters)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12), slope(task, batch), slope(inner, held)
    )


def test_metrics_and_start_are_the_inner_tasks():
    inner, held = Regression(), weighted()
    task, image = indexed(inner, held)
    variables, statistics = task.init(jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, (variables, statistics), inner.init(jax.random.key(2)))
    found = task.evaluate(variables, None, batch_from(image, 0, image.clusters))
    assert float(found["rmse"]) == pytest.approx(float(inner.evaluate(variables, None, held)["rmse"]), rel=1e-12)


def test_a_step_is_that_on_the_clusters_themselves():
    inner, held = Regression(), weighted()
    task, image = indexed(inner, held)
    optimizer = named("adam", learning_rate=0.1)
    batch = batch_from(image, 7, 5)
    place = np.asarray(batch.rows.values)[:, 0, 0].astype(int)
    real = jax.tree.map(lambda leaf: leaf[place], held)
    state = begin(inner, optimizer, jax.random.key(0))
    one, _ = jax.jit(make_step(task, optimizer))(state, batch)
    other, _ = jax.jit(make_step(inner, optimizer))(state, real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one.variables, other.variables)
    assert int(one.samples) == 5


def test_padding_of_a_batch_points_at_no_cluster():
    task, image = indexed(Logistic(), weighted())
    batch = batch_from(image, 0, 4)
    gone = dataclasses.replace(batch, mask=jnp.arange(4) < 2)
    less = jax.tree.map(lambda leaf: leaf[:2], batch)
    variables, _ = task.init(jax.random.key(0))
    (whole, _), (part, _) = (mean_and_slope(task, variables, one) for one in (gone, less))
    assert float(whole) == pytest.approx(float(part), rel=1e-12)


def test_the_last_of_very_many_is_still_told_apart():
    """Numbers of clusters travel as float32."""
    most = module._MOST
    assert np.float32(most - 1).astype(np.int32) == most - 1
    assert np.float32(most + 1).astype(np.int64) != most + 1


@pytest.mark.parametrize("mask", [np.zeros(3, bool), np.zeros(0, bool)], ids=["padding only", "nothing"])
def test_no_cluster_is_refused(mask):
    with pytest.raises(InputError, match="data of 0 clusters"):
        indexed(Regression(), Batch(np.zeros(mask.shape), mask, np.ones(mask.shape)))


def test_leaves_of_numpy_are_looked_up_in_compiled_code_that_holds_the_task():
    data = Batch(np.arange(5.0), np.ones(5, bool), np.ones(5))

    class Value(Task):
        def init(self, key):
            return jnp.zeros(()), ()

        def loss(self, variables, statistics, batch, key):
            return batch.rows, ()

        def evaluate(self, variables, statistics, batch):
            return {"loss": batch.rows.sum()}

    task, image = indexed(Value(), data)
    values = np.asarray(image.rows)[:, None, :]
    batch = Batch(Rows(jnp.asarray(values), jnp.ones((5, 1), bool)), jnp.ones(5, bool), jnp.ones(5))
    assert float(jax.jit(lambda: task.evaluate(None, (), batch)["loss"])()) == 10.0
