"""The state of a run, what one step tells of itself, and what every optimiser can do."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.task import Task

__all__ = ["Info", "Optimizer", "State", "mean_loss"]


class State(eqx.Module):
    """All that a run carries from step to step: one pytree.

    Attributes:
        variables: what is learned.
        statistics: batch statistics of the model (None where it has none).
        optimizer: the optimiser's own state.
        key: random key of the run; batches and noise are derived from it and from counters.
        samples: clusters seen, padding not counted.
    """

    variables: PyTree
    statistics: PyTree
    optimizer: PyTree
    key: PRNGKeyArray
    samples: Int[Array, ""]


class Info(NamedTuple):
    """What one step tells.

    Attributes:
        loss: mean over the batch (`mean_loss`); after the step where the optimiser knows it (`knows_new_loss`).
        accepted: whether the variables moved.
        expected: decrease of the mean loss that another step may bring (NaN where the optimiser has no model of the
            loss).
        learning_rate: of this step (NaN where the optimiser has none).
        gradient_norm: of the batch's mean loss, before any clipping.
    """

    loss: Float[Array, ""]
    accepted: Bool[Array, ""]
    expected: Float[Array, ""]
    learning_rate: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class Optimizer(eqx.Module):
    """A way to step. Final subclasses: `FirstOrder`, `LevenbergMarquardt`."""

    @property
    @abc.abstractmethod
    def knows_new_loss(self) -> bool:
        """Whether `Info.loss` is that of the new variables on the batch."""

    @property
    @abc.abstractmethod
    def patience(self) -> int:
        """Epochs without progress after which the loop reacts."""

    @property
    @abc.abstractmethod
    def kick(self) -> float:
        """Standard deviation of the noise that a restart puts on the variables."""

    @abc.abstractmethod
    def init(self, variables: PyTree) -> PyTree:
        """The optimiser's state for these variables."""

    @abc.abstractmethod
    def step(self, task: Task, state: State, batch: Batch) -> tuple[State, Info]:
        """One step on one batch: state in, state out."""

    @abc.abstractmethod
    def shrink(self, optimizer_state: PyTree) -> PyTree:
        """The state with a smaller step, for use after a roll-back or on a plateau."""

    @abc.abstractmethod
    def serving(self, state: State) -> PyTree:
        """The variables to evaluate and to publish: an average where the optimiser keeps one."""


def mean_loss(losses: Float[Array, " clusters"], batch: Batch) -> Float[Array, ""]:
    """Mean of `weight * loss` over the clusters that are not padding.

    Weights average 1 over the data. Divided by the number of clusters rather than by the sum of their weights, the mean
    over a random batch is on average that over the data, whatever the weights; a ratio of two sums would be biased.
    """
    weight = jnp.where(batch.mask, batch.weight, 0.0)
    total = jnp.where(batch.mask, losses, 0.0) @ weight
    return total / jnp.maximum(batch.mask.sum(dtype=weight.dtype), 1.0)
