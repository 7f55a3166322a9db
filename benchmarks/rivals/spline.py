"""Rival: a smoothing spline of implied volatility in x = k / sqrt(theta), one slice at a time.

`scipy.interpolate.make_smoothing_spline` with the penalty by generalised cross-validation (Wahba 1990)
(paper), weights 1 / half-spread^2, straight beyond the quotes.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import BSpline, make_smoothing_spline

from benchmarks.rivals.slices import SliceCurve, Slices

VERSION = "1"
FEWEST_QUOTES = 5  # of make_smoothing_spline
SMALLEST_IV = 0.01


def one(
    x: Float[np.ndarray, " quotes"], iv: Float[np.ndarray, " quotes"], half: Float[np.ndarray, " quotes"]
) -> BSpline:
    """The spline of one slice; a straight line by weighted least squares with fewer than five quotes."""
    if len(x) >= FEWEST_QUOTES:
        return make_smoothing_spline(x, iv, w=(half.min() / half) ** 2)
    slope, level = np.polyfit(x, iv, min(1, len(x) - 1), w=1 / half) if len(x) > 1 else (0.0, iv[0])
    return BSpline(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([level - slope, level + slope]), 1)


def curve(slices: Slices) -> SliceCurve:
    """Fits every slice; the answer extrapolates straight from the last quotes of each side."""
    fitted, edges, unit = [], np.empty((len(slices.used), 2)), np.empty(len(slices.used))
    for i, used in enumerate(slices.used):
        k, iv = slices.log_moneyness[i, used], slices.iv[i, used]
        unit[i] = iv[np.argmin(np.abs(k))] * np.sqrt(slices.tau_years[i])
        edges[i] = k[0] / unit[i], k[-1] / unit[i]
        fitted.append(one(k / unit[i], iv, slices.half_spread_vol[i, used]))

    def total_variance(which: Int[np.ndarray, " rows"], k: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        x = k / unit[which]
        held = np.clip(x, *edges[which].T)
        iv = np.empty(len(x))
        order = np.argsort(which, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1) if len(order) else []:
            spline = fitted[which[rows[0]]]
            iv[rows] = spline(held[rows]) + spline.derivative()(held[rows]) * (x[rows] - held[rows])
        return np.maximum(iv, SMALLEST_IV) ** 2 * slices.tau_years[which]

    return total_variance
