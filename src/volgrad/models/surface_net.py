"""The surface network: what a chain and the memory of earlier ones say of its shapes and of missing expiries.

A row is an expiry (listed in the chain, or only remembered), a cluster a chain. Each row is encoded by itself, sees the
mean of its chain and its two neighbours in time, and is decoded to numbers that are all 0 at the start, where the last
layer is 0: corrections to the prior of the local-volatility surface, and shares of what is remembered. Whatever they
are, the surface that is fitted around them is free of arbitrage.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from volgrad.models.local_vol import KNOTS
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.mlp import Mlp
from volgrad.models.networks.normalisation import make_normalisation

__all__ = ["OUTPUTS", "Spoken", "SurfaceNetwork", "spoken"]

#: Knots of shapes and smiles, in standard deviations.
_COUNT = KNOTS.size
#: Numbers a row: shares of two levels, a level, and at each knot the share of a smile, the share of a shape, a shape.
OUTPUTS = 3 + 3 * _COUNT
_LEVEL_UNIT, _SHAPE_UNIT = 0.01, 0.2


class Spoken(eqx.Module):
    """What the network says of each expiry; all 0 means: as if there were no network.

    level_shares: of the fast and of the slow memory of the expiry's own level. Shape: (..., 2).
    level: further ln volatility of a missing expiry beyond what its neighbours say. Shape: (...).
    smile_share: of the remembered smile at each knot. Shape: (..., knots).
    shape_share: of the way from the prior's mean to the remembered shape, at each knot. Shape: (..., knots).
    shape: further log local variance of the prior's mean at each knot. Shape: (..., knots).
    """

    level_shares: Float[Array, "... 2"]
    level: Float[Array, "..."]
    smile_share: Float[Array, "... knots"]
    shape_share: Float[Array, "... knots"]
    shape: Float[Array, "... knots"]


def spoken(outputs: Float[Array, "... outputs"]) -> Spoken:
    """The outputs by name, shares bounded by 1 and corrections by a few units.

    >>> float(abs(spoken(jnp.zeros((2, OUTPUTS))).shape).max())
    0.0
    """
    level, smile, share, shape = jnp.split(outputs, [3, 3 + _COUNT, 3 + 2 * _COUNT], axis=-1)
    return Spoken(
        jnp.tanh(level[..., :2]),
        3.0 * _LEVEL_UNIT * jnp.tanh(level[..., 2] / 3.0),
        jnp.tanh(smile),
        jnp.tanh(share),
        3.0 * _SHAPE_UNIT * jnp.tanh(shape / 3.0),
    )


class SurfaceNetwork(Layer):
    """Encoder of each expiry, mixing over the chain and over neighbours, decoder; rows ascend in time to expiry.

    Attributes:
        features: of a row.
        encoder, decoder: perceptrons.
    """

    features: int = eqx.field(static=True)
    encoder: Mlp
    decoder: Mlp

    @classmethod
    def of(cls, features: int, width: int = 64, depth: int = 2, norm: str = "ghost") -> "SurfaceNetwork":
        """A network of `depth` hidden blocks on either side of the mixing."""
        normalisation = make_normalisation(norm, **({"clusters_per_group": 16} if norm == "ghost" else {}))
        encoder = Mlp(features, width, width=width, depth=depth, normalisation=normalisation)
        decoder = Mlp(4 * width, OUTPUTS, width=width, depth=depth, normalisation=normalisation)
        return cls(features, encoder, decoder)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """Drawn weights, but a last layer of 0: nothing is said at first."""
        first, second = jax.random.split(key)
        encoder, seen = self.encoder.init(first)
        decoder, met = self.decoder.init(second)
        silent = (*decoder[:-1], jax.tree.map(jnp.zeros_like, decoder[-1]))
        return {"encoder": encoder, "decoder": silent}, {"encoder": seen, "decoder": met}

    def __call__(
        self,
        variables: PyTree,
        statistics: PyTree,
        x: Float[Array, "clusters rows features"],
        mask: Bool[Array, "clusters rows"],
        training: bool,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "clusters rows outputs"], PyTree]:
        """Outputs of every row (see `spoken`), and the statistics after this batch."""
        own, seen = self.encoder(variables["encoder"], statistics["encoder"], x, mask, training, key)
        own = jnp.where(mask[..., None], jax.nn.silu(own), 0.0)
        count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)[..., None].astype(own.dtype)
        whole = jnp.broadcast_to(own.sum(axis=1, keepdims=True) / count, own.shape)
        before = jnp.pad(own, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        after = jnp.pad(own, ((0, 0), (0, 1), (0, 0)))[:, 1:]
        mixed = jnp.concatenate([own, whole, before, after], axis=-1)
        out, met = self.decoder(variables["decoder"], statistics["decoder"], mixed, mask, training, key)
        return out, {"encoder": seen, "decoder": met}
