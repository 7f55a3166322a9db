"""What every task must obey. Concrete subclasses of `Task` are found by themselves; each needs a factory here."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.discovery import concrete_subclasses
from tests.learning.problems import Gaussian, Logistic, Regression, Valley, data
from tests.tasks.chains import chain_of
from tests.tasks.test_study_contract import TASKS
from volgrad.learning.batching.batch import Batch, take
from volgrad.learning.batching.indexed import Indexed, indexed
from volgrad.learning.batching.loader import batch_of
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import LeastSquares, Task, gauss_newton
from volgrad.models.local_vol import Prior
from volgrad.tasks.closed_form import Essvi, Ssvi, Svi
from volgrad.tasks.framing import frame_chain
from volgrad.tasks.ssvi import SsviTask
from volgrad.tasks.surface import SurfaceTask
from volgrad.tasks.svi import SviTask


class Subject(NamedTuple):
    """A task, its data with padding, and how far random variables may lie from the start."""

    task: Task
    data: Batch
    scale: float = 0.3


def surface_subject(chain) -> Subject:
    framed = frame_chain(chain, Prior())
    assert not framed.data.mask.all()
    return Subject(*jax.tree.map(jnp.asarray, (framed.task, framed.data)))


def skewed(k, tau):
    return 0.6 - 0.2 * k / np.sqrt(tau) * 0.3 + 0.1 * k**2


def wings_subject(model) -> Subject:
    framed = model.frame(chain_of(skewed, (2.0, 9.0, 30.0), strikes=7), (), 1.0)
    assert not framed.data.mask.all()
    return Subject(*jax.tree.map(jnp.asarray, (framed.task, framed.data)))


def expiry_subject() -> Subject:
    """The second expiry of a chain."""
    framed = Svi().frame(chain_of(skewed, (2.0, 9.0, 30.0), strikes=7), (), 1.0)
    return Subject(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[1], (framed.task, framed.data)))


def indexed_subject() -> Subject:
    """Clusters in memory named by number, of uneven weight; data and batch end with padding."""
    inner = data(20, 24)
    inner = dataclasses.replace(inner, weight=jnp.linspace(0.5, 1.5, 24))
    task, image = indexed(Logistic(), inner)
    values = jnp.asarray(np.pad(image.rows, ((0, 6), (0, 0))))[:, None]
    return Subject(task, batch_of(values, jnp.repeat(jnp.array([1, 0]), jnp.array([20, 6])), jnp.ones(26)))


#: One subject or more of each class; add a line for a new task.
FACTORIES: dict[type[Task], dict[str, Callable[[], Subject]]] = {
    SurfaceTask: {"chain": lambda: surface_subject(chain_of(skewed, (2.0, 9.0, 30.0), strikes=7))},
    SsviTask: {"essvi": lambda: wings_subject(Essvi()), "ssvi": lambda: wings_subject(Ssvi())},
    SviTask: {"expiry": expiry_subject},
    Regression: {"line": lambda: Subject(Regression(), data(20, 28))},
    Logistic: {"labels": lambda: Subject(Logistic(), data(20, 28))},
    Gaussian: {"likelihood": lambda: Subject(Gaussian(), data(20, 28))},
    Valley: {"curved": lambda: Subject(Valley(), data(3, 5))},
    Indexed: {"padded": indexed_subject},
}
NAMES = {f"{kind.__name__}, {name}": make for kind, makers in FACTORIES.items() for name, make in makers.items()}
SQUARES = [name for name in NAMES if not name.startswith(("Logistic", "Gaussian", "Indexed"))]


@pytest.mark.parametrize("kind", concrete_subclasses(Task), ids=lambda kind: kind.__name__)
def test_every_task_of_the_package_is_under_this_contract(kind):
    assert FACTORIES.get(kind) or kind in TASKS, f"give {kind.__qualname__} a factory in {__name__}"


@pytest.fixture(scope="module", params=NAMES)
def subject(request) -> Subject:
    return NAMES[request.param]()


@pytest.fixture(scope="module", params=SQUARES)
def squares(request) -> Subject:
    return NAMES[request.param]()


def variables_of(subject: Subject, seed: int = 0):
    """Variables somewhere around the start."""
    start = subject.task.init(jax.random.key(1))[0]
    flat, restore = ravel_pytree(start)
    return restore(flat + subject.scale * np.random.default_rng(seed).standard_normal(flat.size))


@jax.jit
def losses_of(task, variables, batch):
    return task.loss(variables, None, batch, jax.random.key(0))[0]


@jax.jit
def mean_and_slope(task, variables, batch):
    def mean(at):
        return mean_loss(task.loss(at, None, batch, jax.random.key(0))[0], batch)

    return jax.value_and_grad(mean)(variables)


@jax.jit
def metrics_of(task, variables, batch):
    return task.evaluate(variables, None, batch)


@jax.jit
def residuals_of(task, variables, batch):
    return task.residuals(variables, batch)


@jax.jit
def model_of(task, variables, batch):
    return gauss_newton(task, variables, batch)


@jax.jit
def dense_model_of(task, variables, batch):
    """Gradient and normal matrix from the residuals alone."""
    flat, restore = ravel_pytree(variables)
    found = task.residuals(variables, batch)
    jacobian = jax.jacfwd(lambda at: task.residuals(restore(at), batch).value)(flat)
    return jacobian.T @ (found.stiffness * found.value), jacobian.T @ (found.stiffness[:, None] * jacobian)


def test_the_start_is_finite_and_depends_on_the_key_only(subject):
    one, two = (subject.task.init(jax.random.key(3)) for _ in range(2))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(left, right)
        assert np.all(np.isfinite(left))


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_finite_one_a_cluster_and_so_is_their_slope(subject, seed):
    variables = variables_of(subject, seed)
    losses = losses_of(subject.task, variables, subject.data)
    assert losses.shape == (subject.data.clusters,)
    assert np.all(np.isfinite(losses))
    _, slope = mean_and_slope(subject.task, variables, subject.data)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))


def test_the_slope_is_that_of_differences(subject):
    variables = variables_of(subject)
    flat, restore = ravel_pytree(variables)
    along = np.random.default_rng(9).standard_normal(flat.size)
    _, slope = mean_and_slope(subject.task, variables, subject.data)
    h = 1e-6
    up, down = (mean_and_slope(subject.task, restore(flat + move * along), subject.data)[0] for move in (h, -h))
    assert float(ravel_pytree(slope)[0] @ along) == pytest.approx(float(up - down) / (2 * h), rel=1e-4, abs=1e-5)


def spoilt(batch: Batch) -> Batch:
    """The same batch with other rows where it is masked."""
    count = batch.clusters
    other = jnp.where(batch.mask, jnp.arange(count), jnp.arange(count)[::-1] % int(batch.mask.sum()))
    return Batch(jax.tree.map(lambda leaf: leaf[other], batch.rows), batch.mask, batch.weight)


def test_what_is_masked_does_not_matter(subject):
    variables, other = variables_of(subject), spoilt(subject.data)
    (one, slope), (two, slope_two) = (mean_and_slope(subject.task, variables, batch) for batch in (subject.data, other))
    assert float(one) == pytest.approx(float(two), rel=1e-12)
    np.testing.assert_allclose(ravel_pytree(slope)[0], ravel_pytree(slope_two)[0], rtol=1e-9, atol=1e-12)
    metrics, metrics_two = (metrics_of(subject.task, variables, batch) for batch in (subject.data, other))
    for name, value in metrics.items():
        np.testing.assert_allclose(value, metrics_two[name], rtol=1e-12)


def test_the_losses_of_parts_add_up_to_those_of_the_whole(subject):
    """A batch carries its share of whatever is not about single clusters (a prior)."""
    variables = variables_of(subject)
    real = int(subject.data.mask.sum())
    half = jnp.arange(subject.data.clusters).reshape(-1, 1)
    whole = np.asarray(losses_of(subject.task, variables, subject.data))[:real]
    some = [0, real // 2, real - 1]
    for place in some:
        part = losses_of(subject.task, variables, take(subject.data, half[place]))
        np.testing.assert_allclose(part[0], whole[place], rtol=1e-9)


def test_residual_losses_sum_to_the_loss(squares):
    variables = variables_of(squares)
    found = residuals_of(squares.task, variables, squares.data)
    weight = np.where(squares.data.mask, squares.data.weight, 0.0)
    expected = weight @ np.asarray(losses_of(squares.task, variables, squares.data))
    assert float(found.loss) == pytest.approx(expected, rel=1e-11)
    assert np.all(np.isfinite(found.value))
    assert np.all(np.asarray(found.stiffness) >= 0.0)


@pytest.mark.parametrize("seed", range(2))
def test_the_slope_from_residuals_is_the_slope_of_the_loss(squares, seed):
    assert isinstance(squares.task, LeastSquares)
    variables = variables_of(squares, seed)
    gradient, _ = dense_model_of(squares.task, variables, squares.data)
    _, slope = mean_and_slope(squares.task, variables, squares.data)
    weight = float(jnp.where(squares.data.mask, squares.data.weight, 0.0).sum())
    np.testing.assert_allclose(gradient, weight * ravel_pytree(slope)[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(2))
def test_the_tasks_own_gauss_newton_model_is_that_of_its_residuals(squares, seed):
    """To single precision: the accuracy that a step needs."""
    variables = variables_of(squares, seed)
    model = model_of(squares.task, variables, squares.data)
    gradient, normal = dense_model_of(squares.task, variables, squares.data)
    loss = residuals_of(squares.task, variables, squares.data).loss
    assert float(model.loss) == pytest.approx(float(loss), rel=1e-11)
    np.testing.assert_allclose(model.gradient, gradient, atol=1e-5 * np.abs(gradient).max())
    np.testing.assert_allclose(model.normal, normal, atol=1e-5 * np.abs(normal).max())
    np.testing.assert_allclose(model.normal, model.normal.T, atol=1e-6 * np.abs(normal).max())


def test_a_part_has_the_residual_losses_of_its_clusters(squares):
    variables = variables_of(squares)
    part = take(squares.data, jnp.arange(2))
    found = residuals_of(squares.task, variables, part)
    assert float(found.loss) == pytest.approx(float(losses_of(squares.task, variables, part).sum()), rel=1e-11)


def test_compiled_and_plain_agree(subject):
    variables = variables_of(subject)
    plain = subject.task.loss(variables, None, subject.data, jax.random.key(0))[0]
    compiled = losses_of(subject.task, variables, subject.data)
    np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-12)


def test_two_at_once_are_each_alone(subject):
    both = [variables_of(subject, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (subject.task, subject.data))
    together = jax.jit(jax.vmap(lambda task, batch, at: task.loss(at, None, batch, None)[0]))(*doubled, stacked)
    for index, one in enumerate(both):
        np.testing.assert_allclose(together[index], losses_of(subject.task, one, subject.data), rtol=1e-8, atol=1e-12)


def test_metrics_are_named_numbers(subject):
    metrics = metrics_of(subject.task, variables_of(subject), subject.data)
    assert metrics
    for name, value in metrics.items():
        assert isinstance(name, str)
        assert np.isfinite(float(value))
