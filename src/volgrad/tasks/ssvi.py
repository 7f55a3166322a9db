"""The task of fitting SSVI or eSSVI to a chain: quotes in, coordinates of slices without arbitrage out."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float64

from volgrad.learning.batching.batch import Batch, Leaf
from volgrad.learning.training.task import Quadratic, Residuals, StructuredLeastSquares
from volgrad.models.ssvi import SsviSlices, WingCoordinates, total_variance
from volgrad.tasks.smiles import SmileRows, distances, quality, weighed
from volgrad.tasks.surface import quote_loss

__all__ = ["SsviTask"]

# of the coordinates, around the start: holds what no quote speaks of, and weighs nothing elsewhere (assumption)
_RIDGE = 0.01
# Of the loss of a quote: squares inside bid and ask, soon straight beyond. Three numbers an expiry, or fewer, miss many
# quotes whatever they are; squares, which follow the worst missed, meet fewer of the others (measured:
# docs/surface.md).
_PULL, _BOUND = 1.0, 0.1


class SsviTask(StructuredLeastSquares):
    """Slices of SSVI or eSSVI through the quotes of one chain, in coordinates that exclude arbitrage.

    Attributes:
        coordinates: what the variables mean.
        centre: variables of the start, towards which a weak ridge pulls. Shape: (variables,).
        quotes: number of quotes of the chain; each batch carries its share of the ridge.
    """

    coordinates: WingCoordinates
    centre: Float64[Leaf, " variables"]
    quotes: Float64[Leaf, ""]

    def init(self, key: Any) -> tuple[Float64[Array, " variables"], None]:
        """The centre (the key is not used)."""
        del key
        return jnp.asarray(self.centre), None

    def implied_vol(self, variables: Float64[Array, " variables"], rows: SmileRows) -> Float64[Array, " quotes"]:
        """Implied volatility of the surface at each quote, annual, a fraction."""
        own = jax.tree.map(lambda values: values[rows.expiry], self.coordinates.slices(variables))
        return jnp.sqrt(total_variance(own, jnp.asarray(rows.log_moneyness)) / rows.years)

    def loss(
        self, variables: Float64[Array, " variables"], statistics: None, batch: Batch, key: Any
    ) -> tuple[Float64[Array, " quotes"], None]:
        """Loss of each quote, and its share of the ridge."""
        del statistics, key
        pulled = variables - self.centre
        z = distances(self.implied_vol(variables, batch.rows), batch)
        return quote_loss(z, _PULL, _BOUND) + 0.5 * _RIDGE * pulled @ pulled / self.quotes, None

    def residuals(self, variables: Float64[Array, " variables"], batch: Batch) -> Residuals:
        """Distances from the quotes, and the batch's share of the ridge."""
        z = distances(self.implied_vol(variables, batch.rows), batch)
        loss, stiffness = weighed(z, batch, _PULL, _BOUND)
        pulled = jnp.sqrt(self._share(batch)) * (variables - self.centre)
        value = jnp.concatenate([z, pulled])
        return Residuals(value, jnp.concatenate([stiffness, jnp.ones_like(pulled)]), loss + 0.5 * pulled @ pulled)

    def quadratic(self, variables: Float64[Array, " variables"], batch: Batch) -> Quadratic:
        """The Gauss-Newton model: a quote feels its own slice alone, so what is summed is 3 by 3 an expiry."""
        rows = batch.rows
        slices, push = jax.linearize(self.coordinates.slices, variables)
        by_variable = jax.vmap(push, out_axes=-1)(jnp.eye(variables.size))  # each (expiries, variables)
        own = jax.tree.map(lambda values: values[rows.expiry], slices)
        variance, *by_slice = _with_slopes(own, jnp.asarray(rows.log_moneyness))
        vol = jnp.sqrt(variance / rows.years)
        z = distances(vol, batch)
        loss, stiffness = weighed(z, batch, _PULL, _BOUND)
        slope = jnp.where(batch.mask, 0.5 * vol / (variance * rows.half_spread), 0.0)
        columns = jnp.stack([*(slope * one for one in by_slice), z])  # derivatives of z, and z itself
        belongs = rows.expiry[:, None] == jnp.arange(slices.theta.size)[None, :]
        products = (columns[:, None] * columns[None, :3] * stiffness[None, None, :]).reshape(12, -1) @ belongs.astype(
            z.dtype
        )
        products = products.reshape(4, 3, -1)
        by_variable = jnp.stack(by_variable)
        half = jnp.einsum("abe,bev->aev", products, by_variable)
        flat = by_variable.reshape(-1, variables.size)
        share, pulled = self._share(batch), variables - self.centre
        normal = flat.T @ half[:3].reshape(-1, variables.size) + share * jnp.eye(variables.size)
        return Quadratic(loss + 0.5 * share * pulled @ pulled, half[3].sum(0) + share * pulled, normal)

    def evaluate(self, variables: Float64[Array, " variables"], statistics: None, batch: Batch) -> dict[str, Any]:
        """Share of quotes whose implied volatility lies inside the quote, and distance from the middle."""
        del statistics
        return quality(distances(self.implied_vol(variables, batch.rows), batch), batch)

    def _share(self, batch: Batch) -> Float64[Array, ""]:
        return _RIDGE * jnp.where(batch.mask, batch.weight, 0.0).sum() / self.quotes


def _with_slopes(slices: SsviSlices, k: Float64[Array, " quotes"]) -> tuple[Array, Array, Array, Array]:
    """Total variance, and its derivatives by `theta`, `rho` and `psi`."""
    theta, rho, psi = (jnp.asarray(values) for values in slices)
    tilted = psi * k
    root = jnp.sqrt(tilted**2 + 2.0 * rho * theta * tilted + theta**2)
    variance = 0.5 * (theta + rho * tilted + root)
    by_theta = 0.5 * (1.0 + (rho * tilted + theta) / root)
    by_rho = 0.5 * tilted * (1.0 + theta / root)
    by_psi = 0.5 * k * (rho + (tilted + rho * theta) / root)
    return variance, by_theta, by_rho, by_psi
