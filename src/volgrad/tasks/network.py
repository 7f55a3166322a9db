"""Keys of `[model]` that every study with a multi-layer perceptron has, and what its rows are worth."""

from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.study import StudyModel
from volgrad.models.networks.mlp import ACTIVATIONS, Mlp
from volgrad.models.networks.normalisation import make_normalisation

__all__ = ["NetworkModel", "huber", "located", "mean_of", "real_rows"]

_SETTINGS = (
    "half_life_clusters",
    "clusters_per_group",
    "r_max",
    "d_max",
    "hold_clusters",
    "ramp_clusters",
    "live_half_life_clusters",
)


class NetworkModel(StudyModel, frozen=True, kw_only=True):
    """`[model]` of a multi-layer perceptron.

    Attributes:
        width, depth: features of a hidden row, and hidden blocks.
        activation: of "silu", "elu", "relu", "tanh".
        norm: normalisation of the hidden rows (docs/batch-normalisation.md).
        skip: whether blocks after the first add their input to their output.
        dropout: rate after each activation.
        half_life_clusters, clusters_per_group, r_max, d_max, hold_clusters, ramp_clusters, live_half_life_clusters:
            settings of the normalisation, where it has them; its own defaults where left out.

    >>> NetworkModel(norm="ghost", clusters_per_group=16).network(8, 1).depth
    4
    """

    width: int = 64
    depth: int = 4
    activation: str = "silu"
    norm: Literal["none", "batch", "ghost", "renorm", "stream", "layer"] = "batch"
    skip: bool = False
    dropout: float = 0.0
    half_life_clusters: float | None = None
    clusters_per_group: int | None = None
    r_max: float | None = None
    d_max: float | None = None
    hold_clusters: float | None = None
    ramp_clusters: float | None = None
    live_half_life_clusters: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0:
            raise InputError(f"model.width = {self.width} and model.depth = {self.depth}: give 1 and 0, or more")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"model.activation = {self.activation!r}: give one of {', '.join(ACTIVATIONS)}")
        self.network(1, 1)  # whatever else cannot be is told now, and not after the data were read

    def network(self, features: int, outputs: int) -> Mlp:
        """The network for rows of `features`.

        Raises:
            InputError: settings that the normalisation does not have, or sizes that cannot be.
        """
        given = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}
        return Mlp(
            features,
            outputs,
            width=self.width,
            depth=self.depth,
            normalisation=make_normalisation(self.norm, **given),
            activation=self.activation,
            skip=self.skip,
            dropout=self.dropout,
        )


def located(base: Path, path: str) -> Path:
    """Where a recipe's path leads: from the recipe's folder, or from the current one where nothing is there."""
    return base / path if (base / path).exists() or not Path(path).exists() else Path(path)


def real_rows(batch: Batch) -> Bool[Array, "clusters rows"]:
    """Rows that are there, of clusters that are there."""
    return batch.rows.mask & batch.mask[:, None]


def mean_of(
    values: Float[Array, "clusters rows"], mask: Bool[Array, "clusters rows"], axis: int | None = None
) -> Float[Array, "..."]:
    """Mean over the real rows of all (a number), or of each cluster (`axis` 1); 0 where there is none."""
    count = jnp.maximum(mask.sum(axis), 1).astype(values.dtype)
    return jnp.where(mask, values, 0.0).sum(axis) / count


def huber(error: Float[Array, "*shape"], bend: float | None) -> Float[Array, "*shape"]:
    """Half the square up to `bend`, a line of the same slope beyond (Huber 1964) [paper]; None: half the square.

    >>> import jax.numpy as jnp
    >>> huber(jnp.array([1.0, -3.0]), 2.0).tolist()
    [0.5, 4.0]
    """
    if bend is None:
        return 0.5 * error**2
    inside = jnp.clip(error, -bend, bend)
    return inside * (error - 0.5 * inside)
