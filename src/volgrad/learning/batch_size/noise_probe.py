"""Gradients of single clusters (or ghost batches), and their inner products: all that the noise scale needs.

The batch is looked at, not learned from: neither variables nor statistics move. Long gradients are folded to a few
thousand numbers by random signs, which keeps inner products on average (Charikar, Chen and Farach-Colton 2002, the
count sketch [paper]); what that adds to the error is little as long as there are many more numbers than directions in
which gradients differ.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from volgrad.learning.batch_size.subject import Subject, unit_of
from volgrad.learning.batching.batch import Batch, Rows
from volgrad.learning.batching.loader import Stack, batch_of
from volgrad.learning.batching.noise_scale import NoiseScale, noise_scale
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import Task

__all__ = ["NoiseProbe", "distinct", "folded", "halves"]

_FOLDED = 4096  # numbers that a gradient is folded to
_LEAST_UNITS, _MOST_UNITS = 24, 1024
_ROWS = 16_384  # that a probe looks at, where that leaves enough units
_AT_ONCE = 16  # units whose gradients are worked out side by side


class NoiseProbe:
    """Measures the noise scale of a subject at any of its states; compiled once.

    Attributes:
        units: gradients of a probe.
        unit: clusters of each.
        split: whether rows within clusters are told apart from clusters.
    """

    def __init__(self, subject: Subject, *, stream: bool = False, most_rows: int = _ROWS) -> None:
        """Nothing is compiled yet.

        Args:
            subject: whose task and data are probed.
            stream: whether clusters come in the order of time, and so are alike.
            most_rows: that a probe looks at, where that leaves two dozen units.
        """
        loader = subject.loader
        self.unit = min(
            unit_of(subject.task, subject.state.statistics, loader.mean_drawn), max(1, subject.clusters // 2)
        )
        self.split = self.unit == 1 and loader.rows > 1
        whole = subject.clusters // self.unit
        wanted = max(_LEAST_UNITS, int(most_rows / (self.unit * loader.mean_drawn)))
        self.units = int(max(2, min(wanted, _MOST_UNITS // (2 if self.split else 1), whole)))
        self._stream = stream
        self._program: Any = None

    @property
    def clusters(self) -> int:
        """Clusters that one probe looks at."""
        return self.units * self.unit

    def compile(self, subject: Subject) -> None:
        """Make the program ahead of time."""
        if self._program is None:
            stack = self._stack(subject, 0)
            self._program = _program(self.split).lower(*self._arguments(subject, stack)).compile()

    def at(self, subject: Subject, position: int) -> NoiseScale:
        """The noise scale at the subject's state, on the clusters from `position` of the order on."""
        self.compile(subject)
        gram = np.asarray(self._program(*self._arguments(subject, self._stack(subject, position))), np.float64)
        return noise_scale(
            gram,
            rows_per_cluster=subject.loader.mean_drawn,
            halves=self.split,
            unit_clusters=self.unit,
            ordered=self._stream,
        )

    def _stack(self, subject: Subject, position: int) -> Stack:
        return subject.loader.stack(distinct(position, self.clusters, subject.clusters), self.units, self.unit)

    def _arguments(self, subject: Subject, stack: Stack) -> tuple[Any, ...]:
        state, factor = subject.state, subject.preconditioner()
        flat = jax.eval_shape(lambda: ravel_pytree(state.variables)[0])
        factors = np.ones(flat.shape) if factor is None else factor
        scale = jnp.asarray(factors, flat.dtype)
        return subject.task, state.variables, state.statistics, state.key, scale, tuple(stack)


def distinct(position: int, count: int, clusters: int) -> int:
    """The position from which so many clusters are all different: none of the next epoch stand beside the same ones.

    A cluster that is there twice would count as two that agree, and noise would look like signal.

    >>> distinct(0, 4, 10), distinct(5, 4, 10), distinct(8, 4, 10), distinct(18, 10, 10)
    (0, 5, 10, 20)
    """
    place = position % clusters
    return position if place + count <= clusters else position - place + clusters


def halves(mask: Bool[Array, "clusters rows"], key: PRNGKeyArray) -> tuple[Any, Any]:
    """Two halves of the rows of each cluster, drawn at random, equal in number: an odd row stays out.

    A cluster of one row is both of its halves.
    """
    draw = jnp.where(mask, jax.random.uniform(key, mask.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(draw, axis=1), axis=1)
    count = mask.sum(axis=1, keepdims=True)
    half = count // 2
    alone = mask & (count == 1)
    return (rank < half) | alone, ((rank >= half) & (rank < 2 * half)) | alone


def folded(gradient: Float[Array, " variables"], key: PRNGKeyArray) -> Float[Array, " numbers"]:
    """The gradient, folded by random signs where it is long: inner products with others of one key stay, on average."""
    if gradient.size <= _FOLDED:
        return gradient
    sign = jax.random.rademacher(key, gradient.shape, gradient.dtype)
    whole = -(-gradient.size // _FOLDED) * _FOLDED
    return jnp.pad(sign * gradient, (0, whole - gradient.size)).reshape(-1, _FOLDED).sum(0)


def _program(split: bool) -> Any:
    """`(task, variables, statistics, key, scale, stack) -> Gram matrix`, jitted."""

    def gradient(task: Task, variables: PyTree, statistics: PyTree, key: Array, batch: Batch) -> Array:
        def objective(variables: PyTree) -> Array:
            return mean_loss(task.loss(variables, statistics, batch, key)[0], batch)

        return ravel_pytree(jax.grad(objective)(variables))[0]

    def gram(
        task: Task, variables: PyTree, statistics: PyTree, key: Array, scale: Array, stack: tuple[Array, ...]
    ) -> Float[Array, "units units"]:
        def of_unit(part: tuple[tuple[Array, ...], Array]) -> Array:
            drawn, number = part
            batch, own = batch_of(*drawn), jax.random.fold_in(key, number)
            parts = [batch]
            if split:
                parts = [_of_rows(batch, side) for side in halves(batch.rows.mask, jax.random.fold_in(own, 1))]
            slopes = [gradient(task, variables, statistics, own, part) for part in parts]
            return jnp.stack([folded(scale * slope, jax.random.fold_in(key, 2)) for slope in slopes])

        numbers = jnp.arange(stack[0].shape[0])
        found = jax.lax.map(of_unit, (stack, numbers), batch_size=min(_AT_ONCE, len(numbers)))
        rows = found.reshape(-1, found.shape[-1])
        return jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)

    return jax.jit(gram)


def _of_rows(batch: Batch, kept: Array) -> Batch:
    """The batch with some of its rows."""
    rows: Rows = batch.rows
    values = jnp.where(kept[..., None], rows.values, 0.0)
    return Batch(Rows(values, kept), batch.mask, batch.weight)
