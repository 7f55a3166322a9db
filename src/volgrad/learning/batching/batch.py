"""The unit of everything: a batch of fixed shape, and the shuffled order in which a data set gives them."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray, PyTree

__all__ = ["Batch", "Leaf", "Rows", "batches_per_epoch", "epoch_order", "take"]

#: An array on either side of the device: leaves are filled by numpy and traced by JAX.
Leaf = Array | np.ndarray


class Rows(NamedTuple):
    """Rows of clusters of unequal length, each padded to the longest.

    values: features of each row; 0 where masked. Shape: (clusters, rows, features).
    mask: False where a row is padding. Shape: (clusters, rows).
    """

    values: Float32[Leaf, "clusters rows features"]
    mask: Bool[Leaf, "clusters rows"]


class Batch(eqx.Module):
    """Rows of a data set, padded to a fixed shape.

    A *cluster* is what is drawn at random, and what the noise of a gradient is counted in: one quote of a chain, one
    snapshot of a month, one path.

    Attributes:
        rows: any pytree whose leaves lead with the axis `clusters`.
        mask: False where a cluster is padding. Shape: (clusters,).
        weight: of each cluster in the objective; 1 on average over the data. Shape: (clusters,).
    """

    rows: PyTree[Array, "..."]
    mask: Bool[Leaf, " clusters"]
    weight: Float[Leaf, " clusters"]

    @property
    def clusters(self) -> int:
        """Places for clusters, the padding included."""
        return self.mask.shape[0]


def batches_per_epoch(data: Batch, size: int) -> int:
    """Batches of `size` clusters that show every place of `data` once; the last may be part padding.

    >>> import jax.numpy as jnp
    >>> batches_per_epoch(Batch(jnp.zeros(10), jnp.ones(10, bool), jnp.ones(10)), 4)
    3
    """
    return -(-data.clusters // size)


def epoch_order(data: Batch, size: int, key: PRNGKeyArray, epoch: Int[Array, ""]) -> Int[Array, "batches size"]:
    """Which clusters make up the batches of one epoch: a permutation that depends on `key` and `epoch` only.

    Real clusters come first, in random order, then the padding; places beyond the data point at cluster 0 with
    index `clusters`, which `take` masks.
    """
    draw = jax.random.uniform(jax.random.fold_in(key, epoch), data.mask.shape)
    order = jnp.argsort(jnp.where(data.mask, draw, 2.0))
    count = batches_per_epoch(data, size) * size
    return jnp.pad(order, (0, count - data.clusters), constant_values=data.clusters).reshape(-1, size)


def take(data: Batch, index: Int[Array, " size"]) -> Batch:
    """The clusters at `index` as a batch; an index past the end gives a masked place."""
    real = index < data.clusters
    inside = jnp.where(real, index, 0)
    rows = jax.tree.map(lambda leaf: leaf[inside], data.rows)
    return Batch(rows, data.mask[inside] & real, data.weight[inside])
