"""The certificate of a published surface: no static arbitrage anywhere on a dense grid."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from volgrad.market.arbitrage import LEE_SLOPE
from volgrad.models.surface import Surface

__all__ = ["LEAST_G", "Certificate", "calendar_growth", "certify", "dense_moneyness", "grid_g"]

#: Durrleman's function may fall to this by the finite differences of the grid alone (assumption).
LEAST_G = -1e-3
#: Relative fall of total variance from one time to the next that rounding explains.
LEAST_GROWTH = -1e-6


class Certificate(NamedTuple):
    """What a dense grid says of a surface.

    clean: no butterfly and no calendar arbitrage, no missing value, wings within Lee's bound.
    min_g: least value of Durrleman's function (butterfly arbitrage where negative).
    min_calendar: least growth of total variance from one time to the next, relative to its size.
    k_range, tau_range: where it was looked at, log-moneyness and years.
    """

    clean: bool
    min_g: float
    min_calendar: float
    k_range: tuple[float, float]
    tau_range: tuple[float, float]


def dense_moneyness(reach: float, points: int = 401) -> Float64[np.ndarray, " points"]:
    """Log-moneyness from `-reach` to `reach`, dense at the money."""
    return reach * np.sinh(4.0 * np.linspace(-1.0, 1.0, points)) / np.sinh(4.0)


def grid_g(k: Float64[np.ndarray, " points"], variance: Float64[np.ndarray, "times points"]) -> np.ndarray:
    """Durrleman's function at the inner points, by three-point differences; NaN stays NaN.

    As `market.arbitrage.grid_durrleman_g`, in numpy: grids come in every shape here, and each would be compiled anew. A
    test holds the two equal.
    """
    before, after = k[1:-1] - k[:-2], k[2:] - k[1:-1]
    left, middle, right = variance[:, :-2], variance[:, 1:-1], variance[:, 2:]
    span = before + after
    slope = right * (before / (after * span)) - left * (after / (before * span))
    slope += middle * ((after - before) / (before * after))
    curvature = 2.0 * (left / (before * span) - middle / (before * after) + right / (after * span))
    inner = k[1:-1]
    return (1.0 - inner * slope / (2.0 * middle)) ** 2 - slope**2 / 4.0 * (1.0 / middle + 0.25) + curvature / 2.0


def calendar_growth(variance: Float64[np.ndarray, "times points"]) -> np.ndarray:
    """Growth of total variance from each time to the next at fixed forward-moneyness, relative to its size."""
    return np.diff(variance, axis=0) / variance[:-1]


def certify(
    surface: Surface, expiry_years: Float64[np.ndarray, " times"], reach: float = 1.5, points: int = 401
) -> Certificate:
    """Look for static arbitrage at `expiry_years` (ascending) on `|k| <= reach`.

    Butterflies by Durrleman's function (Gatheral and Jacquier 2014, Lemma 2.2) [paper], calendars by growth at fixed
    forward-moneyness, wings by Lee's bound `dw/d|k| <= 2`.
    """
    k = dense_moneyness(reach, points)
    variance = surface.total_variance(k[None, :], expiry_years[:, None])
    with np.errstate(all="ignore"):  # a surface with zeros or infinities is told by its NaNs
        g = grid_g(k, variance)
        growth = calendar_growth(variance) if len(expiry_years) > 1 else np.zeros((1, 1))
    wings = np.stack([variance[:, 0] - variance[:, 1], variance[:, -1] - variance[:, -2]]) / (k[-1] - k[-2])
    least_g = float(np.min(np.where(np.isfinite(g), g, -np.inf)))
    least_growth = float(np.min(np.where(np.isfinite(growth), growth, -np.inf)))
    sound = bool(np.all(variance > 0.0)) and bool(np.all(wings <= LEE_SLOPE))
    clean = sound and least_g >= LEAST_G and least_growth >= LEAST_GROWTH
    ends = (float(expiry_years[0]), float(expiry_years[-1]))
    return Certificate(clean, least_g, least_growth, (-reach, reach), ends)
