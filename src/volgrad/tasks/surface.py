"""The task of fitting one chain: quotes in, the variables of a local-volatility surface out.

The loss of a quote is a function of `z`, the distance of the surface's implied volatility from the middle of bid and
ask in half-spreads: `pull z^2 / 2` while the surface is inside the quote (|z| < 1), of greater curvature outside, and
linear from `1 + bound` on, so that a stale or mistyped quote cannot bend the surface. The pull is 1: the middle of a
quote is information, and weaker pulls met fewer held-out quotes (measured: docs/surface.md).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Int32

from volgrad.learning.batching.batch import Batch, Leaf
from volgrad.learning.training.task import Quadratic, Residuals, StructuredLeastSquares
from volgrad.market.implied import total_volatility_from_time_value
from volgrad.models.grid import NODES
from volgrad.models.local_vol import Frame, slice_tangents, slice_time_values

__all__ = ["QuoteRows", "SurfaceTask", "pad_rows", "quote_loss", "quote_stiffness"]

_SMALLEST = 1e-300


class QuoteRows(NamedTuple):
    """Quotes as the surface task takes them, one cluster each.

    expiry: index into the frame's expiries.
    node, node_weight: stencil of the cubic through four nodes. Shape: (quotes, 4).
    log_moneyness: `ln(K/F)`.
    mid_vol, half_spread: annual implied volatility, fractions.
    root_years: square root of the time to expiry.
    """

    expiry: Int32[Leaf, " quotes"]
    node: Int32[Leaf, "quotes 4"]
    node_weight: Float64[Leaf, "quotes 4"]
    log_moneyness: Float64[Leaf, " quotes"]
    mid_vol: Float64[Leaf, " quotes"]
    half_spread: Float64[Leaf, " quotes"]
    root_years: Float64[Leaf, " quotes"]


class SurfaceTask(StructuredLeastSquares):
    """Local-volatility surface through the quotes of one chain.

    Attributes:
        frame: the chain's scales and prior.
        quotes: number of quotes of the chain; each batch carries its share of the prior.
        pull, bound: of the loss; see `quote_loss`.
    """

    frame: Frame
    quotes: Float64[Leaf, ""]
    pull: float = eqx.field(default=1.0, static=True)
    bound: float = eqx.field(default=1.5, static=True)

    def init(self, key: Any) -> tuple[Float64[Array, " variables"], None]:
        """The mean of the prior (the key is not used)."""
        del key
        return jnp.zeros(self.frame.factor.shape[-1]), None

    def implied_vol(self, variables: Float64[Array, " variables"], rows: QuoteRows) -> Float64[Array, " quotes"]:
        """Implied volatility of the surface at each quote, annual, a fraction."""
        values = slice_time_values(self.frame, variables)
        return _implied_vol(values[rows.expiry[:, None], rows.node], rows)

    def distances(self, variables: Float64[Array, " variables"], batch: Batch) -> Float64[Array, " quotes"]:
        """Signed distance from the middle of each quote in half-spreads; 0 where masked."""
        vol = self.implied_vol(variables, batch.rows)
        return jnp.where(batch.mask, (vol - batch.rows.mid_vol) / batch.rows.half_spread, 0.0)

    def loss(
        self, variables: Float64[Array, " variables"], statistics: None, batch: Batch, key: Any
    ) -> tuple[Float64[Array, " quotes"], None]:
        """Loss of each quote, and its share of the prior."""
        del statistics, key
        prior = 0.5 * variables @ variables / self.quotes
        return quote_loss(self.distances(variables, batch), self.pull, self.bound) + prior, None

    def residuals(self, variables: Float64[Array, " variables"], batch: Batch) -> Residuals:
        """Distances from the quotes, and the batch's share of the prior's coordinates."""
        z = self.distances(variables, batch)
        weight = jnp.where(batch.mask, batch.weight, 0.0)
        share = weight.sum() / self.quotes
        loss = weight @ quote_loss(z, self.pull, self.bound) + 0.5 * share * variables @ variables
        stiffness = weight * quote_stiffness(z, self.pull, self.bound)
        value = jnp.concatenate([z, jnp.sqrt(share) * variables])
        return Residuals(value, jnp.concatenate([stiffness, jnp.ones_like(variables)]), loss)

    def quadratic(self, variables: Float64[Array, " variables"], batch: Batch) -> Quadratic:
        """The Gauss-Newton model, its Jacobian in float32: what it is off by costs no step (measured)."""
        rows, single = batch.rows, jnp.float32
        values, by_variable = slice_tangents(self.frame, variables)
        around = rows.expiry[:, None], rows.node
        vol, pull_back = jax.vjp(lambda value: _implied_vol(value, rows), values[around])
        z = jnp.where(batch.mask, (vol - rows.mid_vol) / rows.half_spread, 0.0)
        by_value = pull_back(jnp.where(batch.mask, 1.0 / rows.half_spread, 0.0))[0] * values[around]
        jacobian = jnp.einsum("qn,qnv->qv", by_value.astype(single), by_variable[around])
        weight = jnp.where(batch.mask, batch.weight, 0.0)
        share = weight.sum() / self.quotes
        loss = weight @ quote_loss(z, self.pull, self.bound) + 0.5 * share * variables @ variables
        stiffness = weight * quote_stiffness(z, self.pull, self.bound)
        gradient = jacobian.T @ (stiffness * z).astype(single)
        normal = jacobian.T @ (stiffness.astype(single)[:, None] * jacobian)
        prior = share * jnp.eye(variables.size)
        return Quadratic(loss, gradient.astype(z.dtype) + share * variables, normal.astype(z.dtype) + prior)

    def evaluate(self, variables: Float64[Array, " variables"], statistics: None, batch: Batch) -> dict[str, Any]:
        """Share of quotes whose implied volatility lies inside the quote, and distance from the middle."""
        del statistics
        z = self.distances(variables, batch)
        count = jnp.maximum(batch.mask.sum(), 1)
        miss = 100.0 * z * jnp.where(batch.mask, batch.rows.half_spread, 0.0)
        inside = (batch.mask & (jnp.abs(z) <= 1.0)).sum() / count
        return {"inside": inside, "rmse_vol_points": jnp.sqrt((miss**2).sum() / count)}


def _implied_vol(around: Float64[Array, "quotes 4"], rows: QuoteRows) -> Float64[Array, " quotes"]:
    """Annual implied volatility of each quote from the time values at the four nodes around it."""
    gap = jnp.exp(jnp.asarray(NODES)[rows.node]) - 1.0
    is_call = (rows.log_moneyness >= 0.0)[:, None]
    intrinsic = jnp.maximum(jnp.where(is_call, -gap, gap), 0.0)
    # the premium of one option type is smooth and positive across the money: a cubic in its logarithm
    premium = jnp.maximum(around, _SMALLEST) + intrinsic
    own = jnp.maximum(jnp.exp((rows.node_weight * jnp.log(premium)).sum(1)), _SMALLEST)
    return total_volatility_from_time_value(own, jnp.asarray(rows.log_moneyness)) / rows.root_years


def quote_loss(z: Float64[Array, " quotes"], pull: float, bound: float) -> Float64[Array, " quotes"]:
    """Loss of a quote `z` half-spreads from its middle.

    `pull z^2 / 2`, linear beyond `1 + bound`, plus half the square of what lies beyond 1, linear beyond `bound` more.

    >>> from volgrad.runtime import double_precision
    >>> with double_precision():
    ...     print(quote_loss(jnp.array([0.0, 1.0, 2.0]), 1.0, 1.5))
    [0.  0.5 2.5]
    """
    size = jnp.abs(z)
    return _huber(jnp.maximum(size - 1.0, 0.0), bound) + pull * _huber(size, 1.0 + bound)


def quote_stiffness(z: Float64[Array, " quotes"], pull: float, bound: float) -> Float64[Array, " quotes"]:
    """Slope of `quote_loss` over `z`."""
    size = jnp.maximum(jnp.abs(z), 1.0)  # inside the quote the ratio is `pull` throughout
    return (jnp.minimum(size - 1.0, bound) + pull * jnp.minimum(size, 1.0 + bound)) / size


def _huber(size: Float64[Array, " quotes"], bound: float) -> Float64[Array, " quotes"]:
    return jnp.where(size < bound, 0.5 * size**2, bound * size - 0.5 * bound**2)


def pad_rows(rows: QuoteRows, size: int) -> QuoteRows:
    """Rows padded to `size` with copies of the first one (finite, and masked by the batch)."""
    extra = size - rows.expiry.shape[0]
    return QuoteRows(*(np.concatenate([leaf, np.repeat(leaf[:1], extra, axis=0)]) for leaf in rows))
