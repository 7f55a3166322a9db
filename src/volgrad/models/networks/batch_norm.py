"""Batch normalisation: of whole batches, and of groups of whole clusters."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from volgrad.errors import InputError
from volgrad.models.networks.affine import Affine, check, scaled, served
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.statistics import Running, advance, grouped, moments, over_devices

__all__ = ["BatchNorm", "GhostNorm"]

Rows = Float[Array, "clusters rows features"]
Mask = Bool[Array, "clusters rows"]


class BatchNorm(Layer):
    """Batch normalisation (Ioffe and Szegedy 2015) [paper], with statistics that are right.

    Attributes:
        features: of a row.
        half_life_clusters: clusters after which a batch counts half in the running statistics.
        epsilon: added to variances.
        axis_name: of the mapped axis over whose devices a batch is spread; None where it is on one.
    """

    features: int = eqx.field(static=True)
    half_life_clusters: float = eqx.field(static=True, default=10_000.0)
    epsilon: float = eqx.field(static=True, default=1e-5)
    axis_name: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check(self, half_life_clusters=self.half_life_clusters, epsilon=self.epsilon)

    def init(self, key: PRNGKeyArray) -> tuple[Affine, Running]:
        """The identity, and statistics of nothing yet; nothing is drawn."""
        del key
        return Affine.start(self.features), Running.start(self.features)

    def __call__(
        self, variables: Affine, statistics: Running, x: Rows, mask: Mask, training: bool, key: Any = None
    ) -> tuple[Rows, Running]:
        """By the batch's moments in training, by the running ones in serving."""
        del key
        if not training:
            return served(variables, statistics, x, mask, self.epsilon), statistics
        found, centred = moments(x[None], mask[None], self.axis_name)
        y = scaled(centred, found.variance, variables, self.epsilon)[0]
        return y, advance(statistics, found, self.half_life_clusters)


class GhostNorm(Layer):
    """Batch normalisation of groups of whole clusters (Hoffer, Hubara and Soudry 2017) [paper].

    A group is what is normalised together, so that a larger batch holds more groups and the model is the same: the
    gradient of a batch of two groups is the mean of theirs. Where the clusters of a batch are not a multiple of
    `clusters_per_group`, its last group is short; keep to multiples where sizes are to be compared.

    Attributes:
        features: of a row.
        clusters_per_group: whole clusters normalised together.
        half_life_clusters: clusters after which a group counts half in the running statistics.
        epsilon: added to variances.
        axis_name: of the mapped axis over whose devices a batch is spread. Groups stay on their device (each must hold
            whole ones); only running statistics are shared.
    """

    features: int = eqx.field(static=True)
    clusters_per_group: int = eqx.field(static=True, default=32)
    half_life_clusters: float = eqx.field(static=True, default=10_000.0)
    epsilon: float = eqx.field(static=True, default=1e-5)
    axis_name: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check(self, half_life_clusters=self.half_life_clusters, epsilon=self.epsilon)
        if self.clusters_per_group < 1:
            raise InputError(f"clusters_per_group is {self.clusters_per_group}: give a whole number above 0.")

    def init(self, key: PRNGKeyArray) -> tuple[Affine, Running]:
        """The identity, and statistics of nothing yet; nothing is drawn."""
        del key
        return Affine.start(self.features), Running.start(self.features)

    def __call__(
        self, variables: Affine, statistics: Running, x: Rows, mask: Mask, training: bool, key: Any = None
    ) -> tuple[Rows, Running]:
        """By each group's moments in training, by the running ones in serving."""
        del key
        if not training:
            return served(variables, statistics, x, mask, self.epsilon), statistics
        found, centred = moments(*grouped(x, mask, self.clusters_per_group))
        y = scaled(centred, found.variance, variables, self.epsilon)
        y = y.reshape(-1, *x.shape[1:])[: x.shape[0]]
        return y, advance(statistics, over_devices(found, self.axis_name), self.half_life_clusters)
