"""Rivals: SSVI and eSSVI by scipy, a whole chain at once, with all conditions for absence of arbitrage.

eSSVI in Mingone's coordinates (arXiv 2204.00312) (paper), `scipy.optimize.least_squares` on the volatility's distance
from the middle of the quote in half-spreads. SSVI with the power law `phi = eta theta^-gamma`, `gamma <= 1/2`, `eta`
below its bound at the largest `theta`. Between expiries `theta`, `psi` and `rho psi` are linear in calendar time
(Corbetta et al., arXiv 1804.04924) (paper); outside them the nearest expiry's smile keeps its shape in standard
deviations.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from volgrad.market.chain import Chain

MOST_PASSES = 50  # of trf; more changed no loss in its third digit (measured on 30 chains)
NARROWEST = 1e-3  # half-spread in volatility (assumption)


class Curve(NamedTuple):
    """Slices in order of expiry; answers in implied volatility."""

    years: Float[np.ndarray, " expiries"]
    theta: Float[np.ndarray, " expiries"]
    rho: Float[np.ndarray, " expiries"]
    psi: Float[np.ndarray, " expiries"]

    def implied_vol(self, k: Float[np.ndarray, " rows"], years: Float[np.ndarray, " rows"]) -> np.ndarray:
        """Annual, a fraction."""
        theta, psi, tilt = (np.interp(years, self.years, v) for v in (self.theta, self.psi, self.rho * self.psi))
        near = np.clip(years, self.years[0], self.years[-1])
        w = smile(theta, tilt / psi, psi, k * np.sqrt(near / years))
        return np.sqrt(w / near)


class Quotes(NamedTuple):
    """A chain's quotes: expiry (index), log-moneyness, volatility, half-spread, years; and those of the expiries."""

    expiry: np.ndarray
    k: np.ndarray
    mid: np.ndarray
    half: np.ndarray
    tau: np.ndarray
    years: np.ndarray

    @property
    def theta(self) -> Float[np.ndarray, " expiries"]:
        """At-the-money total variance of the nearest quotes, made to rise."""
        vol = [self.mid[rows][np.argmin(np.abs(self.k[rows]))] for rows in self.slices()]
        raw = np.array(vol) ** 2 * self.years
        return np.cumsum(np.maximum(np.diff(np.maximum.accumulate(raw), prepend=0.0), 0.05 * raw))

    def slices(self) -> list[slice]:
        """The rows of each expiry."""
        ends = np.searchsorted(self.expiry, np.arange(self.years.size + 1))
        return [slice(first, last) for first, last in itertools.pairwise(ends)]


def quotes_of(chain: Chain) -> Quotes:
    """The arrays that every rival of a whole chain takes."""
    used, expiry = np.unique(chain.expiry_index, return_inverse=True)
    half = np.maximum(chain.half_spread_iv, NARROWEST)
    return Quotes(expiry, chain.log_moneyness, chain.mid_iv, half, chain.row_expiry_years, chain.expiry_years[used])


def smile(theta: np.ndarray, rho: np.ndarray, psi: np.ndarray, k: np.ndarray) -> np.ndarray:
    """SSVI's total variance.

    >>> float(smile(np.array(0.04), np.array(-0.5), np.array(0.04), np.array(-0.263)).round(5))
    0.04571
    """
    tilted = psi * k
    return 0.5 * (theta + rho * tilted + np.sqrt((tilted + rho * theta) ** 2 + theta**2 * (1.0 - rho**2)))


def essvi_slices(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`theta`, `rho`, `psi` of Mingone's coordinates."""
    rho, growth = np.tanh(x[:count]), np.exp(np.clip(x[count : 2 * count], -50.0, 50.0))
    share = 1.0 / (1.0 + np.exp(-np.clip(x[2 * count :], -50.0, 50.0)))
    rho = np.clip(rho, -0.999, 0.999)
    forced = np.ones(count)
    forced[1:] = np.maximum((1 + rho[:-1]) / (1 + rho[1:]), (1 - rho[:-1]) / (1 - rho[1:]))
    forced = np.cumprod(forced)
    inner = np.cumsum(growth / forced)
    theta = forced * inner
    most = np.minimum(4 / (1 + np.abs(rho)), np.sqrt(4 * theta / (1 + np.abs(rho)))) / forced
    ahead = np.minimum.accumulate(most[::-1])[::-1]
    psi, before = np.empty(count), 0.0
    for i in range(count):
        top = ahead[i] if i == 0 else min(before * inner[i] / inner[i - 1], ahead[i])
        before += share[i] * (top - before)
        psi[i] = before
    return theta, rho, psi * forced


def essvi(chain: Chain) -> Curve:
    """The eSSVI slices of a chain, from smiles of one usual shape."""
    told = quotes_of(chain)
    theta, count = told.theta, told.years.size
    wanted, most = np.sqrt(theta), np.minimum(4.0, np.sqrt(4.0 * theta))
    share, before = np.empty(count), 0.0
    for i in range(count):
        top = most[i] if i == 0 else min(before * theta[i] / theta[i - 1], most[i])
        share[i] = np.clip((wanted[i] - before) / (top - before), 0.05, 0.95)
        before += share[i] * (top - before)
    start = np.concatenate([np.zeros(count), np.log(np.diff(theta, prepend=0.0)), np.log(share / (1 - share))])
    return Curve(told.years, *essvi_slices(solved(told, lambda x: essvi_slices(x, count), start), count))


def ssvi_slices(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`theta`, `rho`, `psi` of SSVI with a power law."""
    theta = np.cumsum(np.exp(np.clip(x[:count], -50.0, 50.0)))
    rho = float(np.clip(np.tanh(x[count]), -0.999, 0.999))
    gamma, share = (1.0 / (1.0 + np.exp(-np.clip(x[count + 1 :], -50.0, 50.0)))) * np.array([0.5, 1.0])
    size, last = 1.0 + abs(rho), theta[-1]  # both conditions are tightest at the largest theta, as gamma <= 1/2
    most = min(4.0 / size * last ** (gamma - 1.0), np.sqrt(4.0 / size) * last ** (gamma - 0.5))
    return theta, np.full(count, rho), share * most * theta ** (1.0 - gamma)


def ssvi(chain: Chain) -> Curve:
    """SSVI of a chain."""
    told = quotes_of(chain)
    theta, count = told.theta, told.years.size
    start = np.concatenate([np.log(np.diff(theta, prepend=0.0)), [0.0, 1.0, 0.0]])
    return Curve(told.years, *ssvi_slices(solved(told, lambda x: ssvi_slices(x, count), start), count))


def solved(told: Quotes, slices: Callable[[np.ndarray], tuple[np.ndarray, ...]], start: np.ndarray) -> np.ndarray:
    """Least squares in half-spreads of volatility."""

    def residuals(x: np.ndarray) -> np.ndarray:
        theta, rho, psi = (values[told.expiry] for values in slices(x))
        return (np.sqrt(smile(theta, rho, psi, told.k) / told.tau) - told.mid) / told.half

    return least_squares(residuals, start, x_scale="jac", max_nfev=MOST_PASSES).x
