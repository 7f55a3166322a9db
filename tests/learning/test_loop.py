"""The loop: same for every task and optimiser, tells how it ended, and never ends worse than it began."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.learning.problems import (
    OPTIMIZERS,
    RULES,
    Cliff,
    Gaussian,
    Logistic,
    Regression,
    Valley,
    data,
    flat,
    outcome,
    run,
    solution,
)
from volgrad.learning.training.first_order import adam, sgd
from volgrad.learning.training.loop import Outcome, Rules, begin, fit
from volgrad.learning.training.state import mean_loss

every = pytest.mark.parametrize("name", OPTIMIZERS)
each_kind = pytest.mark.parametrize("name", ["lm", "adam"])  # of optimiser class, where programs are dear
ADAM = adam(0.05, steps=3000)
ROWS = 40


def loss_of(task, variables, batch):
    return float(mean_loss(task.loss(variables, None, batch, jax.random.key(0))[0], batch))


@every
@pytest.mark.parametrize("size", [8, ROWS])
def test_every_optimizer_reaches_the_same_minimum_on_any_batch_size(name, size):
    done = run(Regression(), OPTIMIZERS[name], data(), size)
    least = loss_of(Regression(), {"slope": solution(data())[:3], "level": solution(data())[3]}, data())
    # Gauss-Newton solves each small batch nearly exactly: its last word is a batch's
    assert float(done.loss) <= (1.25 if name == "lm" and size < ROWS else 1.05) * least
    np.testing.assert_allclose(flat(done.state.variables), solution(data()), atol=0.05)
    assert outcome(done) in (Outcome.CONVERGED, Outcome.STALLED)


def test_gauss_newton_on_a_line_is_done_in_a_few_passes():
    done = run(Regression(), OPTIMIZERS["lm"], data(), ROWS)
    assert outcome(done) is Outcome.CONVERGED
    assert int(done.epochs) <= 4
    np.testing.assert_allclose(flat(done.state.variables), solution(data()), atol=1e-6)


@pytest.mark.parametrize("task", [Logistic(), Gaussian(), Valley()], ids=lambda task: type(task).__name__)
def test_another_task_changes_nothing_else(task):
    """Not squares, below zero, curved: the loop, the optimiser and the rules are the same."""
    batch = data(noise=6.0)
    done = run(task, ADAM, batch, ROWS, Rules(epochs=1500))
    assert outcome(done) in (Outcome.CONVERGED, Outcome.STALLED)
    slope = jax.grad(lambda v: mean_loss(task.loss(v, None, batch, None)[0], batch))(done.state.variables)
    steep = jax.grad(lambda v: mean_loss(task.loss(v, None, batch, None)[0], batch))(task.init(jax.random.key(0))[0])
    assert np.linalg.norm(slope) < 0.02 * np.linalg.norm(steep)
    if isinstance(task, Gaussian):
        target = np.asarray(batch.rows[1])
        np.testing.assert_allclose(done.state.variables, [target.mean(), np.log(target.std())], atol=0.05)
    if isinstance(task, Valley):
        np.testing.assert_allclose(done.state.variables, 1.0, atol=0.15)


def test_gauss_newton_follows_a_curved_valley_to_its_end():
    done = run(Valley(), OPTIMIZERS["lm"], data(), ROWS)
    assert outcome(done) is Outcome.CONVERGED
    np.testing.assert_allclose(done.state.variables, [1.0, 1.0], atol=1e-3)


@every
def test_exact_data_are_no_divergence(name):
    """A loss that goes to zero: ten times next to nothing is still nothing."""
    done = run(Regression(), OPTIMIZERS[name], data(noise=0.0), ROWS)
    assert outcome(done) in (Outcome.CONVERGED, Outcome.STALLED)
    assert int(done.rollbacks) == 0
    np.testing.assert_allclose(flat(done.state.variables), [1.0, -2.0, 0.5, 0.3], atol=0.02)


@every
@pytest.mark.parametrize("size", [8, ROWS])
def test_a_fit_from_the_minimum_has_converged_there(name, size):
    best = solution(data())
    start = {"slope": jnp.asarray(best[:3]), "level": jnp.asarray(best[3])}
    done = run(Regression(), OPTIMIZERS[name], data(), size, start=start)
    assert float(done.loss) <= loss_of(Regression(), start, data()) * (1.0 + 1e-12)
    np.testing.assert_allclose(flat(done.state.variables), best, atol=1e-3)
    assert outcome(done) is Outcome.CONVERGED


def test_steps_too_small_to_arrive_have_not_converged():
    done = run(Regression(), adam(1e-9, steps=400), data(), ROWS)
    assert outcome(done) is Outcome.STALLED
    assert "short of a minimum" in outcome(done).advice


def test_a_budget_that_is_too_small_is_told():
    done = run(Regression(), OPTIMIZERS["sgd"], data(), ROWS, Rules(epochs=3))
    assert outcome(done) is Outcome.STALLED
    assert int(done.epochs) == 3


@pytest.mark.parametrize("size", [8, ROWS])
def test_an_absurd_learning_rate_is_rolled_back_and_told(size):
    """The gradient is cut to length 10, so a rate of 1e6 throws the variables 1e7 away."""
    done = run(Regression(), sgd(1e6, momentum=0.0, steps=10), data(), size)
    assert outcome(done) is Outcome.DIVERGED
    assert int(done.rollbacks) > Rules().rollbacks
    assert np.all(np.isfinite(flat(done.state.variables)))
    assert float(done.loss) <= float(done.curve[0])
    assert "learning rate" in outcome(done).advice


def test_a_learning_rate_somewhat_too_large_is_mended_by_rolling_back():
    done = run(Regression(), sgd(30.0, momentum=0.0, steps=10_000), data(), ROWS)
    assert int(done.rollbacks) >= 1
    assert outcome(done) is Outcome.CONVERGED
    np.testing.assert_allclose(flat(done.state.variables), solution(data()), atol=0.02)


@every
def test_a_loss_that_is_not_finite_somewhere_is_rolled_back_from(name):
    """The minimum lies beyond the cliff (slope -2, edge 1): what is kept is the best on this side."""
    task = Cliff()
    done = run(task, OPTIMIZERS[name], data(), ROWS)
    assert outcome(done) in (Outcome.DIVERGED, Outcome.STALLED)
    found = flat(done.state.variables)
    assert np.all(np.isfinite(found))
    assert np.abs(found[:3]).max() <= 1.0
    assert np.isfinite(float(done.loss))
    assert float(done.loss) < 0.7 * float(done.curve[0])
    assert float(done.loss) == pytest.approx(loss_of(task, done.state.variables, data()), rel=1e-12)


@pytest.mark.parametrize(("name", "epochs"), [*((name, RULES.epochs) for name in OPTIMIZERS), ("adam", 3)])
def test_a_loss_that_is_nowhere_finite_is_told_and_the_start_is_kept(name, epochs):
    """With fewer epochs than roll-backs, too."""
    start = {"slope": jnp.full(3, 2.0), "level": jnp.zeros(())}
    done = run(Cliff(), OPTIMIZERS[name], data(), ROWS, Rules(epochs=epochs), start=start)
    assert outcome(done) is Outcome.DIVERGED
    np.testing.assert_array_equal(flat(done.state.variables), [2.0, 2.0, 2.0, 0.0])


@every
@pytest.mark.parametrize("size", [8, ROWS])
def test_the_best_variables_are_kept_and_their_loss_told(name, size):
    done = run(Regression(), OPTIMIZERS[name], data(), size)
    curve = np.asarray(done.curve)
    reached = curve[: int(done.epochs) + 1]
    assert np.all(np.isfinite(reached))
    assert np.all(np.isnan(curve[int(done.epochs) + 1 :]))
    assert float(done.loss) == pytest.approx(reached.min(), rel=1e-12)
    assert float(done.loss) == pytest.approx(loss_of(Regression(), done.state.variables, data()), rel=1e-9)
    assert reached[0] == pytest.approx(loss_of(Regression(), Regression().init(None)[0], data()), rel=1e-12)
    assert int(done.state.samples) == ROWS * int(done.epochs)


def test_a_stall_has_a_remedy_before_it_is_final():
    """Noise of single clusters holds descent at a distance: the plateau makes the step smaller, and it goes on."""
    optimizer = adam(0.3, steps=100_000)
    stopped, mended = (
        run(Regression(), optimizer, data(noise=1.0), 1, RULES._replace(restarts=count)) for count in (0, 4)
    )
    assert int(stopped.restarts) == 0
    assert int(mended.restarts) >= 1
    assert float(mended.loss) <= float(stopped.loss)


@each_kind
@pytest.mark.parametrize("size", [8, ROWS])
def test_padding_changes_nothing(name, size):
    """To the bit for mini-batches (the same steps); to rounding for the whole, whose sums are longer."""
    exact = run(Regression(), OPTIMIZERS[name], data(), size)
    padded = run(Regression(), OPTIMIZERS[name], data(ROWS, 64), size if size < ROWS else 64)
    assert outcome(exact) is outcome(padded)
    assert int(exact.epochs) == int(padded.epochs)
    np.testing.assert_allclose(flat(exact.state.variables), flat(padded.state.variables), rtol=1e-9)


@every
def test_the_same_seed_gives_the_same_bits_and_another_seed_another_path(name):
    runs = [run(Regression(), OPTIMIZERS[name], data(), 8, seed=seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(flat(runs[0].state.variables), flat(runs[1].state.variables))
    np.testing.assert_array_equal(runs[0].curve, runs[1].curve)
    assert not np.array_equal(flat(runs[0].state.variables), flat(runs[2].state.variables))


@each_kind
def test_many_data_sets_at_once_are_fitted_as_each_alone(name):
    optimizer, size = OPTIMIZERS[name], 8
    alone = [run(Regression(), optimizer, data(seed=seed), size, seed=7) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[data(seed=seed) for seed in range(3)])

    def one(batch):
        return fit(Regression(), optimizer, batch, begin(Regression(), optimizer, jax.random.key(7)), size, RULES)

    together = jax.jit(jax.vmap(one))(stacked)
    for index, single in enumerate(alone):
        assert int(together.outcome[index]) == int(single.outcome)
        assert int(together.epochs[index]) == int(single.epochs)
        np.testing.assert_allclose(together.state.variables["slope"][index], single.state.variables["slope"], rtol=1e-8)


def test_every_outcome_says_what_to_do():
    assert all(len(one.advice) > 10 for one in Outcome)
