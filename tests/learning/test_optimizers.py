"""One contract, `step(state, batch) -> (state, info)`, whatever is learned and however it is stepped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.discovery import concrete_subclasses
from tests.learning.problems import OPTIMIZERS, Logistic, Regression, Valley, data, flat, run, solution
from volgrad.errors import InputError
from volgrad.learning.batching.batch import take
from volgrad.learning.training.first_order import from_optax
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import begin, make_step
from volgrad.learning.training.state import Optimizer

every = pytest.mark.parametrize("name", OPTIMIZERS)


def test_every_optimizer_of_the_package_is_tested_here():
    tested = {type(one) for one in OPTIMIZERS.values()}
    assert set(concrete_subclasses(Optimizer)) == tested


@every
def test_a_step_takes_a_state_and_gives_one_of_the_same_kind(name):
    task, optimizer, batch = Regression(), OPTIMIZERS[name], data(20, 24)
    state = begin(task, optimizer, jax.random.key(0))
    moved, info = jax.jit(make_step(task, optimizer))(state, batch)
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert int(moved.samples) == 20  # padding is not counted
    assert np.isfinite(float(info.loss))
    np.testing.assert_array_equal(jax.random.key_data(moved.key), jax.random.key_data(state.key))


@every
def test_a_step_is_pure(name):
    task, optimizer, batch = Regression(), OPTIMIZERS[name], data()
    step, state = jax.jit(make_step(task, optimizer)), begin(Regression(), OPTIMIZERS[name], jax.random.key(0))
    one, two = step(state, batch), step(state, batch)
    for left, right in zip(jax.tree.leaves(one[0].variables), jax.tree.leaves(two[0].variables), strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(flat(state.variables), np.zeros(4))


@every
def test_a_small_step_lowers_the_loss_of_its_batch(name):
    task, optimizer, batch = Regression(), OPTIMIZERS[name], data()
    step, state = jax.jit(make_step(task, optimizer)), begin(task, optimizer, jax.random.key(0))
    before = float(task.loss(state.variables, None, batch, None)[0].mean())
    for _ in range(5):
        state, _ = step(state, batch)
    assert float(task.loss(state.variables, None, batch, None)[0].mean()) < before


@every
def test_what_is_padded_does_not_move_a_step(name):
    task, optimizer = Regression(), OPTIMIZERS[name]
    step = jax.jit(make_step(task, optimizer))
    found = [step(begin(task, optimizer, jax.random.key(0)), data(20, places))[0] for places in (20, 33)]
    np.testing.assert_allclose(flat(found[0].variables), flat(found[1].variables), rtol=1e-12)


@every
def test_shrinking_makes_the_next_step_shorter(name):
    task, optimizer, batch = Regression(), OPTIMIZERS[name], data()
    step, state = jax.jit(make_step(task, optimizer)), begin(task, optimizer, jax.random.key(0))
    shrunk = state.optimizer
    for _ in range(6):
        shrunk = optimizer.shrink(shrunk)
    smaller = begin(task, optimizer, jax.random.key(0))
    smaller = type(state)(smaller.variables, None, shrunk, smaller.key, smaller.samples)
    long, short = (np.linalg.norm(flat(step(one, batch)[0].variables)) for one in (state, smaller))
    assert 0.0 < short < 0.6 * long


def test_gauss_newton_solves_linear_least_squares_in_one_step():
    task, batch = Regression(), data()
    optimizer = LevenbergMarquardt(damping=1e-9)
    moved, info = jax.jit(make_step(task, optimizer))(begin(task, optimizer, jax.random.key(0)), batch)
    np.testing.assert_allclose(flat(moved.variables), solution(batch), atol=1e-7)
    assert bool(info.accepted)


def test_gauss_newton_minds_the_weights():
    task, batch = Regression(), data()
    weight = np.linspace(0.1, 5.0, 40)
    batch = type(batch)(batch.rows, batch.mask, jnp.asarray(weight))
    optimizer = LevenbergMarquardt(damping=1e-9)
    moved, _ = jax.jit(make_step(task, optimizer))(begin(task, optimizer, jax.random.key(0)), batch)
    np.testing.assert_allclose(flat(moved.variables), solution(batch), atol=1e-6)


def test_gauss_newton_takes_no_step_that_raises_the_loss():
    task, optimizer, batch = Valley(), LevenbergMarquardt(damping=1e-9), data(3)
    step, state = jax.jit(make_step(task, optimizer)), begin(Valley(), optimizer, jax.random.key(0))
    last, refused = np.inf, 0
    for _ in range(30):
        moved, info = step(state, batch)
        assert float(info.loss) <= last
        if not info.accepted:
            refused += 1
            np.testing.assert_array_equal(moved.variables, state.variables)
            assert float(moved.optimizer.damping) > float(state.optimizer.damping)
        last, state = float(info.loss), moved
    assert refused > 0


def test_gauss_newton_refuses_a_task_without_residuals_and_says_what_to_do():
    with pytest.raises(InputError, match="Logistic has no residuals: use Adam or SGD"):
        run(Logistic(), OPTIMIZERS["lm"], data(), 40)


def test_variables_that_do_nothing_do_no_harm():
    """A column of zeros in the Jacobian: the normal matrix has no inverse, the damped one must."""
    batch = data()
    features, target = batch.rows
    idle = type(batch)((features.at[:, 1].set(0.0), target), batch.mask, batch.weight)
    done = run(Regression(), OPTIMIZERS["lm"], idle, 40)
    found = flat(done.state.variables)
    assert np.all(np.isfinite(found))
    assert found[1] == 0.0
    np.testing.assert_allclose(found[[0, 2, 3]], solution(idle)[[0, 2, 3]], atol=1e-6)


def test_any_optax_transformation_is_an_optimizer():
    optimizer = from_optax(optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.01)))
    done = run(Regression(), optimizer, data(), 8)
    np.testing.assert_allclose(flat(done.state.variables), solution(data()), atol=0.1)


@every
def test_variables_in_single_precision_stay_so_while_the_process_is_in_double(name):
    task = Regression(jnp.ones((), jnp.float32))
    batch = data(dtype=np.float32)
    done = run(task, OPTIMIZERS[name], batch, 16)
    assert done.state.variables["slope"].dtype == jnp.float32
    assert np.all(np.isfinite(flat(done.state.variables)))


def test_a_batch_of_one_cluster_is_a_batch():
    task, batch = Regression(), take(data(), jnp.asarray([3]))
    for name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name]
        moved, info = jax.jit(make_step(task, optimizer))(begin(task, optimizer, jax.random.key(0)), batch)
        assert np.all(np.isfinite(flat(moved.variables)))
        assert np.isfinite(float(info.loss))
