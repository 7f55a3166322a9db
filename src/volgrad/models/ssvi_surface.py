"""Surfaces of SSVI and eSSVI slices: closed forms at every time, free of arbitrage between the expiries, too.

Between two expiries `theta`, `psi` and `rho psi` go straight together (Corbetta et al., arXiv 1804.04924) [paper]. With
`A, B = psi (1 +- rho)` the conditions of `models.ssvi` then hold at and between all times: `theta`, `A` and `B` rise;
`phi`, a ratio of straight lines, is monotone; `max(A, B)` is convex and so below 4 where both ends are; and
`psi A - 4 theta` is convex, as `psi` and `A` both rise, and so at most 0 where both ends are. What `theta` is at a time
is free as long as it rises. Before the first expiry `psi` goes to 0 as `sqrt(theta)`, and after the last it rises so,
up to its bound: `psi^2 / theta` stays what it is or falls, and `phi` falls.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import ArrayLike, Float64

from volgrad.models.ssvi import SsviSlices, total_variance
from volgrad.models.surface import ListedSurface
from volgrad.models.term import Place, locate

__all__ = ["EssviSurface", "SsviSurface"]


@dataclass(frozen=True, eq=False)
class EssviSurface(ListedSurface):
    """`theta`, `rho` and `psi = theta phi` of each listed expiry.

    Attributes:
        ts_us, expiry_years, forward_usd, quoted: of `ListedSurface`.
        theta: at-the-money total variance of each expiry, ascending. Shape: (expiries,).
        rho: correlation of each expiry, in (-1, 1). Shape: (expiries,).
        psi: `theta phi` of each expiry. Shape: (expiries,).
    """

    ts_us: int
    expiry_years: Float64[np.ndarray, " expiries"]
    forward_usd: Float64[np.ndarray, " expiries"]
    quoted: Float64[np.ndarray, "expiries 2"]
    theta: Float64[np.ndarray, " expiries"]
    rho: Float64[np.ndarray, " expiries"]
    psi: Float64[np.ndarray, " expiries"]

    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Total variance at any log-moneyness and any time after the surface's own; NaN at or before it."""
        return _answer(self, log_moneyness, expiry_years)

    def slices(self, expiry_years: Float64[np.ndarray, " times"]) -> SsviSlices:
        """The slices at any times after the surface's own."""
        place = locate(self.ts_us, self.expiry_years, self.theta, expiry_years)
        right = np.minimum(place.left + 1, self.theta.size - 1)
        part = place.part
        psi = (1.0 - part) * self.psi[place.left] + part * self.psi[right]
        tilt = self.rho * self.psi
        rho = ((1.0 - part) * tilt[place.left] + part * tilt[right]) / psi
        return SsviSlices(place.theta, rho, _outside(place, self.theta, rho, psi))


@dataclass(frozen=True, eq=False)
class SsviSurface(ListedSurface):
    """One `rho` and `psi = eta theta^(1 - gamma)` for all listed expiries.

    Attributes:
        ts_us, expiry_years, forward_usd, quoted: of `ListedSurface`.
        theta: at-the-money total variance of each expiry, ascending. Shape: (expiries,).
        rho: correlation, in (-1, 1).
        eta, gamma: of the power law `phi = eta theta^-gamma`, `gamma` in [0, 1].
    """

    ts_us: int
    expiry_years: Float64[np.ndarray, " expiries"]
    forward_usd: Float64[np.ndarray, " expiries"]
    quoted: Float64[np.ndarray, "expiries 2"]
    theta: Float64[np.ndarray, " expiries"]
    rho: float
    eta: float
    gamma: float

    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Total variance at any log-moneyness and any time after the surface's own; NaN at or before it."""
        return _answer(self, log_moneyness, expiry_years)

    @cached_property
    def psi(self) -> Float64[np.ndarray, " expiries"]:
        """`theta phi` of each listed expiry."""
        return self.eta * self.theta ** (1.0 - self.gamma)

    def slices(self, expiry_years: Float64[np.ndarray, " times"]) -> SsviSlices:
        """The slices at any times after the surface's own: the power law between the expiries."""
        place = locate(self.ts_us, self.expiry_years, self.theta, expiry_years)
        inner = np.clip(place.theta, self.theta[0], self.theta[-1])
        psi = self.eta * inner ** (1.0 - self.gamma)
        rho = np.full(psi.shape, self.rho)
        return SsviSlices(place.theta, rho, _outside(place, self.theta, rho, psi))


def _outside(place: Place, theta: np.ndarray, rho: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """`psi` before the first and after the last expiry, from that of the nearest one."""
    end = np.where(place.early, theta[0], np.where(place.late, theta[-1], place.theta))
    scaled = psi * np.sqrt(place.theta / end)
    most = np.maximum(psi, (1.0 - 1e-9) * 4.0 / (1.0 + np.abs(rho)))
    return np.where(place.late, np.minimum(scaled, most), scaled)


def _answer(
    surface: EssviSurface | SsviSurface, log_moneyness: ArrayLike, expiry_years: ArrayLike
) -> Float64[np.ndarray, "..."]:
    k, tau = np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64)
    alive = tau > 0.0  # False for NaN
    found = surface.slices(np.where(alive, tau, surface.expiry_years[0]).ravel())
    found = SsviSlices(*(values.reshape(tau.shape) for values in found))
    return np.where(alive, np.asarray(total_variance(found, k)), np.nan)
