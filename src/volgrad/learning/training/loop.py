"""The loop around the step: draws batches, judges progress, rolls back, ends, and says how it ended.

All of it is compiled: one dispatch fits a whole data set, and under `vmap` many data sets at once.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Int8, PRNGKeyArray, PyTree

from volgrad.learning.batching.batch import Batch, epoch_order, take
from volgrad.learning.training.state import Info, Optimizer, State, mean_loss
from volgrad.learning.training.task import Task

__all__ = ["Fit", "Outcome", "Rules", "begin", "fit", "make_step"]


class Outcome(enum.IntEnum):
    """How a fit ended. `advice` says what follows from it."""

    RUNNING = 0
    CONVERGED = 1
    STALLED = 2
    DIVERGED = 3

    @property
    def advice(self) -> str:
        """What it means and what to do."""
        return _ADVICE[self]


_ADVICE = {
    Outcome.RUNNING: "still running",
    Outcome.CONVERGED: "another step promises less than the tolerance",
    Outcome.STALLED: (
        "ended short of a minimum, remedies included: the best variables are kept; another optimizer or batch "
        "size may get further"
    ),
    Outcome.DIVERGED: (
        "the loss ran away or was not finite, even after the step was cut: rolled back to the best variables; "
        "a lower learning rate, a larger batch or another optimizer may help; check the data for extreme values"
    ),
}


class Rules(NamedTuple):
    """When to stop, and what to do before giving up.

    epochs: most passes over the data.
    tolerance: share of the loss that an epoch must gain to count as progress.
    runaway: multiple of the best loss that counts as divergence.
    rollbacks: returns to the best variables, each with a smaller step, before the fit counts as diverged.
    restarts: remedies for a stall (a smaller step from the best variables, or a kick: `Optimizer.kick`) before
        it is final.
    """

    epochs: int = 60
    tolerance: float = 1e-4
    runaway: float = 10.0
    rollbacks: int = 4
    restarts: int = 2


class Fit(NamedTuple):
    """A finished fit.

    state: holds the best variables found.
    outcome: code of `Outcome`.
    loss: mean loss over all data there.
    epochs, rollbacks, restarts: how many.
    curve: mean loss over all data after each epoch; NaN where not reached. Shape: (rules.epochs + 1,).
    """

    state: State
    outcome: Int8[Array, ""]
    loss: Float[Array, ""]
    epochs: Int[Array, ""]
    rollbacks: Int[Array, ""]
    restarts: Int[Array, ""]
    curve: Float[Array, " epochs"]


class _Progress(NamedTuple):
    state: State
    best: PyTree
    first_loss: Float[Array, ""]
    best_loss: Float[Array, ""]
    mark_loss: Float[Array, ""]
    quiet: Int[Array, ""]
    epochs: Int[Array, ""]
    rollbacks: Int[Array, ""]
    restarts: Int[Array, ""]
    outcome: Int8[Array, ""]
    curve: Float[Array, " epochs"]


def begin(task: Task, optimizer: Optimizer, key: PRNGKeyArray, variables: PyTree | None = None) -> State:
    """The state before the first step; `variables` is a warm start."""
    drawn, statistics = task.init(key)
    variables = drawn if variables is None else variables
    return State(variables, statistics, optimizer.init(variables), key, jnp.zeros((), int))


def make_step(task: Task, optimizer: Optimizer):
    """The step `(state, batch) -> (state, info)`: the same one for history, for live data and inside `fit`."""

    def step(state: State, batch: Batch) -> tuple[State, Info]:
        return optimizer.step(task, state, batch)

    return step


def fit(task: Task, optimizer: Optimizer, data: Batch, state: State, size: int, rules: Rules) -> Fit:
    """Fit `task` to `data` by steps on shuffled batches of `size` clusters. Pure: compile it, or `vmap` it.

    After each epoch the loss over all data decides: progress; a roll-back to the best variables with a smaller step
    (loss not finite, or `runaway` times the best); nothing gained for the optimiser's `patience`, then its remedy; the
    end. A fit that stopped for want of progress counts as converged only if a gradient step of the best length promises
    no progress either.
    """
    step = make_step(task, optimizer)
    whole = size >= data.clusters

    def full_loss(variables, statistics):
        return mean_loss(task.loss(variables, statistics, data, state.key)[0], data)

    def real_step(carry, index):
        current, last = carry
        batch = take(data, index)
        moved, info = step(current, batch)
        real = jnp.asarray(batch.mask).any()  # places beyond the data may fill whole batches
        return (_where(real, moved, current), _where(real, info, last)), None

    def epoch(progress: _Progress) -> _Progress:
        if whole:
            moved, info = step(progress.state, data)
        else:
            order = epoch_order(data, size, progress.state.key, progress.epochs)
            first_moved, first_info = step(progress.state, take(data, order[0]))
            (moved, info), _ = jax.lax.scan(real_step, (first_moved, first_info), order[1:])
            # what one batch promises says nothing of the whole
            info = info._replace(expected=jnp.full_like(info.expected, jnp.nan))
        loss = info.loss if whole and optimizer.knows_new_loss else full_loss(moved.variables, moved.statistics)
        return _judge(progress, moved, loss, info, optimizer, rules)

    first = full_loss(state.variables, state.statistics)
    curve = jnp.full(rules.epochs + 1, jnp.nan, first.dtype).at[0].set(first)
    zero = jnp.zeros((), jnp.int32)
    running = jnp.asarray(Outcome.RUNNING, jnp.int8)
    first = jnp.where(jnp.isfinite(first), first, jnp.inf)
    progress = _Progress(state, state.variables, first, first, first, zero, zero, zero, zero, running, curve)
    done = jax.lax.while_loop(lambda p: p.outcome == Outcome.RUNNING, epoch, progress)
    final = eqx.tree_at(lambda s: s.variables, done.state, done.best)
    outcome = done.outcome
    if not (whole and optimizer.knows_new_loss):
        promised = _cauchy_gain(lambda at: full_loss(at, done.state.statistics), done.best)
        flat = promised <= rules.tolerance * _scale(done.best_loss, done.first_loss)
        outcome = jnp.where((outcome == Outcome.STALLED) & flat, Outcome.CONVERGED, outcome)
    return Fit(
        final,
        outcome.astype(jnp.int8),
        done.best_loss,
        done.epochs,
        done.rollbacks,
        done.restarts,
        done.curve,
    )


def _judge(
    progress: _Progress, moved: State, loss: Float[Array, ""], info: Info, optimizer: Optimizer, rules: Rules
) -> _Progress:
    epochs = progress.epochs + 1
    scale = _scale(progress.best_loss, progress.first_loss)
    wild = ~(loss <= progress.best_loss + (rules.runaway - 1.0) * scale)  # True for NaN
    better = loss < progress.best_loss
    # measured from the last mark, so that many small gains count; True from an infinite start
    gained = better & ~(progress.mark_loss - loss <= rules.tolerance * scale)
    quiet = jnp.where(gained, 0, progress.quiet + 1)
    best = _where(better, moved.variables, progress.best)
    settled = ~wild & (info.expected <= rules.tolerance * scale)  # False where the optimiser has no model
    tired = (quiet >= optimizer.patience) & ~settled & ~wild
    rollbacks = progress.rollbacks + wild
    restart = tired & (progress.restarts < rules.restarts)
    finite = jnp.isfinite(jnp.where(better, loss, progress.best_loss))
    spent = jnp.where(finite, Outcome.STALLED, Outcome.DIVERGED)
    outcome = jnp.where(epochs >= rules.epochs, spent, Outcome.RUNNING)
    outcome = jnp.where(tired & ~restart, Outcome.STALLED, outcome)
    outcome = jnp.where(settled, Outcome.CONVERGED, outcome)
    outcome = jnp.where(rollbacks > rules.rollbacks, Outcome.DIVERGED, outcome)
    return _Progress(
        state=_resume(progress, moved, best, wild, restart, optimizer, epochs),
        best=best,
        first_loss=progress.first_loss,
        best_loss=jnp.where(better, loss, progress.best_loss),
        mark_loss=jnp.where(gained, loss, progress.mark_loss),
        quiet=jnp.where(wild | restart, 0, quiet),
        epochs=epochs,
        rollbacks=rollbacks,
        restarts=progress.restarts + restart,
        outcome=outcome.astype(jnp.int8),
        curve=progress.curve.at[epochs].set(loss),
    )


def _resume(
    progress: _Progress,
    moved: State,
    best: PyTree,
    wild: Bool[Array, ""],
    restart: Bool[Array, ""],
    optimizer: Optimizer,
    epochs: Int[Array, ""],
) -> State:
    """The state to go on from: as moved, or the best variables with a smaller step, kicked where it is a restart."""
    key = jax.random.fold_in(jax.random.fold_in(moved.key, 1), epochs)
    leaves, tree = jax.tree.flatten(best)
    keys = jax.random.split(key, len(leaves))
    noise = [
        optimizer.kick * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    kicked = jax.tree.unflatten(tree, [leaf + shift for leaf, shift in zip(leaves, noise, strict=True)])
    variables = _where(wild, best, _where(restart, kicked, moved.variables))
    smaller = optimizer.shrink(_where(wild, progress.state.optimizer, moved.optimizer))
    fresh = optimizer.init(best) if optimizer.kick else smaller
    following = _where(wild, smaller, _where(restart, fresh, moved.optimizer))
    return State(variables, moved.statistics, following, moved.key, moved.samples)


def _scale(best: Float[Array, ""], first: Float[Array, ""]) -> Float[Array, ""]:
    """What losses are compared with: they may be negative (a log-likelihood) or vanish (exact data)."""
    return jnp.maximum(jnp.abs(best), 1e-3 * jnp.where(jnp.isfinite(first), jnp.abs(first), 0.0))


def _cauchy_gain(loss: Callable[[PyTree], Float[Array, ""]], variables: PyTree) -> Float[Array, ""]:
    """What a step along the gradient would gain, of the length that is best for the local quadratic."""
    gradient = jax.grad(loss)(variables)
    bent = jax.jvp(jax.grad(loss), (variables,), (gradient,))[1]
    square = jnp.asarray(optax.tree.vdot(gradient, gradient))
    along = jnp.maximum(jnp.asarray(optax.tree.vdot(gradient, bent)), jnp.finfo(square.dtype).tiny)
    return 0.5 * square**2 / along


def _where(condition: Bool[Array, ""], one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
