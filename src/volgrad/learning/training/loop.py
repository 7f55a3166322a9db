"""The loop around the step: draws batches, judges progress, rolls back, ends, and says how it ended.

All of it is compiled: one dispatch fits a whole data set, and under `vmap` many data sets at once.
"""

import enum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
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
    Outcome.CONVERGED: "no step promises a further gain",
    Outcome.STALLED: (
        "ended short of a minimum, restarts included: the best variables are kept; allow more epochs, "
        "or use the lm optimizer"
    ),
    Outcome.DIVERGED: (
        "the loss ran away or was not finite, even after the step was cut: rolled back to the best variables; "
        "lower the learning rate, or check the data for extreme values"
    ),
}


class Rules(NamedTuple):
    """When to stop, and what to do before giving up.

    epochs: most passes over the data.
    tolerance: of the loss that an epoch must gain to count as progress.
    runaway: multiple of the best loss that counts as divergence.
    rollbacks: returns to the best variables, each with a smaller step, before the fit counts as diverged.
    restarts: kicks out of a stall (noise on the variables of `kick` standard deviations) before it is final.
    """

    epochs: int = 60
    tolerance: float = 1e-4
    runaway: float = 10.0
    rollbacks: int = 4
    restarts: int = 1
    kick: float = 0.05


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
    best_loss: Float[Array, ""]
    quiet: Int[Array, ""]
    epochs: Int[Array, ""]
    rollbacks: Int[Array, ""]
    restarts: Int[Array, ""]
    outcome: Int8[Array, ""]
    curve: Float[Array, " epochs"]


def begin(task: Task, optimizer: Optimizer, key: PRNGKeyArray, variables: PyTree | None = None) -> State:
    """The state before the first step; `variables` is a warm start."""
    if variables is None:
        variables = task.init(key)
    return State(variables, None, optimizer.init(variables), key, jnp.zeros((), jnp.int32))


def make_step(task: Task, optimizer: Optimizer):
    """The step `(state, batch) -> (state, info)`: the same one for history, for live data and inside `fit`."""

    def step(state: State, batch: Batch) -> tuple[State, Info]:
        return optimizer.step(task, state, batch)

    return step


def fit(task: Task, optimizer: Optimizer, data: Batch, state: State, size: int, rules: Rules) -> Fit:
    """Fit `task` to `data` by steps on shuffled batches of `size` clusters. Pure: compile it, or `vmap` it.

    After each epoch the loss over all data decides: progress; a roll-back to the best variables with a smaller step
    (loss not finite, or `runaway` times the best); nothing gained for the optimiser's `patience`, then a smaller
    step or a restart; the end.
    """
    step = make_step(task, optimizer)
    whole = size >= data.clusters

    def full_loss(variables):
        return mean_loss(task.loss(variables, data, state.key)[0], data)

    def epoch(progress: _Progress) -> _Progress:
        if whole:
            moved, info = step(progress.state, data)
        else:
            order = epoch_order(data, size, progress.state.key, progress.epochs)
            moved, infos = jax.lax.scan(lambda carry, index: step(carry, take(data, index)), progress.state, order)
            info = jax.tree.map(lambda leaf: leaf[-1], infos)
        loss = info.loss if whole and optimizer.knows_new_loss else full_loss(moved.variables)
        return _judge(progress, moved, loss, info, optimizer, rules)

    first = full_loss(state.variables)
    curve = jnp.full(rules.epochs + 1, jnp.nan, first.dtype).at[0].set(first)
    zero = jnp.zeros((), jnp.int32)
    running = jnp.asarray(Outcome.RUNNING, jnp.int8)
    first = jnp.where(jnp.isfinite(first), first, jnp.inf)
    progress = _Progress(state, state.variables, first, zero, zero, zero, zero, running, curve)
    done = jax.lax.while_loop(lambda p: p.outcome == Outcome.RUNNING, epoch, progress)
    final = eqx.tree_at(lambda s: s.variables, done.state, done.best)
    return Fit(final, done.outcome, done.best_loss, done.epochs, done.rollbacks, done.restarts, done.curve)


def _judge(
    progress: _Progress, moved: State, loss: Float[Array, ""], info: Info, optimizer: Optimizer, rules: Rules
) -> _Progress:
    epochs = progress.epochs + 1
    wild = ~(loss <= rules.runaway * progress.best_loss)  # True for NaN
    better = loss < progress.best_loss
    gained = progress.best_loss - loss > rules.tolerance * progress.best_loss
    quiet = jnp.where(gained, 0, progress.quiet + 1)
    best = _where(better, moved.variables, progress.best)
    small = rules.tolerance * progress.best_loss
    settled = jnp.where(jnp.isnan(info.expected), quiet >= optimizer.patience, info.expected <= small)
    stuck = (quiet >= 4 * optimizer.patience) & ~settled
    rollbacks = progress.rollbacks + wild
    restart = stuck & (progress.restarts < rules.restarts)
    restarts = progress.restarts + restart
    outcome = jnp.where(epochs >= rules.epochs, Outcome.STALLED, Outcome.RUNNING)
    outcome = jnp.where(stuck & ~restart, Outcome.STALLED, outcome)
    outcome = jnp.where(settled & ~wild, Outcome.CONVERGED, outcome)
    outcome = jnp.where(wild, jnp.where(rollbacks > rules.rollbacks, Outcome.DIVERGED, Outcome.RUNNING), outcome)
    outcome = jnp.where(epochs >= rules.epochs, jnp.maximum(outcome, Outcome.CONVERGED), outcome)
    state = _resume(progress, moved, best, wild, restart, optimizer, rules, epochs)
    return _Progress(
        state=state,
        best=best,
        best_loss=jnp.where(better, loss, progress.best_loss),
        quiet=jnp.where(wild | restart, 0, quiet),
        epochs=epochs,
        rollbacks=rollbacks,
        restarts=restarts,
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
    rules: Rules,
    epochs: Int[Array, ""],
) -> State:
    """The state to go on from: as moved, rolled back with a smaller step, or kicked out of a stall."""
    key = jax.random.fold_in(moved.key, epochs + rules.epochs)
    leaves, tree = jax.tree.flatten(best)
    keys = jax.random.split(key, len(leaves))
    noisy = [leaf + rules.kick * jax.random.normal(k, leaf.shape, leaf.dtype) for leaf, k in zip(leaves, keys)]
    variables = _where(wild, best, _where(restart, jax.tree.unflatten(tree, noisy), moved.variables))
    smaller = optimizer.shrink(_where(wild, progress.state.optimizer, moved.optimizer))
    fresh = _where(restart, optimizer.init(best), moved.optimizer)
    return State(variables, moved.statistics, _where(wild, smaller, fresh), moved.key, moved.samples)


def _where(condition: Bool[Array, ""], one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
