"""Weights averaged along the path: a running mean whose weights are counted in samples."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["Average", "Averaging"]


class Averaging(eqx.Module):
    """How variables are averaged (Polyak and Juditsky 1992 [paper]).

    Attributes:
        half_life: samples after which a point's weight has halved; None: all points from `start` on weigh the same.
        start: samples before which nothing is averaged.
    """

    half_life: float | None = eqx.field(default=None, static=True)
    start: int = eqx.field(default=0, static=True)

    def after(
        self, average: "Average", point: Float[Array, " n"], seen: Int[Array, ""], count: Int[Array, ""]
    ) -> "Average":
        """The average with `point`, reached after `seen` samples by a step of `count` samples."""
        count = jnp.where(seen > self.start, count, 0).astype(point.dtype)
        if self.half_life is None:
            return average.including(point, count, jnp.ones((), point.dtype))
        # the gain of a step that moves n samples on: what n single ones would add up to
        gain = -jnp.expm1(-jnp.log(jnp.asarray(2.0, point.dtype)) * count / self.half_life)
        return average.including(point, gain, 1.0 - gain)


class Average(NamedTuple):
    """A weighted mean of points, debiased at every step: it never holds a trace of its initial value.

    value: the mean; arbitrary while `weight` is 0. Shape: (n,).
    weight: sum of the weights in it.
    """

    value: Float[Array, " n"]
    weight: Float[Array, ""]

    @classmethod
    def empty(cls, point: Float[Array, " n"]) -> "Average":
        """Of no points yet."""
        return cls(jnp.array(point), jnp.zeros((), point.dtype))

    def including(
        self, point: Float[Array, " n"], weight: Float[Array, ""], keep: Float[Array, ""] | float
    ) -> "Average":
        """With one more point, the weights before it multiplied by `keep`."""
        total = keep * self.weight + weight
        share = weight / jnp.maximum(total, jnp.finfo(point.dtype).tiny)
        return Average((1.0 - share) * self.value + share * point, total)  # exactly `point` while there is no other

    def or_else(self, point: Float[Array, " n"]) -> Float[Array, " n"]:
        """The mean, or `point` where it is of nothing."""
        return jnp.where(self.weight > 0.0, self.value, point)
