"""The task of fitting raw SVI to one expiry: quotes in, coordinates of a slice out."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64

from volgrad.learning.batching.batch import Batch, Leaf
from volgrad.learning.training.task import LeastSquares, Residuals
from volgrad.models.svi import SviSlice, from_coordinates, steepest_wing, to_coordinates, total_variance
from volgrad.tasks.smiles import SmileRows, distances, quality, weighed
from volgrad.tasks.surface import quote_loss

__all__ = ["SviTask", "quasi_explicit"]

# What few quotes leave open is pulled to a smile that is usual: vertex at the money, wide. Standard deviations of right
# and left slope, least variance, m, ln sigma. Those of m and sigma as the rival's that they helped (measured:
# benchmarks/rivals/svi.py); the others are an assumption.
_CENTRE = np.array([0.0, 0.0, 0.0, 0.0, np.log(5.0)])
_PULL = np.array([0.2, 0.2, 0.2, 0.4, 0.4])

# Of the loss of a quote: squares inside bid and ask, straight beyond (Huber); meets as many held-out quotes as 1.5, the
# bound of the local-volatility surface, or more (measured on 30 recorded chains)
_LOSS_PULL, _LOSS_BOUND = 1.0, 0.0


class SviTask(LeastSquares):
    """Raw SVI through the quotes of one expiry.

    Attributes:
        theta: at-the-money total variance by which the slice is scaled.
        quotes: number of quotes of the expiry; each batch carries its share of the prior.
    """

    theta: Float64[Leaf, ""]
    quotes: Float64[Leaf, ""]

    def init(self, key: Any) -> tuple[Float64[Array, " variables"], None]:
        """The middle of the prior (the key is not used)."""
        del key
        return jnp.asarray(_CENTRE), None

    def slice_(self, variables: Float64[Array, " variables"]) -> SviSlice:
        """The slice in total variance and log-moneyness."""
        found, root = from_coordinates(variables, 2.0 / jnp.sqrt(self.theta)), jnp.sqrt(self.theta)
        return SviSlice(found.a * self.theta, found.b * root, found.rho, found.m * root, found.sigma * root)

    def implied_vol(self, variables: Float64[Array, " variables"], rows: SmileRows) -> Float64[Array, " quotes"]:
        """Implied volatility of the slice at each quote, annual, a fraction."""
        return jnp.sqrt(total_variance(self.slice_(variables), jnp.asarray(rows.log_moneyness)) / rows.years)

    def loss(
        self, variables: Float64[Array, " variables"], statistics: None, batch: Batch, key: Any
    ) -> tuple[Float64[Array, " quotes"], None]:
        """Loss of each quote, and its share of the prior."""
        del statistics, key
        z, pulled = distances(self.implied_vol(variables, batch.rows), batch), _PULL * (variables - _CENTRE)
        return quote_loss(z, _LOSS_PULL, _LOSS_BOUND) + 0.5 * pulled @ pulled / self.quotes, None

    def residuals(self, variables: Float64[Array, " variables"], batch: Batch) -> Residuals:
        """Distances from the quotes, and the batch's share of the prior."""
        z = distances(self.implied_vol(variables, batch.rows), batch)
        loss, stiffness = weighed(z, batch, _LOSS_PULL, _LOSS_BOUND)
        share = jnp.where(batch.mask, batch.weight, 0.0).sum() / self.quotes
        pulled = jnp.sqrt(share) * _PULL * (variables - _CENTRE)
        value = jnp.concatenate([z, pulled])
        return Residuals(value, jnp.concatenate([stiffness, jnp.ones_like(pulled)]), loss + 0.5 * pulled @ pulled)

    def evaluate(self, variables: Float64[Array, " variables"], statistics: None, batch: Batch) -> dict[str, Any]:
        """Share of quotes whose implied volatility lies inside the quote, and distance from the middle."""
        del statistics
        return quality(distances(self.implied_vol(variables, batch.rows), batch), batch)


def quasi_explicit(
    rows: SmileRows, mask: np.ndarray, theta: Float64[np.ndarray, " slices"], vertices: np.ndarray
) -> Float64[np.ndarray, "slices starts 5"]:
    """Starts with the given (m, sigma): a, b, rho by linear least squares in total variance.

    Leaves of `rows` and `mask` have the shape (slices, quotes); `vertices` are in standard deviations. Source: Zeliade
    Systems, "Quasi-explicit calibration of Gatheral's SVI model", 2009 [paper].
    """
    x = rows.log_moneyness / np.sqrt(theta)[:, None]
    target = rows.mid_vol**2 * rows.years / theta[:, None]
    scale = np.where(mask, rows.mid_vol / (2.0 * target * rows.half_spread), 0.0)[:, None]
    m, sigma = vertices.T[:, :, None]
    z = x[:, None] - m
    basis = np.stack([np.ones_like(z), z, np.hypot(z, sigma)], axis=2) * scale[:, :, None]
    normal = basis @ basis.swapaxes(2, 3)
    normal += 1e-8 * np.eye(3) * (np.trace(normal, axis1=2, axis2=3) + 1e-9)[:, :, None, None]
    right = basis @ (target[:, None] * scale)[:, :, :, None]
    a, slope, b = np.moveaxis(np.linalg.solve(normal, right)[..., 0], -1, 0)
    b = np.maximum(b, 0.02)
    rho = np.clip(slope / b, -0.95, 0.95)
    m, sigma = np.broadcast_to(m[:, 0], b.shape), np.broadcast_to(sigma[:, 0], b.shape)
    return to_coordinates(SviSlice(a, b, rho, m, sigma), steepest_wing(theta)[:, None])
