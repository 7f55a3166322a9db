"""Moments of a batch without its padding, and their exponentially weighted averages over batches.

Mean and variance are taken in two passes from a shifted origin. The textbook `E[x^2] - E[x]^2` cancels: in float32, at
a mean of 60,000 and a standard deviation of 10, it gives 0 for 100 [measured: docs/batch-normalisation.md].
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["Moments", "Running", "advance", "grouped", "moments", "over_devices"]

_LN2 = math.log(2.0)
_ORIGIN_BITS = 12  # the origin is near the mean to 1 in 8,000 of its size


class Moments(NamedTuple):
    """Of the real rows of each group.

    centre: an origin near the mean. Shape: (groups, features).
    offset: mean less `centre`. Shape: (groups, features).
    variance: mean squared deviation from the mean (divided by n); 0 for one row or none. Shape: (groups, features).
    rows: how many real rows. Shape: (groups,).
    clusters: how many clusters have a real row. Shape: (groups,).
    """

    centre: Float[Array, "groups features"]
    offset: Float[Array, "groups features"]
    variance: Float[Array, "groups features"]
    rows: Float[Array, " groups"]
    clusters: Float[Array, " groups"]


class Running(NamedTuple):
    """Exponentially weighted statistics of a stream of batches; the weights of what was seen sum to 1 at any age.

    The mean is kept as two numbers, so that small moves are not lost in the rounding of a large level.

    centre: mean of the first group; 0 before it. Shape: (features,).
    offset: mean less `centre`. Shape: (features,).
    variance: 1 before the first group. Shape: (features,).
    age: clusters seen, in half-lives. Shape: ().
    """

    centre: Float[Array, " features"]
    offset: Float[Array, " features"]
    variance: Float[Array, " features"]
    age: Float[Array, ""]

    @classmethod
    def start(cls, features: int) -> "Running":
        """Of nothing yet: mean 0 and variance 1, which count for nothing once a batch was seen."""
        zero = jnp.zeros(features, jnp.float32)
        return cls(zero, zero, jnp.ones(features, jnp.float32), jnp.zeros((), jnp.float32))

    @property
    def mean(self) -> Float[Array, " features"]:
        """The mean, as one number a feature."""
        return self.centre + self.offset


def grouped(
    x: Float[Array, "clusters rows features"], mask: Bool[Array, "clusters rows"], clusters_per_group: int | None
) -> tuple[Float[Array, "groups members rows features"], Bool[Array, "groups members rows"]]:
    """Whole clusters in groups of a fixed size, in order; None puts all in one. The last group may be part padding.

    >>> import jax.numpy as jnp
    >>> x, mask = grouped(jnp.zeros((5, 3, 2)), jnp.ones((5, 3), bool), 2)
    >>> x.shape, mask.sum(axis=(1, 2)).tolist()
    ((3, 2, 3, 2), [6, 6, 3])
    """
    size = clusters_per_group or max(x.shape[0], 1)
    missing = -x.shape[0] % size
    if missing:
        x = jnp.pad(x, ((0, missing), (0, 0), (0, 0)))
        mask = jnp.pad(mask, ((0, missing), (0, 0)))
    return x.reshape(-1, size, *x.shape[1:]), mask.reshape(-1, size, mask.shape[1])


def moments(
    x: Float[Array, "groups members rows features"],
    mask: Bool[Array, "groups members rows"],
    axis_name: str | None = None,
) -> tuple[Moments, Float[Array, "groups members rows features"]]:
    """Moments of each group, and its rows less the mean (0 where masked). With `axis_name`, over all its devices.

    Differentiable to any order: the origin is a constant, on which neither result depends. It is the mean as a first
    pass finds it; a row of the batch in its place costs four times as much on the CPU, and so does a group axis of
    length 1 (measured: XLA no longer fuses the sums).
    """
    groups, features = x.shape[0], x.shape[-1]
    leading = (groups,) if groups > 1 else ()
    flat, real = x.reshape(*leading, -1, features), mask.reshape(*leading, -1, 1)
    rows = real.sum(axis=(-2, -1), dtype=x.dtype)
    clusters = mask.any(axis=2).sum(axis=1, dtype=x.dtype)
    rough = jax.lax.stop_gradient(jnp.where(real, flat, 0.0).sum(axis=-2))
    if axis_name is not None:
        rows, clusters, rough = jax.lax.psum((rows, clusters, rough), axis_name)
    count = jnp.maximum(rows, 1.0)[..., None]
    # of few bits: compiled code may use an unrounded quotient in one place and a rounded one in another
    origin = jax.lax.reduce_precision(rough / count, exponent_bits=8, mantissa_bits=_ORIGIN_BITS)
    shifted = jnp.where(real, flat - origin[..., None, :], 0.0)
    total = shifted.sum(axis=-2)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
    offset = total / count
    centred = jnp.where(real, shifted - offset[..., None, :], 0.0)
    squares = jnp.square(centred).sum(axis=-2)
    if axis_name is not None:
        squares = jax.lax.psum(squares, axis_name)
    shape = (groups, features)
    found = Moments(
        origin.reshape(shape), offset.reshape(shape), (squares / count).reshape(shape), rows.reshape(groups), clusters
    )
    return found, centred.reshape(x.shape)


def over_devices(found: Moments, axis_name: str | None) -> Moments:
    """The groups of all devices in their order; those given where there is no axis."""
    if axis_name is None:
        return found
    return Moments(*(jax.lax.all_gather(values, axis_name, tiled=True) for values in found))


def advance(running: Running, found: Moments, half_life_clusters: float) -> Running:
    """The averages after some groups, one after the other: the same whether they came in one batch or in several.

    A group of `n` clusters keeps `2^(-n / half-life)` of the weight of all before it, so that the half-life is one of
    samples and does not know of batches. Weights are normalised: after `t` groups, mean and variance are the weighted
    averages of what was seen, and nothing of the start is left (Adam's debiasing, Kingma and Ba 2015, algorithm 1
    [paper], for both alike). Variances are averaged as `n / (n - 1)` times those of the groups, as serving stands for
    the population and not for a batch (Ioffe and Szegedy 2015, algorithm 2 [paper]). A group of fewer than two rows
    has no such variance and is left out.
    """
    found = Moments(*(jax.lax.stop_gradient(values) for values in found))
    usable = found.rows > 1.0
    lives = jnp.where(usable, found.clusters, 0.0) / half_life_clusters
    total = lives.sum()
    age = running.age + total
    whole = jnp.where(age > 0.0, _weight(age), 1.0)
    if lives.shape[0] == 1:  # the usual case in few operations
        share = _weight(lives)[:, None] / whole
        kept, place = 1.0 - share[0], 0
    else:
        share = (_weight(lives) * jnp.exp2(jnp.cumsum(lives) - total) / whole)[:, None]
        kept = jnp.where(age > 0.0, jnp.exp2(-total) * _weight(running.age) / whole, 1.0)
        place = jnp.argmax(usable)
    first = jnp.where(usable.any(), found.centre[place] + found.offset[place], running.centre)
    is_new = running.age == 0.0
    centre = jnp.where(is_new, first, running.centre)
    offset = jnp.where(is_new, 0.0, running.offset)
    moved = (found.centre - centre[None, :]) + (found.offset - offset[None, :])
    variance = found.variance * (found.rows / jnp.maximum(found.rows - 1.0, 1.0))[:, None]
    return Running(
        centre,
        offset + (share * moved).sum(axis=0),
        kept * running.variance + (share * variance).sum(axis=0),
        age,
    )


def _weight(lives: Float[Array, "..."]) -> Float[Array, "..."]:
    """`1 - 2^-lives`, without cancellation."""
    return -jnp.expm1(-_LN2 * lives)
