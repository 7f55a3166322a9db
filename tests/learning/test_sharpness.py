"""Sharpness: exact on quadratics, turned with the variables, equal to a dense Hessian, and blind to padding."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from tests.learning.problems import LEVEL, SLOPE, Regression, data
from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.sharpness import leading_eigenvalue, sharpness
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import Task

KEY = jax.random.key(5)
ONE = Batch(jnp.zeros(4, jnp.float32), jnp.ones(4, bool), jnp.ones(4, jnp.float32))


class Bowl(Task):
    """Half a quadratic form about a place, plus a slope; the data only say how often."""

    matrix: Array
    place: Array
    slope: float = 0.0

    def init(self, key):
        return self.place, None

    def loss(self, variables, statistics, batch, key):
        apart = variables - self.place
        value = 0.5 * apart @ (self.matrix @ apart) + self.slope * apart.sum()
        return jnp.full(batch.mask.shape, value), None

    def evaluate(self, variables, statistics, batch):
        return {}


class Net(Task):
    """A small network with a batch normalisation over the batch and a random mask on its features."""

    def init(self, key):
        one, two = jax.random.split(key)
        weights = {"in": jax.random.normal(one, (3, 4), jnp.float32), "out": jax.random.normal(two, (4,), jnp.float32)}
        return weights, None

    def loss(self, variables, statistics, batch, key):
        features, target = batch.rows
        kept = jax.random.bernoulli(key, 0.8, features.shape)
        hidden = jnp.where(kept, features, 0.0) @ variables["in"]
        count = batch.mask.sum(dtype=hidden.dtype)
        mean = jnp.where(batch.mask[:, None], hidden, 0.0).sum(0) / count
        spread = jnp.where(batch.mask[:, None], (hidden - mean[None, :]) ** 2, 0.0).sum(0) / count
        normal = (hidden - mean[None, :]) / jnp.sqrt(spread + 1e-6)[None, :]
        return (jnp.tanh(normal) @ variables["out"] - target) ** 2, None

    def evaluate(self, variables, statistics, batch):
        return {}


def rotation(n: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def bowl(values, seed: int = 0, dtype=jnp.float32, slope: float = 0.0) -> Bowl:
    """Of these curvatures, in random directions."""
    turn = rotation(len(values), seed)
    place = np.random.default_rng(seed + 1).standard_normal(len(values))
    return Bowl(jnp.asarray(turn @ np.diag(values) @ turn.T, dtype), jnp.asarray(place, dtype), slope)


@settings(max_examples=25)
@given(
    values=st.lists(st.floats(-50.0, 50.0, width=32), min_size=6, max_size=6),
    seed=st.integers(0, 50),
)
def test_the_largest_curvature_of_a_quadratic_is_found_whatever_its_signs(values, seed):
    task = bowl(values, seed)
    found = sharpness(task, task.place, None, ONE, jax.random.key(seed), iterations=8)
    scale = max(map(abs, values))
    assert float(found.eigenvalue) == pytest.approx(max(values), abs=2e-5 * scale + 1e-30)
    assert float(found.residual) <= 2e-5 * scale


@eqx.filter_jit
def of_matrix(matrix, start, iterations):
    return leading_eigenvalue(lambda v: matrix @ v, start, iterations)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_an_eigenvalue_lies_within_the_residual_and_more_iterations_never_see_less(seed):
    drawn = np.random.default_rng(seed).standard_normal((30, 30))
    matrix, start = drawn + drawn.T, np.random.default_rng(seed + 1).standard_normal(30)
    exact, before = np.linalg.eigvalsh(matrix), -np.inf
    for iterations in (1, 5, 12):
        value, residual = map(float, of_matrix(matrix, start, iterations))
        assert np.abs(exact - value).min() <= residual + 1e-10
        assert before - 1e-10 <= value <= exact[-1] + 1e-10
        before = value


def test_twenty_iterations_settle_a_spectrum_with_a_long_tail_in_float32():
    values = np.concatenate([[40.0, 25.0], 1.0 / np.arange(1, 299)])
    task = bowl(values)
    found = sharpness(task, task.place, None, ONE, KEY)
    assert float(found.eigenvalue) == pytest.approx(40.0, rel=1e-5)
    assert float(found.residual) < 1e-3


def test_turning_the_variables_changes_nothing():
    matrix, turn = bowl([9.0, 4.0, 1.0, 0.5], 0, jnp.float64).matrix, jnp.asarray(rotation(4, 7))
    place = jnp.asarray([1.0, -2.0, 0.5, 3.0])
    plain = sharpness(Bowl(matrix, place), place, None, ONE, KEY)
    turned = sharpness(Bowl(turn @ matrix @ turn.T, turn @ place), turn @ place, None, ONE, KEY)
    assert float(turned.eigenvalue) == pytest.approx(float(plain.eigenvalue), rel=1e-9)


def test_a_flat_loss_and_one_of_equal_curvatures_are_no_trouble():
    flat = bowl([0.0] * 5)
    found = sharpness(flat, flat.place, None, ONE, KEY, iterations=10)
    assert [float(x) for x in (found.eigenvalue, found.residual, found.neighbourhood, found.worst)] == [0.0] * 4
    for value in (3.0, -3.0):
        same = Bowl(jnp.eye(5, dtype=jnp.float32) * value, jnp.ones(5, jnp.float32))
        found = sharpness(same, same.place, None, ONE, KEY, iterations=4)
        assert float(found.eigenvalue) == pytest.approx(value, rel=1e-6)
        assert float(found.residual) < 1e-5


def test_the_neighbourhood_of_a_bowl_is_its_mean_curvature_and_a_slope_cancels():
    """Mean of `1/2 d' H d` over a sphere of radius r is `r^2 tr H / 2 n`."""
    task, radius = bowl([8.0, 3.0, 1.0, 0.5, 0.2], dtype=jnp.float64), 0.1
    length = float(jnp.linalg.norm(task.place))
    found = sharpness(task, task.place, None, ONE, KEY, directions=4000, radius=radius)
    expected = (radius * length) ** 2 * 12.7 / 10.0
    assert float(found.neighbourhood) == pytest.approx(expected, rel=0.05)
    assert expected < float(found.worst) <= (radius * length) ** 2 * 8.0 / 2.0 * (1 + 1e-6)
    tilted = sharpness(Bowl(task.matrix, task.place, 5.0), task.place, None, ONE, KEY, directions=4000, radius=radius)
    assert float(tilted.neighbourhood) == pytest.approx(float(found.neighbourhood), rel=1e-6)


def test_a_network_has_the_eigenvalue_of_its_dense_hessian_batch_statistics_and_all():
    task, batch = Net(), data(24, places=30, dtype=np.float32)
    variables, _ = task.init(jax.random.key(1))
    found = sharpness(task, variables, None, batch, KEY, iterations=30)
    flat, restore = ravel_pytree(variables)
    noise = jax.random.split(KEY, 3)[0]
    dense = jax.hessian(lambda at: mean_loss(task.loss(restore(at), None, batch, noise)[0], batch))(flat)
    assert found.eigenvalue.dtype == jnp.float32
    assert float(found.eigenvalue) == pytest.approx(np.linalg.eigvalsh(np.asarray(dense, np.float64))[-1], rel=1e-4)
    assert float(found.loss) == pytest.approx(float(mean_loss(task.loss(variables, None, batch, noise)[0], batch)))


def test_longer_weights_before_a_normalisation_are_less_curved_and_no_other_neighbourhood():
    task, batch = Net(), data(24, dtype=np.float32)
    variables, _ = task.init(jax.random.key(1))
    longer = variables | {"in": 8.0 * variables["in"]}
    one, other = (sharpness(task, at, None, batch, KEY) for at in (variables, longer))
    assert float(other.neighbourhood) == pytest.approx(float(one.neighbourhood), rel=1e-3)
    only = eqx.tree_at(lambda v: v["out"], variables, jnp.zeros(4, jnp.float32))  # a leaf of zeros stays
    assert np.isfinite(float(sharpness(task, only, None, batch, KEY).neighbourhood))


def test_padding_does_not_count_and_the_key_decides_all():
    """Against the Hessian of least squares, `X'X / n` of the real rows."""
    variables = {"slope": jnp.asarray(SLOPE), "level": jnp.asarray(LEVEL)}
    padded = data(20, 33)
    found = sharpness(Regression(), variables, None, padded, KEY)
    columns = np.concatenate([np.asarray(padded.rows[0])[:20], np.ones((20, 1))], axis=1)
    assert float(found.eigenvalue) == pytest.approx(np.linalg.eigvalsh(columns.T @ columns / 20.0)[-1], rel=1e-12)
    rows = jax.tree.map(lambda column: column.at[20:].set(5.0), padded.rows)
    other = Batch(rows, padded.mask, padded.weight)
    for batch in (padded, other):
        np.testing.assert_array_equal(found, sharpness(Regression(), variables, None, batch, KEY))
    assert float(sharpness(Regression(), variables, None, padded, jax.random.key(6)).worst) != float(found.worst)


def test_what_is_not_finite_is_told_and_what_cannot_be_is_refused():
    task = bowl([1.0, 2.0, 3.0])
    found = sharpness(task, jnp.full(3, jnp.nan, jnp.float32), None, ONE, KEY)
    assert np.isnan([float(found.loss), float(found.neighbourhood)]).all()
    broken = Bowl(task.matrix * jnp.nan, task.place)
    assert np.isnan(float(sharpness(broken, task.place, None, ONE, KEY).eigenvalue))
    with pytest.raises(InputError, match="0 iterations"):
        sharpness(task, task.place, None, ONE, KEY, iterations=0)
