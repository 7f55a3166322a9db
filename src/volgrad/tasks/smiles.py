"""Quotes as the tasks of closed-form surfaces take them, and what these tasks have in common."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, Int32

from volgrad.learning.batching.batch import Batch, Leaf
from volgrad.market.chain import Chain
from volgrad.tasks.framing import NARROWEST
from volgrad.tasks.surface import quote_loss, quote_stiffness

__all__ = ["SmileRows", "distances", "quality", "smile_rows", "weighed"]


class SmileRows(NamedTuple):
    """Quotes, one cluster each.

    expiry: index into the task's expiries.
    log_moneyness: `ln(K/F)`.
    mid_vol, half_spread: annual implied volatility, fractions.
    years: time to expiry.
    """

    expiry: Int32[Leaf, " quotes"]
    log_moneyness: Float64[Leaf, " quotes"]
    mid_vol: Float64[Leaf, " quotes"]
    half_spread: Float64[Leaf, " quotes"]
    years: Float64[Leaf, " quotes"]


def smile_rows(
    chain: Chain, expiry: Int32[np.ndarray, " rows"], place: Any, shape: tuple[int, ...]
) -> tuple[SmileRows, Bool[np.ndarray, "..."]]:
    """The chain's quotes at `place` of arrays of a shape, and where they are; elsewhere stands a harmless quote."""

    def padded(values: Any, harmless: float) -> Any:
        table = np.full(shape, harmless, values.dtype)
        table[place] = values
        return table

    bid, ask = chain.bid_iv, chain.ask_iv
    half_spread = np.maximum(0.5 * (ask - bid), NARROWEST)
    years = chain.expiry_years[chain.expiry_index]
    values = (expiry.astype(np.int32), chain.log_moneyness, 0.5 * (bid + ask), half_spread, years)
    rows = SmileRows(*(padded(one, harmless) for one, harmless in zip(values, (0, 0.0, 1.0, 1.0, 1.0), strict=True)))
    return rows, padded(np.ones(chain.n_rows, bool), False)


def distances(vol: Float64[Array, " quotes"], batch: Batch) -> Float64[Array, " quotes"]:
    """Signed distance of volatilities from the middle of each quote in half-spreads; 0 where masked."""
    return jnp.where(batch.mask, (vol - batch.rows.mid_vol) / batch.rows.half_spread, 0.0)


def weighed(
    z: Float64[Array, " quotes"], batch: Batch, pull: float, bound: float
) -> tuple[Float64[Array, ""], Float64[Array, " quotes"]]:
    """Weighted sum of the losses of quotes (`tasks.surface.quote_loss`), and their weighted stiffness."""
    weight = jnp.where(batch.mask, batch.weight, 0.0)
    return weight @ quote_loss(z, pull, bound), weight * quote_stiffness(z, pull, bound)


def quality(z: Float64[Array, " quotes"], batch: Batch) -> dict[str, Any]:
    """Share of quotes that are met inside, and distance from the middle in vol points."""
    count = jnp.maximum(batch.mask.sum(), 1)
    miss = 100.0 * z * jnp.where(batch.mask, batch.rows.half_spread, 0.0)
    inside = (batch.mask & (jnp.abs(z) <= 1.0)).sum() / count
    return {"inside": inside, "rmse_vol_points": jnp.sqrt((miss**2).sum() / count)}
