"""Levenberg-Marquardt on batches: Gauss-Newton where its model of the loss holds, gradient descent where not."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.state import Info, Optimizer, State
from volgrad.learning.training.task import LeastSquares, Task, gauss_newton

__all__ = ["LevenbergMarquardt"]

# A Gauss-Newton step near a minimum gains about a tenth of the one before (measured: surface fits, 5 to 80 times less)
_NEXT_GAIN = 0.1


class _Damping(NamedTuple):
    damping: Float[Array, ""]


class LevenbergMarquardt(Optimizer):
    """Damped Gauss-Newton steps for tasks with residuals (Marquardt 1963, scaled by the diagonal).

    A step is taken only if it lowers the batch's loss; otherwise the damping grows and the variables stay.

    Attributes:
        damping: at the start, relative to the diagonal of `J'J`.
        easing: factor on the damping after a step that was taken.
        tightening: factor after one that was not.
        largest: longest change of any one variable in a step.
    """

    damping: float = eqx.field(default=1e-3, static=True)
    easing: float = eqx.field(default=0.1, static=True)
    tightening: float = eqx.field(default=10.0, static=True)
    largest: float = eqx.field(default=4.0, static=True)

    @property
    def knows_new_loss(self) -> bool:
        """True: the step is tried before it is taken."""
        return True

    @property
    def patience(self) -> int:
        """Epochs in which the damping may grow a ten-thousandfold in vain (assumption)."""
        return 4

    @property
    def kick(self) -> float:
        """Enough to leave a ridge, of variables of order 1 (assumption)."""
        return 0.05

    def init(self, variables: PyTree) -> _Damping:
        """Damping to start with."""
        return _Damping(jnp.full((), self.damping, ravel_pytree(variables)[0].dtype))

    def shrink(self, optimizer_state: _Damping) -> _Damping:
        """More damping."""
        return _Damping(optimizer_state.damping * self.tightening)

    def serving(self, state: State) -> PyTree:
        """The variables of the last step."""
        return state.variables

    def step(self, task: Task, state: State, batch: Batch) -> tuple[State, Info]:
        """One damped Gauss-Newton step on `batch`.

        Raises:
            InputError: the task has no residuals.
        """
        if not isinstance(task, LeastSquares):
            raise InputError(f"{type(task).__name__} has no residuals: use Adam or SGD, or derive it from LeastSquares")
        flat, restore = ravel_pytree(state.variables)
        model = gauss_newton(task, state.variables, batch)
        damping, scale = state.optimizer.damping, jnp.diagonal(model.normal)
        damped = model.normal + jnp.diag(damping * scale + 1e-12 * scale.max())
        direction = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(damped), model.gradient)
        candidate = flat - jnp.clip(direction, -self.largest, self.largest)
        old, new = model.loss, task.residuals(restore(candidate), batch).loss
        taken = new < old  # False for NaN
        count = jnp.maximum(batch.mask.sum(dtype=flat.dtype), 1.0)
        factor = jnp.where(taken, self.easing, self.tightening)
        moved = State(
            variables=restore(jnp.where(taken, candidate, flat)),
            statistics=state.statistics,
            optimizer=_Damping(jnp.clip(damping * factor, 1e-9, 1e12)),
            key=state.key,
            samples=state.samples + batch.mask.sum(dtype=state.samples.dtype),
        )
        # not taken: what a diagonal model promises, whatever the damping has shrunk the step to
        promised = 0.5 * model.gradient @ (model.gradient / jnp.maximum(scale, 1e-12 * scale.max()))
        # a step that damping has shortened gains little without being near a minimum
        after = jnp.maximum(_NEXT_GAIN * (old - new), jnp.where(damping > 1.0, promised, 0.0))
        expected = jnp.where(taken, after, promised)
        slope = jnp.sqrt(model.gradient @ model.gradient) / count
        return moved, Info(
            jnp.where(taken, new, old) / count, taken, expected / count, jnp.full_like(old, jnp.nan), slope
        )
