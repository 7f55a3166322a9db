"""Slices and surfaces with known properties, for the laws in this folder."""

from functools import cache

import numpy as np

from volgrad.market import black
from volgrad.market.clock import clock_years
from volgrad.models.grid import NODES
from volgrad.models.local_vol import Frame, Prior, frame, slice_time_values
from volgrad.models.slices import PUBLISHED, SlicedSurface, extended, slice_variance
from volgrad.models.ssvi import EssviCoordinates, SsviCoordinates, SsviSlices
from volgrad.models.ssvi_surface import EssviSurface, SsviSurface
from volgrad.models.surface import Surface
from volgrad.models.svi import SviSurface

TS_US = 1_767_604_650_000_000  # 2026-01-05 09:17:30 UTC
YEARS = np.array([2 / 24, 1.0, 4.0, 11.0, 32.0, 81.0, 263.0]) / 365.0
PUBLISHED_NODES = NODES[PUBLISHED]
VOGT = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)  # Gatheral and Jacquier, arXiv 1204.0646, example 3.1


class Flat(Surface):
    """The same volatility everywhere."""

    def __init__(self, vol: float) -> None:
        self.vol = vol

    def total_variance(self, log_moneyness, expiry_years):
        k, tau = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64))
        return np.where((tau > 0) & ~np.isnan(k), self.vol**2 * tau, np.nan)


class Svi(Surface):
    """One raw SVI slice, its total variance growing in proportion to time (1 at a year)."""

    def __init__(self, a: float, b: float, rho: float, m: float, sigma: float) -> None:
        self.a, self.b, self.rho, self.m, self.sigma = a, b, rho, m, sigma

    def total_variance(self, log_moneyness, expiry_years):
        shift = np.asarray(log_moneyness, np.float64) - self.m
        slice_ = self.a + self.b * (self.rho * shift + np.hypot(shift, self.sigma))
        return slice_ * np.asarray(expiry_years, np.float64)

    def derivatives(self, log_moneyness):
        """First and second derivative at one year."""
        shift = log_moneyness - self.m
        root = np.hypot(shift, self.sigma)
        return self.b * (self.rho + shift / root), self.b * self.sigma**2 / root**3


def clock(years: np.ndarray = YEARS) -> np.ndarray:
    """The expiries in the variance clock."""
    return clock_years(TS_US, TS_US + np.rint(years * 365.0 * 86_400e6).astype(np.int64))


def lognormal(variance: float) -> np.ndarray:
    """Time values at all nodes after lognormal diffusion."""
    return np.asarray(black.price(NODES, np.full(NODES.size, np.sqrt(variance)), NODES >= 0.0))


def example_frame(vol: float = 0.6, size: int = 10, years: np.ndarray = YEARS, prior: Prior | None = None) -> Frame:
    """Frame of expiries that all have one volatility in the variance clock."""
    prior = prior or Prior()
    theta = vol**2 * clock(years)
    return frame(clock(years), theta, lognormal(prior.diffused * theta[0]), size, prior)


def sliced(variance: np.ndarray, years: np.ndarray = YEARS, reach: np.ndarray | None = None) -> SlicedSurface:
    """A surface of slices, quoted to two standard deviations (at most |k| = 1)."""
    deviation = np.sqrt(variance[:, PUBLISHED_NODES.size // 2])
    return SlicedSurface(
        ts_us=TS_US,
        expiry_years=years,
        forward_usd=90_000.0 * np.exp(0.05 * years),
        variance=variance,
        quoted=np.minimum(deviation, 0.5)[:, None] * np.array([-2.0, 2.0]),
        reach=np.empty(0) if reach is None else reach,
    )


@cache
def local_vol_surface(vol: float = 0.6, seed: int | None = None, scale: float = 0.5) -> SlicedSurface:
    """Slices of the local-volatility model, at the prior's mean or at random coordinates of it."""
    made = example_frame(vol)
    variables = np.zeros(made.factor.shape[-1])
    if seed is not None:
        variables = scale * np.random.default_rng(seed).standard_normal(variables.size)
    variance = np.asarray(slice_variance(slice_time_values(made, variables)))[: YEARS.size]
    return sliced(extended(variance))


@cache
def flat_slices(vol: float = 0.6) -> SlicedSurface:
    """Slices without a smile, of one volatility in the variance clock."""
    return sliced(np.repeat((vol**2 * clock())[:, None], PUBLISHED_NODES.size, axis=1))


def listed(years: np.ndarray = YEARS) -> dict:
    """What every listed surface holds."""
    reach = np.minimum(0.6 * np.sqrt(years), 0.5)
    forward = 90_000.0 * np.exp(0.05 * years)
    return {"ts_us": TS_US, "expiry_years": years, "forward_usd": forward, "quoted": reach[:, None] * np.array([-2, 2])}


def essvi_coordinates(vol: float = 0.6, years: np.ndarray = YEARS, padding: int = 2) -> EssviCoordinates:
    """Coordinates of eSSVI around one volatility in the variance clock."""
    growth = np.append(np.diff(vol**2 * clock(years), prepend=0.0), np.full(padding, 0.01))
    return EssviCoordinates(growth, np.arange(growth.size) < years.size)


def ssvi_coordinates(vol: float = 0.6, years: np.ndarray = YEARS, padding: int = 2) -> SsviCoordinates:
    """Coordinates of SSVI around one volatility in the variance clock."""
    return SsviCoordinates(essvi_coordinates(vol, years, padding).growth, np.asarray(years.size - 1))


def slices_at(coordinates, variables, count: int = YEARS.size) -> SsviSlices:
    """The slices of coordinates, without padding, as numpy arrays."""
    return SsviSlices(*(np.asarray(values)[:count] for values in coordinates.slices(variables)))


def usual_slices(vol: float = 0.6) -> SsviSlices:
    """Smiles of one kind: a third of the way to the steepest curve, a little skewed."""
    theta = vol**2 * clock()
    return SsviSlices(theta, np.full(theta.size, -0.2), 0.7 * np.sqrt(theta))


@cache
def essvi_surface(seed: int | None = None, scale: float = 0.5) -> EssviSurface:
    """Usual smiles, or random ones around them."""
    coordinates = essvi_coordinates()
    variables = coordinates.variables(usual_slices())
    if seed is not None:
        variables = variables + scale * np.random.default_rng(seed).standard_normal(variables.size)
    return EssviSurface(**slices_at(coordinates, variables)._asdict(), **listed())


@cache
def ssvi_surface(seed: int | None = None, scale: float = 0.5) -> SsviSurface:
    """Usual smiles, or random ones around them."""
    coordinates = ssvi_coordinates()
    variables = coordinates.variables(usual_slices())
    if seed is not None:
        variables = variables + scale * np.random.default_rng(seed).standard_normal(variables.size)
    theta, rho, psi = slices_at(coordinates, variables)
    power = float(np.log(psi[-1] / psi[0]) / np.log(theta[-1] / theta[0]))
    eta = float(psi[0] / theta[0] ** power)
    return SsviSurface(theta=theta, rho=float(rho[0]), eta=eta, gamma=1.0 - power, **listed())


@cache
def svi_surface() -> SviSurface:
    """Raw SVI slices that are those of the usual SSVI, and so free of arbitrage (Gatheral and Jacquier, eq. 4.2)."""
    theta, rho, psi = usual_slices()
    root = np.sqrt(1.0 - rho**2)
    raw = (0.5 * theta * (1.0 - rho**2), 0.5 * psi, rho, -rho * theta / psi, root * theta / psi)
    return SviSurface(parameters=np.column_stack(raw), **listed())
