"""Static arbitrage on slices and grids of total variance: how far from it, not only whether.

A surface is given as total variance `w = vol^2 tau` at log-moneyness `k = ln(K/F)`, each expiry normalised
by its own forward. Rows are expiries, the last axis is moneyness. Non-negative measures everywhere mean: no
arbitrage. A variance that is NaN or not positive is itself a violation and shows as minus infinity, never
as a NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float64

from volgrad.market.black import price

__all__ = [
    "LEE_SLOPE",
    "Diagnosis",
    "calendar_gap",
    "diagnose",
    "durrleman_g",
    "grid_durrleman_g",
    "price_convexity",
    "slice_derivatives",
    "wing_slopes",
]

#: Total variance grows at most this fast in |k|: `limsup w/|k| <= 2` (Lee, "The moment formula for implied
#: volatility at extreme strikes", Mathematical Finance 14, 2004). Necessary, not sufficient.
LEE_SLOPE = 2.0


class Diagnosis(NamedTuple):
    """The worst value of each measure on a grid; all scalars, all but the slopes are clean when >= 0.

    Attributes:
        min_g: least Durrleman function (no unit), on interior points.
        min_convexity: least scaled second difference of the normalised premium in strike.
        min_calendar: least growth of total variance from one expiry to the next at fixed forward-moneyness; 0
            where there is one expiry only.
        max_wing_slope: steepest outward growth of total variance at either end; clean when <= `LEE_SLOPE`.
    """

    min_g: Float64[Array, ""]
    min_convexity: Float64[Array, ""]
    min_calendar: Float64[Array, ""]
    max_wing_slope: Float64[Array, ""]


def durrleman_g(
    log_moneyness: Float64[Array, "*points"],
    total_variance: Float64[Array, "*points"],
    slope: Float64[Array, "*points"],
    curvature: Float64[Array, "*points"],
) -> Float64[Array, "*points"]:
    """Durrleman's function: negative where the slice implies a negative probability density.

    `g = (1 - k w'/(2w))^2 - (w'^2/4)(1/w + 1/4) + w''/2`; the density of ln(S/F) is `g n(d2) / sqrt(w)`.

    Args:
        log_moneyness: `k`.
        total_variance: `w`, > 0 for a finite result.
        slope: `w' = dw/dk`.
        curvature: `w'' = d2w/dk2`.

    Returns:
        g; minus infinity where `w` is NaN or not positive.

    Source: Gatheral and Jacquier, arXiv 1204.0646, eq. 2.1 (paper). A flat slice has g = 1:

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     print(float(durrleman_g(jnp.array(0.3), jnp.array(0.04), jnp.array(0.0), jnp.array(0.0))))
    1.0
    """
    valid = total_variance > 0
    w = jnp.where(valid, total_variance, 1.0)
    g = jnp.square(1 - log_moneyness * slope / (2 * w))
    g = g - jnp.square(slope) / 4 * (1 / w + 0.25) + curvature / 2
    return jnp.where(valid & ~jnp.isnan(g), g, -jnp.inf)


def slice_derivatives(
    log_moneyness: Float64[Array, " points"], total_variance: Float64[Array, "*expiries points"]
) -> tuple[Float64[Array, "*expiries inner"], Float64[Array, "*expiries inner"]]:
    """First and second derivative in `k` at the interior points, by three points of an uneven grid.

    Args:
        log_moneyness: strictly ascending, at least three points.
        total_variance: on those points, one row an expiry.

    Returns:
        `w'` and `w''`, two points fewer. Both are exact for a parabola.

    Source: Lagrange's interpolating parabola.
    """
    before, after = log_moneyness[1:-1] - log_moneyness[:-2], log_moneyness[2:] - log_moneyness[1:-1]
    both = before + after
    left, middle, right = total_variance[..., :-2], total_variance[..., 1:-1], total_variance[..., 2:]
    up, down = (right - middle) / _row(after, middle), (middle - left) / _row(before, middle)
    slope = (_row(before, middle) * up + _row(after, middle) * down) / _row(both, middle)
    return slope, 2 * (up - down) / _row(both, middle)


@jax.jit
def grid_durrleman_g(
    log_moneyness: Float64[Array, " points"], total_variance: Float64[Array, "*expiries points"]
) -> Float64[Array, "*expiries inner"]:
    """Durrleman's function at the interior points of a grid, by finite differences (`slice_derivatives`).

    A variance that is NaN or not positive makes its own point and both neighbours minus infinity.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     k = jnp.linspace(-1.0, 1.0, 5)
    ...     print(grid_durrleman_g(k, jnp.full(5, 0.04)))
    [1. 1. 1.]
    """
    w = jnp.where(total_variance > 0, total_variance, jnp.nan)
    slope, curvature = slice_derivatives(log_moneyness, w)
    middle = w[..., 1:-1]
    return durrleman_g(jnp.broadcast_to(log_moneyness[1:-1], middle.shape), middle, slope, curvature)


@jax.jit
def price_convexity(
    log_moneyness: Float64[Array, " points"], total_variance: Float64[Array, "*expiries points"]
) -> Float64[Array, "*expiries inner"]:
    """Value of each adjacent butterfly: change of the premium's slope in strike, times the shorter spacing.

    Exact for the discrete strikes: negative means that these three options alone can be traded for free
    money. No derivative is taken. Puts are used below the forward and calls above, which changes nothing by
    parity and keeps the wings' digits.

    Args:
        log_moneyness: strictly ascending, at least three points.
        total_variance: on those points, one row an expiry.

    Returns:
        As a fraction of the forward, at the interior points; minus infinity where a variance is invalid.
    """
    strike = jnp.exp(log_moneyness)
    gap = jnp.diff(strike)
    total_volatility = jnp.sqrt(jnp.where(total_variance > 0, total_variance, jnp.nan))
    k = jnp.broadcast_to(log_moneyness, total_variance.shape)

    def bend(is_call: bool) -> Float64[Array, "*expiries inner"]:
        slope = jnp.diff(price(k, total_volatility, is_call), axis=-1)
        return jnp.diff(slope / _row(gap, slope), axis=-1)

    put, call = bend(False), bend(True)
    value = jnp.where(k[..., 1:-1] < 0, put, call) * _row(jnp.minimum(gap[1:], gap[:-1]), put)
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def calendar_gap(
    total_variance: Float64[Array, "expiries points"],
) -> Float64[Array, "intervals points"]:
    """Growth of total variance from each expiry to the next, at fixed forward-moneyness.

    Negative is arbitrage. Never compare at fixed strike: each expiry has its own forward.

    Args:
        total_variance: rows in order of expiry, all on the same `k`.

    Returns:
        One row fewer; minus infinity where either variance is invalid.

    Source: Gatheral and Jacquier, arXiv 1204.0646, Lemma 2.1 (paper).
    """
    valid = total_variance > 0
    gap = jnp.diff(jnp.where(valid, total_variance, 0.0), axis=0)
    return jnp.where(valid[1:] & valid[:-1], gap, -jnp.inf)


def wing_slopes(
    log_moneyness: Float64[Array, " points"], total_variance: Float64[Array, "*expiries points"]
) -> Float64[Array, "*expiries sides"]:
    """Outward growth `dw/d|k|` between the last two points of each wing: left, right. Lee: at most 2.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     k = jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    ...     print(wing_slopes(k, 0.04 + 0.5 * jnp.abs(k)))
    [0.5 0.5]
    """
    left = (total_variance[..., 0] - total_variance[..., 1]) / (log_moneyness[1] - log_moneyness[0])
    right = (total_variance[..., -1] - total_variance[..., -2]) / (log_moneyness[-1] - log_moneyness[-2])
    slopes = jnp.stack([left, right], axis=-1)
    return jnp.where(jnp.isnan(slopes), jnp.inf, slopes)


@jax.jit
def diagnose(log_moneyness: Float64[Array, " points"], total_variance: Float64[Array, "expiries points"]) -> Diagnosis:
    """The worst of every measure on a grid of expiries and moneyness.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     k = jnp.linspace(-1.0, 1.0, 21)
    ...     flat = diagnose(k, jnp.array([[0.01], [0.04]]) * jnp.ones((1, 21)))
    ...     print(float(flat.min_g), round(float(flat.min_calendar), 12), float(flat.max_wing_slope))
    1.0 0.03 0.0
    """
    calendar = calendar_gap(total_variance)
    return Diagnosis(
        min_g=jnp.min(grid_durrleman_g(log_moneyness, total_variance)),
        min_convexity=jnp.min(price_convexity(log_moneyness, total_variance)),
        min_calendar=jnp.min(calendar) if calendar.size else jnp.zeros(()),
        max_wing_slope=jnp.max(wing_slopes(log_moneyness, total_variance)),
    )


def _row(points: Float64[Array, " points"], like: Float64[Array, "*expiries points"]) -> Array:
    """One row of points as an array of `like`'s rank: ranks are never promoted silently."""
    return points.reshape((1,) * (like.ndim - 1) + points.shape)
