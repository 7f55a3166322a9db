"""Layers that look at one row at a time: a linear map, and dropout."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from volgrad.errors import InputError
from volgrad.models.networks.layer import Layer

__all__ = ["Dense", "Dropout", "Linear"]


class Linear(NamedTuple):
    """Variables of `Dense`; `bias` is None where a layer has none.

    weight: shape (features, outputs).
    bias: shape (outputs,).
    """

    weight: Float[Array, "features outputs"]
    bias: Float[Array, " outputs"] | None


class Dense(Layer):
    """`x @ weight + bias`, from normal weights of variance `gain / features` and bias 0.

    Attributes:
        features: of a row that comes in.
        outputs: of a row that goes out.
        gain: 2 before a ReLU and its kind (He et al. 2015), 1 elsewhere (LeCun et al. 1998) [paper].
        has_bias: False before a normalisation, which takes any bias away.
    """

    features: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    gain: float = eqx.field(static=True, default=1.0)
    has_bias: bool = eqx.field(static=True, default=True)

    def init(self, key: PRNGKeyArray) -> tuple[Linear, tuple[()]]:
        """Drawn weights and bias 0."""
        spread = math.sqrt(self.gain / self.features)
        weight = spread * jax.random.normal(key, (self.features, self.outputs), jnp.float32)
        return Linear(weight, jnp.zeros(self.outputs, jnp.float32) if self.has_bias else None), ()

    def __call__(
        self,
        variables: Linear,
        statistics: tuple[()],
        x: Float[Array, "clusters rows features"],
        mask: Bool[Array, "clusters rows"],
        training: bool,
        key: Any = None,
    ) -> tuple[Float[Array, "clusters rows outputs"], tuple[()]]:
        """The same in training and in serving; masked rows are taken as 0."""
        del statistics, training, key
        flat = jnp.where(mask[..., None], x, 0.0).reshape(-1, self.features)
        y = flat @ variables.weight
        if variables.bias is not None:
            y = y + variables.bias[None]
        return y.reshape(*x.shape[:-1], self.outputs), ()


class Dropout(Layer):
    """In training, each value is 0 with probability `rate` and else divided by `1 - rate` (Srivastava 2014) [paper].

    Attributes:
        rate: below 1.
    """

    rate: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise InputError(f"the rate of dropout is {self.rate}: give at least 0 and less than 1.")

    def init(self, key: PRNGKeyArray) -> tuple[tuple[()], tuple[()]]:
        """Nothing is learned, and nothing kept."""
        del key
        return (), ()

    def __call__(
        self,
        variables: tuple[()],
        statistics: tuple[()],
        x: Float[Array, "clusters rows features"],
        mask: Bool[Array, "clusters rows"],
        training: bool,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "clusters rows features"], tuple[()]]:
        """`x` itself in serving.

        Raises:
            InputError: in training without a key.
        """
        del variables, statistics, mask
        if not training or self.rate == 0.0:
            return x, ()
        if key is None:
            raise InputError(f"dropout at rate {self.rate} has no key: hand one over in training.")
        kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0), ()
