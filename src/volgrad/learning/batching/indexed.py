"""Data in memory, of any form, as a training image: a column of numbers of clusters, which the task looks up.

So a chain's quotes go through the same loader, programs and probes as a month of snapshots.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from volgrad.data.image import Feature, Image
from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch, take
from volgrad.learning.training.task import Task

__all__ = ["Indexed", "indexed"]

_MOST = 1 << 24  # whole numbers that float32 tells apart


class Indexed(Task):
    """A task on clusters that batches name by number.

    Attributes:
        inner: the task proper.
        data: all clusters.
    """

    inner: Task
    data: Batch

    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """The inner task's."""
        return self.inner.init(key)

    def loss(
        self, variables: PyTree, statistics: PyTree, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, " clusters"], PyTree]:
        """The inner task's, times the weight of each cluster in `data`."""
        found = self._taken(batch)
        losses, after = self.inner.loss(variables, statistics, found, key)
        return losses * jnp.asarray(found.weight).astype(losses.dtype), after

    def evaluate(self, variables: PyTree, statistics: PyTree, batch: Batch) -> dict[str, Any]:
        """The inner task's."""
        return self.inner.evaluate(variables, statistics, self._taken(batch))

    def _taken(self, batch: Batch) -> Batch:
        place = batch.rows.values[:, 0, 0].astype(jnp.int32)
        data = jax.tree.map(jnp.asarray, self.data)  # numpy's own leaves cannot be looked up by traced numbers
        return take(data, jnp.where(batch.mask, place, data.clusters))


def indexed(task: Task, data: Batch) -> tuple[Indexed, Image]:
    """The task and the image of the clusters of `data` that are real, one row each, in their order.

    Raises:
        InputError: no real cluster, or more than 2^24.

    """
    real = np.flatnonzero(np.asarray(data.mask))
    if not 0 < real.size <= _MOST:
        raise InputError(
            f"data of {real.size} clusters: give at least one, and at most 2^24 (an Image takes any number)"
        )
    stamps = np.arange(real.size)
    rows = real.astype(np.float32)[:, None]
    image = Image.of(rows, np.ones(real.size, np.int64), stamps, stamps, [Feature("cluster", "1")])
    return Indexed(task, data), image
