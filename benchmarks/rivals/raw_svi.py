"""Rival: raw SVI by scipy, one expiry at a time, three starts; joined at equal k / sqrt(theta).

The usual recipe: `scipy.optimize.least_squares` within bounds on the volatility's distance from the middle of the quote
in half-spreads, m and sigma of the starts by hand and a, b, rho by linear least squares (Zeliade 2009) (paper), the
least variance not below 0 and b within Lee's bound. Unlike `rivals.svi`, which is the same model made stronger and
faster by hand, nothing holds what few quotes leave open. The derivatives are the formula's.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from benchmarks.rivals.wings import Quotes, quotes_of
from volgrad.market.chain import Chain

STARTS = ((0.0, 0.5), (-0.5, 1.5), (0.5, 0.15))  # m and sigma, standard deviations of the money
SMALLEST_W = 1e-4
MOST_PASSES = 100


class Curve(NamedTuple):
    """Parameters a, b, rho, m, sigma of each expiry; answers in implied volatility."""

    years: Float[np.ndarray, " expiries"]
    parameters: Float[np.ndarray, "expiries 5"]

    def implied_vol(self, k: Float[np.ndarray, " rows"], years: Float[np.ndarray, " rows"]) -> np.ndarray:
        """Annual, a fraction; total variance is linear in calendar time at equal k / sqrt(theta)."""
        theta = total_variance(self.parameters, np.zeros(self.years.size))
        before = np.clip(np.searchsorted(self.years, years + 1e-7, side="right") - 1, 0, None)
        after = np.clip(np.searchsorted(self.years, years - 1e-7), None, self.years.size - 1)
        inner = after > before
        gap = np.where(inner, self.years[after] - self.years[before], 1.0)
        share = np.where(inner, (years - self.years[before]) / gap, 0.0)
        level = (1 - share) * theta[before] + share * theta[after]
        level = np.where(inner, level, level * years / self.years[before])
        # total variance is linear: what each side weighs at the money times its shape
        weights = (1 - share) * theta[before], share * theta[after]
        shapes = [self._shape(side, theta, k / np.sqrt(level)) for side in (before, after)]
        mixed = (weights[0] * shapes[0] + weights[1] * shapes[1]) / (weights[0] + weights[1])
        return np.sqrt(level * mixed / years)

    def _shape(self, side: np.ndarray, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.maximum(total_variance(self.parameters[side], x * np.sqrt(theta[side])) / theta[side], 1e-10)


def total_variance(parameters: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Raw SVI, a row of parameters for each k."""
    a, b, rho, m, sigma = parameters.T
    return a + b * (rho * (k - m) + np.hypot(k - m, sigma))


def svi(chain: Chain) -> Curve:
    """Raw SVI of every expiry of a chain."""
    told = quotes_of(chain)
    return Curve(told.years, np.array([_slice(told, rows) for rows in told.slices()]))


def _slice(told: Quotes, rows: slice) -> np.ndarray:
    k, mid, half, tau = told.k[rows], told.mid[rows], told.half[rows], told.tau[rows]
    theta = mid[np.argmin(np.abs(k))] ** 2 * tau[0]
    x, unit = k / np.sqrt(theta), np.sqrt(theta / tau)
    steepest = 1.0 / np.sqrt(theta)  # b (1 + |rho|) <= 2

    def model(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bottom, b, rho, m, sigma = p
        root = np.hypot(x - m, sigma)
        flat = np.sqrt(1 - rho * rho)
        w = np.maximum(bottom + b * (rho * (x - m) + root - sigma * flat), SMALLEST_W)
        slopes = np.stack([
            np.ones_like(x), rho * (x - m) + root - sigma * flat, b * ((x - m) + sigma * rho / flat),
            -b * (rho + (x - m) / root), b * (sigma / root - flat),
        ], axis=1)  # fmt: skip
        return unit * np.sqrt(w), slopes * (0.5 * unit / np.sqrt(w))[:, None]

    bounds = ([0.0, 1e-6, -0.999, -30.0, 1e-3], [50.0, steepest, 0.999, 30.0, 50.0])
    best = None
    for m, sigma in STARTS:
        basis = np.stack([np.ones_like(x), x - m, np.hypot(x - m, sigma)], 1)
        scale = unit**2 / (2 * mid * half)
        a, slope, b = np.linalg.lstsq(basis * scale[:, None], (mid / unit) ** 2 * scale, rcond=None)[0]
        b = np.clip(b, 0.02, 0.99 * steepest)
        rho = np.clip(slope / b, -0.95, 0.95)
        start = np.clip([a + b * sigma * np.sqrt(1 - rho**2), b, rho, m, sigma], *(np.array(bounds) * 0.9999))
        start[0] = max(start[0], 1e-3)
        done = least_squares(
            lambda p: (model(p)[0] - mid) / half,
            start,
            jac=lambda p: model(p)[1] / half[:, None],  # pyright: ignore[reportArgumentType]
            bounds=bounds,
            x_scale="jac",
            max_nfev=MOST_PASSES,
        )
        if best is None or done.cost < best.cost:
            best = done
    assert best is not None
    bottom, b, rho, m, sigma = best.x
    root = np.sqrt(theta)
    return np.array([theta * (bottom - b * sigma * np.sqrt(1 - rho**2)), b * root, rho, m * root, sigma * root])
