"""What is learned: the contract between a model with its data and everything that trains it."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from volgrad.learning.batching.batch import Batch

__all__ = ["LeastSquares", "Residuals", "Task"]


class Task(eqx.Module):
    """A pure description of what is learned. Subclasses are pytrees: whatever arrays they hold may be batched.

    The objective is the weighted mean of `loss` over all clusters of the data.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> PyTree:
        """Variables to start from."""

    @abc.abstractmethod
    def loss(self, variables: PyTree, batch: Batch, key: PRNGKeyArray) -> tuple[Float[Array, " clusters"], PyTree]:
        """Loss of each cluster (anything finite where masked), and new batch statistics (or None)."""

    @abc.abstractmethod
    def evaluate(self, variables: PyTree, batch: Batch) -> dict[str, Any]:
        """What a user wants to read: named metrics of a batch."""


class Residuals(NamedTuple):
    """What Gauss-Newton needs of a batch.

    value: residuals `r`; 0 where masked. Shape: (residuals,).
    stiffness: `rho'(r) / r` of each one's loss `rho`: 1 for plain squares, less where a robust loss bends away.
    loss: weighted sum of the batch's losses.
    """

    value: Float[Array, " residuals"]
    stiffness: Float[Array, " residuals"]
    loss: Float[Array, ""]


class LeastSquares(Task):
    """A task whose losses are functions of residuals, which Gauss-Newton can use."""

    @abc.abstractmethod
    def residuals(self, variables: PyTree, batch: Batch) -> Residuals:
        """Residuals of a batch, whose losses sum to that of `loss`."""
