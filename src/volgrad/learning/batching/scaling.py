"""Mean and standard deviation of features, from the training split alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from volgrad.data.image import Image
from volgrad.errors import EmptyInputError
from volgrad.learning.batching.batch import Leaf

__all__ = ["Scaling"]

_BLOCK = 65_536  # rows read at a time
_CONSTANT = 1e-6  # a deviation below this share of the largest value is rounding of float32 (2**-24), not variation


class Scaling(NamedTuple):
    """How each column is shifted and scaled; columns that were not asked for have mean 0 and scale 1.

    mean: of each column. Shape: (features,).
    scale: its standard deviation; 1 where the column is constant, which is thus mapped to 0. Shape: (features,).
    rows: from which they were computed.

    >>> from volgrad.data.image import Feature
    >>> image = Image.of(np.array([[1.0], [3.0], [900.0]]), [2, 1], [0, 1], [0, 1], [Feature("x", "1")])
    >>> scaling = Scaling.fit(image, range(1), ["x"])
    >>> scaling.mean.tolist(), scaling.scale.tolist(), scaling.apply(image.rows[:2]).tolist()
    ([2.0], [1.0], [[-1.0], [1.0]])
    """

    mean: Float64[np.ndarray, " features"]
    scale: Float64[np.ndarray, " features"]
    rows: int

    @classmethod
    def fit(cls, image: Image, train: range, columns: Sequence[str] | None = None) -> "Scaling":
        """Read the rows of `train`, and no other, once.

        Two passes over each block and Chan's rule to join blocks keep the variance of values far from 0: Chan, Golub
        and LeVeque (1983), The American Statistician 37, eq. 1.5 [paper].

        Args:
            image: the data.
            train: clusters of the training split.
            columns: names of those to scale; None: all.

        Raises:
            SchemaError: no such column.
            EmptyInputError: an empty split.
        """
        width = len(image.features)
        chosen = list(range(width)) if columns is None else [image.position(name) for name in columns]
        if not len(train):
            raise EmptyInputError("scaling: the training split is empty; there is nothing to fit it on")
        first, stop = int(image.first_row[train.start]), int(image.first_row[train.stop])
        count, mean, square = 0, np.zeros(width), np.zeros(width)
        largest = np.zeros(width)
        for start in range(first, stop, _BLOCK):
            block = np.asarray(image.rows[start : min(stop, start + _BLOCK)], np.float64)
            own = block.mean(axis=0)
            apart, joined = own - mean, count + len(block)
            square += np.square(block - own[None, :]).sum(axis=0) + apart**2 * (count * len(block) / joined)
            mean += apart * (len(block) / joined)
            largest = np.maximum(largest, np.abs(block).max(axis=0))
            count = joined
        deviation = np.sqrt(square / count)
        varies = deviation > _CONSTANT * largest
        kept = np.isin(np.arange(width), chosen)
        return cls(np.where(kept, mean, 0.0), np.where(kept & varies, deviation, 1.0), count)

    def apply(self, values: Float32[Leaf, "*leading features"]) -> Float32[Leaf, "*leading features"]:
        """Shift and scale, in float32; numpy or JAX as it came.

        The mean is taken off in two parts of float32, and so loses nothing.
        """
        shape = (1,) * (values.ndim - 1) + (-1,)
        upper = self.mean.astype(np.float32)
        lower = (self.mean - upper).astype(np.float32)
        inverse = (1.0 / self.scale).astype(np.float32)
        if isinstance(values, np.ndarray):
            values = values.astype(np.float32, copy=False)
        return ((values - upper.reshape(shape)) - lower.reshape(shape)) * inverse.reshape(shape)
