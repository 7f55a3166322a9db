"""The multi-layer perceptron: linear maps, a normalisation of choice, smooth activations, skips, dropout."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from volgrad.errors import InputError, UnknownOptionError
from volgrad.models.networks.dense import Dense, Dropout
from volgrad.models.networks.layer import Layer

__all__ = ["ACTIVATIONS", "Mlp"]

#: Activations by name, with the gain of the weights before them: 2 where half of a centred input is cut off.
#: The smooth ones have the second derivatives that Greeks need; "relu" has none.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "silu": (jax.nn.silu, 2.0),
    "elu": (jax.nn.elu, 2.0),
    "relu": (jax.nn.relu, 2.0),
    "tanh": (jnp.tanh, 1.0),
}


class Mlp(Layer):
    """A multi-layer perceptron on rows: `depth` blocks of linear map, normalisation, activation, dropout; a linear map.

    Variables and statistics are tuples with one entry a layer, in the order of `layers`.

    Attributes:
        layers: all of them, in order: those of each block, then the last map.
        depth: how many blocks.
        activation: a name of `ACTIVATIONS`.
        skip: whether blocks after the first add their input to their output.

    >>> import jax, jax.numpy as jnp
    >>> from volgrad.models.networks.normalisation import make_normalisation
    >>> net = Mlp(3, 1, width=16, depth=2, normalisation=make_normalisation("batch"))
    >>> variables, statistics = net.init(jax.random.key(0))
    >>> x, mask = jnp.ones((5, 7, 3), jnp.float32), jnp.ones((5, 7), bool)
    >>> y, statistics = net(variables, statistics, x, mask, True)
    >>> y.shape
    (5, 7, 1)
    """

    layers: tuple[Layer, ...]
    depth: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    skip: bool = eqx.field(static=True)

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        width: int = 64,
        depth: int = 4,
        normalisation: Callable[[int], Layer] | None = None,
        activation: str = "silu",
        skip: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """Describe a network.

        Args:
            features: of a row that comes in.
            outputs: of a row that goes out.
            width: features of a hidden row.
            depth: hidden blocks; 0 is a linear map.
            normalisation: makes a layer of so many features (`make_normalisation`); None for a network without.
            activation: a name of `ACTIVATIONS`.
            skip: whether blocks after the first add their input to their output.
            dropout: rate after each activation.

        Raises:
            UnknownOptionError: no such activation.
            InputError: a size that cannot be.
        """
        if activation not in ACTIVATIONS:
            raise UnknownOptionError.of("activation", activation, ACTIVATIONS)
        if min(features, outputs, width) < 1 or depth < 0:
            raise InputError(
                f"a network of {features} features, {depth} blocks of {width} and {outputs} outputs cannot be: give at "
                "least 1 each, and at least 0 blocks."
            )
        gain = ACTIVATIONS[activation][1]
        layers: list[Layer] = []
        for number in range(depth):
            layers.append(Dense(width if number else features, width, gain, normalisation is None))
            layers += [] if normalisation is None else [normalisation(width)]
            layers += [Dropout(dropout)] if dropout else []
        layers.append(Dense(width if depth else features, outputs))
        self.layers, self.depth, self.activation, self.skip = tuple(layers), depth, activation, skip

    def init(self, key: PRNGKeyArray) -> tuple[tuple[PyTree, ...], tuple[PyTree, ...]]:
        """Variables and statistics of every layer."""
        keys = jax.random.split(key, len(self.layers))
        made = [layer.init(one) for layer, one in zip(self.layers, keys, strict=True)]
        return tuple(variables for variables, _ in made), tuple(statistics for _, statistics in made)

    def __call__(
        self,
        variables: tuple[PyTree, ...],
        statistics: tuple[PyTree, ...],
        x: Float[Array, "clusters rows features"],
        mask: Bool[Array, "clusters rows"],
        training: bool,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "clusters rows outputs"], tuple[PyTree, ...]]:
        """Outputs of every row (anything finite where masked), and the statistics of every layer."""
        act = ACTIVATIONS[self.activation][0]
        moved: list[Any] = []

        def run(h: Array) -> Array:
            place = len(moved)
            one = None if key is None else jax.random.fold_in(key, place)
            h, after = self.layers[place](variables[place], statistics[place], h, mask, training, one)
            moved.append(after)
            return h

        each = (len(self.layers) - 1) // max(self.depth, 1)
        for number in range(self.depth):
            block, h = self.layers[number * each : (number + 1) * each], x
            for layer in block:
                h = run(act(h) if isinstance(layer, Dropout) else h)
            h = h if isinstance(block[-1], Dropout) else act(h)
            x = x + h if self.skip and number else h
        return run(x), tuple(moved)
