"""What every normalisation learns, and how it applies the moments that it has."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from volgrad.errors import InputError
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.statistics import Running

__all__ = ["Affine", "check", "check_bounds", "scaled", "served"]


class Affine(NamedTuple):
    """What every normalisation learns. Shapes: (features,)."""

    scale: Float[Array, " features"]
    shift: Float[Array, " features"]

    @classmethod
    def start(cls, features: int) -> "Affine":
        """The identity."""
        return cls(jnp.ones(features, jnp.float32), jnp.zeros(features, jnp.float32))


def served(
    variables: Affine,
    running: Running,
    x: Float[Array, "clusters rows features"],
    mask: Bool[Array, "clusters rows"],
    epsilon: float,
) -> Float[Array, "clusters rows features"]:
    """`x` by the running statistics, affine in it. The mean comes off in two parts: small moves of a level count."""
    centred = (x - running.centre[None, None]) - running.offset[None, None]
    gain = variables.scale * jax.lax.rsqrt(running.variance + epsilon)
    centred = jnp.where(mask[..., None], centred, 0.0)
    return gain[None, None] * centred + variables.shift[None, None]


def scaled(
    centred: Float[Array, "groups members rows features"],
    variance: Float[Array, "groups features"],
    variables: Affine,
    epsilon: float,
) -> Float[Array, "groups members rows features"]:
    """Rows less their group's mean, by its variance."""
    groups, features = variance.shape
    leading = (groups,) if groups > 1 else ()  # see `moments`
    scale, shift = (values.reshape((1,) * len(leading) + (features,)) for values in variables)
    gain = scale * jax.lax.rsqrt(variance.reshape(*leading, features) + epsilon)
    flat = gain[..., None, :] * centred.reshape(*leading, -1, features) + shift[..., None, :]
    return flat.reshape(centred.shape)


def check(layer: Layer, **positive: float) -> None:
    """Raise where a setting is not above 0."""
    for name, value in positive.items():
        if not value > 0.0:
            raise InputError(f"{type(layer).__name__}: {name} is {value}: give a positive number.")


def check_bounds(r_max: float, d_max: float) -> None:
    """Raise where bounds of a correction exclude no correction."""
    if not (r_max >= 1.0 and d_max >= 0.0):
        raise InputError(f"r_max is {r_max} and d_max {d_max}: give at least 1 and at least 0.")
