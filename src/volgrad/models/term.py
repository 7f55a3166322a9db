"""At-the-money variance between listed expiries, for surfaces whose slices have a closed form."""

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.market.clock import clock_years
from volgrad.market.instruments import YEAR_US

__all__ = ["Place", "locate", "surface_clock"]

_STEEPEST = 3.0  # times the secant: a cubic with ends up to here is monotone (Fritsch and Carlson 1980) [paper]
_FIRST = 1e-12  # years of clock; a surface is asked for times after its own


class Place:
    """Where times lie among the expiries, and how much variance has passed by then.

    Attributes:
        left: the expiry before each time; the first for earlier ones, the one before the last for later ones.
        theta: at-the-money total variance at each time; it never falls where it does not fall between expiries.
        part: share of the interval's growth of `theta` that has passed, in [0, 1]; 0 before the first expiry.
        early, late: which times lie before the first expiry, and after the last.
    """

    def __init__(self, node_clock: np.ndarray, node_theta: np.ndarray, clock: np.ndarray) -> None:
        """From clock years and variance of the expiries (ascending), and the clock years that are asked for."""
        count = node_clock.size
        self.early, self.late = clock < node_clock[0], clock > node_clock[-1]
        self.left: Int64[np.ndarray, " times"] = np.clip(np.searchsorted(node_clock, clock, "right") - 1, 0, count - 1)
        x, y = np.log(node_clock), np.log(node_theta)
        at = np.log(np.maximum(clock, _FIRST))
        inner = np.clip(at, x[0], x[-1])
        right = np.minimum(self.left + 1, count - 1)
        width = np.where(right > self.left, x[right] - x[self.left], 1.0)
        up = (inner - x[self.left]) / width
        slope = _slopes(x, y)
        left_y, right_y = y[self.left], y[right]
        cubic = left_y + up**2 * (3.0 - 2.0 * up) * (right_y - left_y)
        cubic += up * (1.0 - up) * width * ((1.0 - up) * slope[self.left] - up * slope[right])
        # volatility stays what it is at the ends
        self.theta: Float64[np.ndarray, " times"] = np.exp(cubic + (at - inner))
        rise = node_theta[right] - node_theta[self.left]
        gone = np.exp(cubic) - node_theta[self.left]
        self.part: Float64[np.ndarray, " times"] = np.where(
            np.abs(rise) > 0.0, np.clip(gone / np.where(rise == 0.0, 1.0, rise), 0.0, 1.0), up
        )


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes at the nodes of a monotone cubic: weighted harmonic means of the secants (Fritsch and Butland 1984)."""
    if x.size == 1:
        return np.ones(1)
    gap, secant = np.diff(x), np.diff(y) / np.diff(x)
    slope = np.empty(x.size)
    before, after = secant[:-1], secant[1:]
    same = before * after > 0.0
    one, two = 2.0 * gap[1:] + gap[:-1], gap[1:] + 2.0 * gap[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope[1:-1] = np.where(same, (one + two) / (one / before + two / after), 0.0)
    for end, near in ((0, secant[0]), (-1, secant[-1])):  # towards flat volatility, which is slope 1
        slope[end] = np.clip(1.0, 0.0, _STEEPEST * max(near, 0.0))
    return slope


def surface_clock(ts_us: int, years: Float64[np.ndarray, " times"]) -> Float64[np.ndarray, " times"]:
    """Times after `ts_us`, ACT/365, in the variance clock (`market.clock`)."""
    return clock_years(ts_us, ts_us + np.rint(years * YEAR_US).astype(np.int64))


def locate(
    ts_us: int,
    expiry_years: Float64[np.ndarray, " expiries"],
    theta: Float64[np.ndarray, " expiries"],
    years: Float64[np.ndarray, " times"],
) -> Place:
    """`Place` of times (years, > 0) among the expiries of a surface of the time `ts_us`.

    Between expiries `ln theta` is a monotone cubic of the logarithm of the variance clock, so that a flat volatility
    stays flat and a smooth one smooth; outside them volatility is that of the nearest expiry.
    """
    return Place(surface_clock(ts_us, expiry_years), theta, surface_clock(ts_us, years))
