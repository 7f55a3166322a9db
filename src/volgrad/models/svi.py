"""Raw SVI: five numbers an expiry, close to most smiles, and free to have arbitrage.

    w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))

(Gatheral 2004) [paper]. The coordinates keep what can be kept slice by slice: wings of positive slope within Lee's
bound, `b (1 + |rho|) <= 2`, a positive `sigma`, and a total variance that is positive at its least. Neither butterflies
nor calendars are excluded by that: such a surface is published with its certificate as it is.

Coordinates are those of the slice in standard deviations of the money, `x = k / sqrt(theta)` and `w / theta`: there one
start and one prior serve every expiry.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float64

from volgrad.market.arbitrage import LEE_SLOPE
from volgrad.models.surface import ListedSurface
from volgrad.models.term import locate

__all__ = ["SviSlice", "SviSurface", "from_coordinates", "steepest_wing", "to_coordinates", "total_variance"]

_FARTHEST = 30.0  # standard deviations that the vertex may lie from the money (assumption)
_WIDEST = 6.0  # of ln sigma, and of ln of the least variance, from their middles (assumption)


class SviSlice(NamedTuple):
    """Raw SVI parameters; of one slice, or of many in arrays of one shape."""

    a: Float64[Array | np.ndarray, "..."]
    b: Float64[Array | np.ndarray, "..."]
    rho: Float64[Array | np.ndarray, "..."]
    m: Float64[Array | np.ndarray, "..."]
    sigma: Float64[Array | np.ndarray, "..."]


def total_variance(
    slice_: SviSlice, log_moneyness: Float64[Array | np.ndarray, "..."]
) -> Float64[Array | np.ndarray, "..."]:
    """Total variance; parameters and log-moneyness broadcast.

    >>> total_variance(SviSlice(*map(np.array, (0.04, 0.1, 0.0, 0.0, 0.1))), np.array([0.0])).round(6)
    array([0.05])
    """
    shift = log_moneyness - slice_.m
    return slice_.a + slice_.b * (slice_.rho * shift + (shift**2 + slice_.sigma**2) ** 0.5)


def steepest_wing(theta: Float64[np.ndarray, " expiries"]) -> Float64[np.ndarray, " expiries"]:
    """Lee's bound on the slope of a wing, in standard deviations of the money."""
    return LEE_SLOPE / np.sqrt(theta)


def from_coordinates(coordinates: Float64[Array, "*slices 5"], steepest: Float64[Array, "*slices"]) -> SviSlice:
    """The slice, in standard deviations, of any five real numbers: right and left slope, least variance, m, ln sigma.

    `steepest` is Lee's bound in these units, `2 / sqrt(theta)`. Any real numbers will do.
    """
    right, left, least, place, width = jnp.moveaxis(jnp.asarray(coordinates), -1, 0)
    right, left = (1.0 / (1.0 / steepest + jnp.exp(-jnp.arcsinh(side))) for side in (right, left))
    sigma = jnp.exp(_WIDEST * jnp.tanh(width / _WIDEST))
    b, rho = 0.5 * (right + left), (right - left) / (right + left)
    bottom = jnp.exp(_WIDEST * jnp.tanh(least / _WIDEST))
    a = bottom - sigma * jnp.sqrt(right * left)  # b sqrt(1 - rho^2) is the geometric mean of the slopes
    return SviSlice(a, b, rho, _FARTHEST * jnp.tanh(place / _FARTHEST), sigma)


def to_coordinates(slice_: SviSlice, steepest: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "... 5"]:
    """Coordinates near a slice in standard deviations (exact inside the bounds; numpy)."""
    slopes = []
    for sign in (1.0, -1.0):
        side = np.clip(slice_.b * (1.0 + sign * slice_.rho), 1e-3 * np.minimum(steepest, 1.0), 0.98 * steepest)
        slopes.append(np.sinh(-np.log(1.0 / side - 1.0 / steepest)))
    bottom = slice_.a + slice_.sigma * slice_.b * np.sqrt(np.maximum(1.0 - np.asarray(slice_.rho) ** 2, 0.0))
    least = np.log(np.maximum(bottom, 1e-2))
    width = np.clip(np.log(slice_.sigma) / _WIDEST, -0.99, 0.99)
    place = np.clip(np.asarray(slice_.m) / _FARTHEST, -0.99, 0.99)
    inner = [_WIDEST * np.arctanh(np.clip(least / _WIDEST, -0.99, 0.99)), _FARTHEST * np.arctanh(place)]
    return np.stack([*slopes, *inner, _WIDEST * np.arctanh(width)], axis=-1)


@dataclass(frozen=True, eq=False)
class SviSurface(ListedSurface):
    """Raw SVI of each listed expiry, joined at equal `k / sqrt(theta)`: it may have arbitrage.

    Between expiries at-the-money total variance follows `models.term`, and total variance over it is mixed at equal
    log-moneyness in standard deviations; before the first and after the last expiry the smile keeps its shape there.

    Attributes:
        ts_us, expiry_years, forward_usd, quoted: of `ListedSurface`.
        parameters: a, b, rho, m, sigma of each expiry. Shape: (expiries, 5).
    """

    ts_us: int
    expiry_years: Float64[np.ndarray, " expiries"]
    forward_usd: Float64[np.ndarray, " expiries"]
    quoted: Float64[np.ndarray, "expiries 2"]
    parameters: Float64[np.ndarray, "expiries 5"]

    @cached_property
    def theta(self) -> Float64[np.ndarray, " expiries"]:
        """At-the-money total variance of each expiry."""
        return np.asarray(total_variance(SviSlice(*self.parameters.T), np.zeros(len(self.parameters))))

    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Total variance at any log-moneyness and any time after the surface's own; NaN at or before it."""
        k, tau = np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64)
        alive = tau > 0.0  # False for NaN
        years = np.where(alive, tau, self.expiry_years[0]).ravel()
        place = locate(self.ts_us, self.expiry_years, self.theta, years)
        level, part = place.theta.reshape(tau.shape), place.part.reshape(tau.shape)
        left = place.left.reshape(tau.shape)
        x = k / np.sqrt(level)
        right = np.minimum(left + 1, self.theta.size - 1)
        shape = (1.0 - part) * self._shape(left, x) + part * self._shape(right, x)
        return np.where(alive, level * shape, np.nan)

    def _shape(self, index: np.ndarray, x: np.ndarray) -> np.ndarray:
        """`w / theta` of the slices `index` at `x = k / sqrt(theta)`."""
        slice_ = SviSlice(*np.moveaxis(self.parameters[index], -1, 0))
        theta = self.theta[index]
        return np.asarray(total_variance(slice_, x * np.sqrt(theta))) / theta
