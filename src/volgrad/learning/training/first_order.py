"""Stochastic gradient descent with any optax transformation, on the same contract as Gauss-Newton."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.state import Info, Optimizer, State, mean_loss
from volgrad.learning.training.task import Task

__all__ = ["FirstOrder", "adam", "sgd"]


class _Descent(NamedTuple):
    inner: PyTree
    scale: Float[Array, ""]


class FirstOrder(Optimizer):
    """Descent along the gradient of the batch's mean loss, transformed by `transformation`.

    Attributes:
        transformation: from optax, schedule included.
    """

    transformation: optax.GradientTransformation = eqx.field(static=True)

    @property
    def knows_new_loss(self) -> bool:
        """False: the loss of a batch is known before the step only."""
        return False

    @property
    def patience(self) -> int:
        """Epochs whose noise, or a schedule's warm-up, may hide progress (assumption)."""
        return 40

    @property
    def kick(self) -> float:
        """None: a plateau is left by a smaller step from the best variables."""
        return 0.0

    def init(self, variables: PyTree) -> _Descent:
        """Moments of the transformation, and a step scale of 1."""
        return _Descent(self.transformation.init(variables), jnp.ones(()))

    def shrink(self, optimizer_state: _Descent) -> _Descent:
        """The same moments, a third of the step."""
        return _Descent(optimizer_state.inner, optimizer_state.scale / 3.0)

    def step(self, task: Task, state: State, batch: Batch) -> tuple[State, Info]:
        """One step along the gradient of `batch`'s mean loss."""
        key = jax.random.fold_in(state.key, state.samples)

        def objective(variables):
            losses, statistics = task.loss(variables, state.statistics, batch, key)
            return mean_loss(losses, batch), statistics

        (loss, statistics), gradient = jax.value_and_grad(objective, has_aux=True)(state.variables)
        updates, inner = self.transformation.update(gradient, state.optimizer.inner, state.variables)
        scale = state.optimizer.scale
        variables = jax.tree.map(
            lambda value, change: value + (scale * change).astype(value.dtype), state.variables, updates
        )
        moved = State(
            variables,
            statistics,
            _Descent(inner, scale),
            state.key,
            state.samples + batch.mask.sum(dtype=state.samples.dtype),
        )
        return moved, Info(loss, jnp.asarray(True), jnp.full((), jnp.nan, loss.dtype))


def adam(learning_rate: float = 0.03, steps: int = 2000) -> FirstOrder:
    """Adam with gradient clipping, a short warm-up and a cosine decay over `steps`."""
    schedule = optax.warmup_cosine_decay_schedule(0.1 * learning_rate, learning_rate, max(1, steps // 50), steps, 1e-4)
    return FirstOrder(optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)))


def sgd(learning_rate: float = 0.01, momentum: float = 0.9, steps: int = 2000) -> FirstOrder:
    """SGD with Nesterov momentum, gradient clipping, a short warm-up and a cosine decay over `steps`."""
    schedule = optax.warmup_cosine_decay_schedule(0.1 * learning_rate, learning_rate, max(1, steps // 50), steps, 1e-4)
    descent = optax.sgd(schedule, momentum=momentum, nesterov=True)
    return FirstOrder(optax.chain(optax.clip_by_global_norm(10.0), descent))
