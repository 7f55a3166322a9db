"""What is learned: the contract between a model with its data and everything that trains it."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from volgrad.learning.batching.batch import Batch

__all__ = ["LeastSquares", "Quadratic", "Residuals", "StructuredLeastSquares", "Task", "gauss_newton"]


class Task(eqx.Module):
    """A pure description of what is learned. Subclasses are pytrees: whatever arrays they hold may be batched.

    The objective is the mean of `weight * loss` over all clusters of the data, whose weights average 1.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """Variables to start from, and the batch statistics (None where the model keeps none)."""

    @abc.abstractmethod
    def loss(
        self, variables: PyTree, statistics: PyTree, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, " clusters"], PyTree]:
        """Loss of each cluster in training (anything finite where masked), and the new batch statistics."""

    @abc.abstractmethod
    def evaluate(self, variables: PyTree, statistics: PyTree, batch: Batch) -> dict[str, Any]:
        """What a user wants to read: named metrics of a batch, as the model serves (nothing random, no statistics of
        the batch where the model keeps running ones).
        """


class Residuals(NamedTuple):
    """What Gauss-Newton needs of a batch.

    value: residuals `r`; 0 where masked. Shape: (residuals,).
    stiffness: `rho'(r) / r` of each one's loss `rho`: 1 for plain squares, less where a robust loss bends away.
    loss: weighted sum of the batch's losses.
    """

    value: Float[Array, " residuals"]
    stiffness: Float[Array, " residuals"]
    loss: Float[Array, ""]


class Quadratic(NamedTuple):
    """What Gauss-Newton makes of residuals: the loss near some variables, which are raveled to one vector.

    loss: weighted sum of the batch's losses.
    gradient: of `loss`. Shape: (variables,).
    normal: `J' stiffness J`. Shape: (variables, variables).
    """

    loss: Float[Array, ""]
    gradient: Float[Array, " variables"]
    normal: Float[Array, "variables variables"]


class LeastSquares(Task):
    """A task whose losses are functions of residuals, which Gauss-Newton can use."""

    @abc.abstractmethod
    def residuals(self, variables: PyTree, batch: Batch) -> Residuals:
        """Residuals of a batch, whose losses sum to that of `loss`."""


class StructuredLeastSquares(LeastSquares):
    """One that knows a faster way to its Gauss-Newton model than a dense Jacobian by automatic differentiation."""

    @abc.abstractmethod
    def quadratic(self, variables: PyTree, batch: Batch) -> Quadratic:
        """The model of the batch's loss around `variables`; that of `residuals`, to the accuracy a step needs."""


def gauss_newton(task: LeastSquares, variables: PyTree, batch: Batch) -> Quadratic:
    """The Gauss-Newton model of a batch's loss: the task's own where it has one, else by a dense Jacobian."""
    if isinstance(task, StructuredLeastSquares):
        return task.quadratic(variables, batch)
    flat, restore = ravel_pytree(variables)

    def residuals(at):
        found = task.residuals(restore(at), batch)
        return found.value, found

    value, push, found = jax.linearize(residuals, flat, has_aux=True)
    jacobian = jax.vmap(push, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))
    # iteratively reweighted squares: each loss stands in as the square of equal slope (Holland and Welsch 1977) [paper]
    gradient = jacobian.T @ (found.stiffness * value)
    return Quadratic(found.loss, gradient, jacobian.T @ (found.stiffness[:, None] * jacobian))
