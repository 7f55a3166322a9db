"""The true surface of a simulated market.

The truth is a *price mixture of extended SSVI surfaces*. Each part is free of static arbitrage by published
sufficient conditions, which its constructor checks; a mixture of option prices with constant weights inherits
convexity in strike and growth in expiry, up to the clock's last knot. Measured on the median BTC smile of
each of seven tenors, out to four ATM deviations: an SSVI slice fitted to each misses by 1.2-3.3 volatility
points (too sharp at the money, too flat in the wings), the mixture that `regime` uses, eleven numbers for all
tenors, by 0.5-1.9.
"""

from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from volgrad.errors import InputError
from volgrad.market.special import MILLS_COEFFICIENTS, MILLS_LOWEST
from volgrad.models.surface import Surface

HALLEY_STEPS = 3  # measured: two reach 1e-9 of the implied deviation, three 1e-13, over |k| <= 1.5, 30 s to 3 years
MILLS_SHIFT, MILLS_SPAN = 5.0, 8.0  # of the expansion in volgrad.market.special
SQRT_2PI = sqrt(2.0 * pi)


class Slope(NamedTuple):
    """A wing slope in units of sqrt(theta), moving from `short` to `long` as variance grows past `pivot`."""

    short: float
    long: float
    pivot: float

    def at(self, theta: np.ndarray) -> np.ndarray:
        """The slope at an ATM variance."""
        return self.long + (self.short - self.long) / np.sqrt(1.0 + theta / self.pivot)

    @property
    def largest(self) -> float:
        """Its bound over all variances (it is monotone)."""
        return max(self.short, self.long)


@dataclass(frozen=True)
class ExtendedSSVI:
    """One eSSVI surface as a function of ATM variance `theta`, free of arbitrage by construction.

    `w = theta/2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2))`, written in its two wing slopes, psi (1
    - rho) and psi (1 + rho) with psi = theta phi, each sqrt(theta) times a bounded slope: both must not fall
    and phi must not rise (Corbetta et al., arXiv 1804.04924). With these shapes that holds where a slope's
    short end is at least 0.1 of its long end.

    Raises:
        InputError: where a sufficient condition fails; it says which one and by how much.
    """

    left: Slope
    right: Slope

    def __post_init__(self) -> None:
        for side, slope in (("left", self.left), ("right", self.right)):
            # The slope's elasticity in theta peaks at pivot / 2; at or below 1/2 while short >= 0.0815 long.
            if not (slope.short >= 0.1 * slope.long > 0.0 and slope.pivot > 0.0):
                raise InputError(
                    f"{side} wing slope {slope}: calendar arbitrage possible; "
                    "give positive slopes with short >= 0.1 * long"
                )
        largest = max(self.left.largest, self.right.largest)
        butterfly = 0.5 * (self.left.largest + self.right.largest) * largest
        if butterfly > 4.0:  # theta phi^2 (1 + |rho|) <= 4 (Gatheral & Jacquier, arXiv 1204.0646, Thm 4.2)
            raise InputError(
                f"theta phi^2 (1 + |rho|) may reach {butterfly:.3f}, above 4: butterfly arbitrage possible; "
                f"flatten the wing slopes {self.left} and {self.right}"
            )

    def total_variance(self, log_moneyness: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Total variance at ln(K/F) and ATM variance (broadcast)."""
        left, right = self.left.at(theta), self.right.at(theta)
        phi = 0.5 * (left + right) / np.sqrt(theta)
        return essvi_variance(log_moneyness, theta, phi, (right - left) / (left + right))

    def steepest_wing(self, theta: float) -> float:
        """The product theta phi (1 + |rho|), which must stay below 4 (same theorem); it rises with theta."""
        slopes = (slope.at(np.array([theta])).item() for slope in (self.left, self.right))
        return sqrt(theta) * max(slopes)


@dataclass(frozen=True)
class VarianceClock:
    """ATM variance against expiry: piecewise linear, strictly increasing, zero at zero.

    Shapes: `knot_years` and `knot_theta` are "knots", ascending from 0; beyond the last knot the last slope
    goes on.
    """

    knot_years: np.ndarray
    knot_theta: np.ndarray

    def __post_init__(self) -> None:
        if not (np.all(np.diff(self.knot_years) > 0) and np.all(np.diff(self.knot_theta) > 0)):
            raise InputError("the variance clock must rise strictly in time and in variance; check its knots")

    def theta(self, expiry_years: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """ATM variance of the expiries."""
        inside = np.interp(expiry_years, self.knot_years, self.knot_theta)
        slope = (self.knot_theta[-1] - self.knot_theta[-2]) / (self.knot_years[-1] - self.knot_years[-2])
        return inside + slope * np.maximum(expiry_years - self.knot_years[-1], 0.0)


@dataclass(frozen=True)
class TrueSurface(Surface):
    """Mixture of a calm and a wild eSSVI surface on one variance clock.

    `wild_weight` is the wild part's probability and `wild_ratio` its volatility over the whole's; the calm
    part's ratio follows so that the mixture's ATM volatility is `sqrt(theta / tau)` to first order.

    >>> import numpy as np
    >>> clock = VarianceClock(np.array([0.0, 1.0]), np.array([0.0, 0.16]))
    >>> smile = ExtendedSSVI(Slope(0.6, 0.9, 0.01), Slope(0.3, 0.4, 0.01))
    >>> truth = TrueSurface(clock, smile, smile, wild_weight=0.1, wild_ratio=1.0)
    >>> bool(abs(truth.total_variance(0.0, 0.25) - 0.04) < 1e-15)  # one part only: theta itself
    True
    """

    clock: VarianceClock
    calm: ExtendedSSVI
    wild: ExtendedSSVI
    wild_weight: float
    wild_ratio: float

    def __post_init__(self) -> None:
        if not (0.0 < self.wild_weight < 1.0 and 0.0 < self.wild_weight * self.wild_ratio < 1.0):
            raise InputError(
                f"wild_weight {self.wild_weight} and wild_ratio {self.wild_ratio} leave no calm part; "
                "the weight and weight * ratio must lie between 0 and 1"
            )
        theta = float(self.clock.knot_theta[-1])
        for part, ratio in zip((self.calm, self.wild), self.ratios, strict=True):
            wing = part.steepest_wing(theta * ratio**2)
            if wing >= 4.0:
                raise InputError(
                    f"theta phi (1 + |rho|) reaches {wing:.2f} at {self.clock.knot_years[-1]:.2f} years with "
                    f"ATM variance {theta:.3f}; it must stay below 4: lower the volatility or the slopes"
                )

    @property
    def ratios(self) -> tuple[float, float]:
        """Volatility of the calm and of the wild part over the whole's."""
        calm_ratio = (1.0 - self.wild_weight * self.wild_ratio) / (1.0 - self.wild_weight)
        return calm_ratio, self.wild_ratio

    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float[np.ndarray, "..."]:
        """Total implied variance at log-moneyness ln(K/F) and expiry in ACT/365 years (broadcast); NaN unless > 0."""
        k, years = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64))
        known = np.isfinite(k) & (years > 0.0)
        deviation = self.price_and_deviation(np.where(known, k, 0.0), np.where(known, years, 1.0))[1]
        return np.where(known, deviation**2, np.nan)

    def price_and_deviation(
        self, log_moneyness: ArrayLike, expiry_years: ArrayLike
    ) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """OTM premium (normalised by the forward; the put's for k < 0) and implied sqrt(total variance)."""
        k, years = np.broadcast_arrays(
            np.asarray(log_moneyness, dtype=np.float64), np.asarray(expiry_years, dtype=np.float64)
        )
        theta = self.clock.theta(years)
        calm_ratio, wild_ratio = self.ratios
        calm = np.sqrt(self.calm.total_variance(k, theta * calm_ratio**2))
        wild = np.sqrt(self.wild.total_variance(k, theta * wild_ratio**2))
        log_price, deviation = mixed(np.abs(k), calm, wild, self.wild_weight)
        return np.exp(log_price + np.minimum(k, 0.0)), deviation


def essvi_variance(
    log_moneyness: Float[np.ndarray, "..."],
    theta: Float[np.ndarray, "..."],
    phi: Float[np.ndarray, "..."],
    rho: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """Total variance of an SSVI slice: `theta/2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2))` [paper]."""
    phi_k = phi * log_moneyness
    return 0.5 * theta * (1.0 + rho * phi_k + np.sqrt((phi_k + rho) ** 2 + 1.0 - rho**2))


def mixed(
    distance: Float[np.ndarray, "..."],
    calm: Float[np.ndarray, "..."],
    wild: Float[np.ndarray, "..."],
    wild_weight: float | Float[np.ndarray, "..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Log of the normalised call of a mixture at k = `distance` >= 0, and its implied deviation.

    Args:
        distance: |ln(K/F)|.
        calm, wild: the parts' sqrt(total variance).
        wild_weight: probability of the wild part.
    """
    log_calm = np.log1p(-wild_weight) + log_otm_call(distance, calm)
    log_wild = np.log(wild_weight) + log_otm_call(distance, wild)
    log_price = np.logaddexp(log_calm, log_wild)
    # start: the mean of the parts' deviations, weighted by their vegas
    log_odds = 0.5 * ((0.5 * calm - distance / calm) ** 2 - (0.5 * wild - distance / wild) ** 2)
    odds = np.exp(np.minimum(log_odds, 700.0)) * wild_weight / (1.0 - wild_weight)
    start = calm + (wild - calm) * odds / (1.0 + odds)
    return log_price, implied_deviation(distance, log_price, start)


def log_otm_call(distance: Float[np.ndarray, "..."], deviation: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Log of the normalised call at k = `distance` >= 0: exact where the price itself underflows.

    `C = n(d1) [R(-d1) - R(-d2)]` with Mills' ratio R (Black's formula, rewritten). The put at -k is exp(-k)
    times the same number.
    """
    d1 = 0.5 * deviation - distance / deviation
    return np.log(_mills_gap(d1, deviation) / SQRT_2PI) - 0.5 * d1 * d1


def implied_deviation(distance: np.ndarray, log_price: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Invert `log_otm_call` by Halley steps on the log price from a good start."""
    deviation = start
    for _ in range(HALLEY_STEPS):
        d1 = 0.5 * deviation - distance / deviation
        gap = _mills_gap(d1, deviation)
        miss = np.log(gap / SQRT_2PI) - 0.5 * d1 * d1 - log_price
        slope = 1.0 / gap
        curvature = slope * (d1 * (d1 - deviation) / deviation - slope)
        deviation = deviation - miss * slope / (slope * slope - 0.5 * miss * curvature)
    return deviation


def mills_ratio(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Mills' ratio N(-x) / n(x): the expansion of `volgrad.market.special`, run by numpy.

    Chains change shape with every listing, and compiling for each shape would cost more than the work.

    >>> bool(abs(mills_ratio(np.array(0.0)) - sqrt(pi / 2)) < 1e-15)
    True
    """
    low = x < MILLS_LOWEST
    scale = 1.0 / (np.where(low, -x, x) + MILLS_SHIFT)
    z = 1.0 - MILLS_SPAN * scale
    value = np.full_like(z, MILLS_COEFFICIENTS[-1])
    for coefficient in MILLS_COEFFICIENTS[-2::-1]:
        value *= z
        value += coefficient
    value *= scale
    if low.any():  # R(x) = 1 / n(x) - R(-x)
        value[low] = SQRT_2PI * np.exp(0.5 * x[low] ** 2) - value[low]
    return value


def _mills_gap(d1: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return mills_ratio(-d1) - mills_ratio(deviation - d1)
