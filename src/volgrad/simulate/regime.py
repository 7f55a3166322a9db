"""The state of a simulated market, how it moves, and the true surface that it implies.

Spot, the short and the long end of the volatility curve, skew and carry wander as correlated mean-reverting
processes; a shock adds stress, which decays. Sizes are measured on the shared months where a comment says so,
else assumptions.
"""

from dataclasses import dataclass, replace
from math import exp, sqrt

import numpy as np
from jaxtyping import Float

from volgrad.market.instruments import YEAR_US
from volgrad.simulate.listing import DAY_US, weekday
from volgrad.simulate.truth import ExtendedSSVI, Slope, TrueSurface, VarianceClock

# Variance of the days of the week, Monday first: near what is measured, but on purpose not the very numbers
# that `volgrad.market.clock` assumes, so that a model which uses those is not flattered.
DAY_WEIGHTS = np.array([1.10, 1.00, 1.00, 1.00, 1.10, 0.35, 0.70]) / (6.25 / 7.0)
EVENT_WEIGHT = 2.0  # of a day with a scheduled announcement (assumption)
EVENT_EVERY_DAYS = 19
CLOCK_DAYS = 400
CURVE_DECAY_YEARS = 30.0 / 365.0  # from the short to the long end of the forward variance curve (measured)

# Wing slopes in units of sqrt(theta), short -> long end: fitted to the median BTC smiles of recorded months.
CALM_SLOPES = ((0.71, 0.87), (0.36, 0.41))
WILD_SLOPES = ((1.80, 1.10), (1.40, 0.40))
WILD_WEIGHT, WILD_RATIO = 0.058, 2.0
SLOPE_PIVOT = 0.002  # ATM variance of about four days

# Mean-reverting factors: (half-life in days, volatility a square-root year).
SHORT_FACTOR, LONG_FACTOR, SKEW_FACTOR, CARRY_FACTOR = (5.0, 1.5), (40.0, 0.6), (4.0, 0.6), (6.0, 0.25)
SKEW_LIMIT = 0.12  # keeps every slope within the butterfly condition, stress included
SPOT_VOL_CORRELATION = -0.5  # measured
STRESS_HALF_LIFE_DAYS = 1.0  # assumption


@dataclass(frozen=True)
class Regime:
    """Where the market stands; every number is dimensionless but for spot (USD) and the two volatilities."""

    spot_usd: float
    short_vol: float
    long_vol: float
    short: float = 0.0
    long: float = 0.0
    skew: float = 0.0
    carry: float = 0.0
    stress: float = 0.0

    def advance(self, step_years: float, random: np.random.Generator) -> "Regime":
        """One step of the factors and of spot."""
        shocks = random.standard_normal(5)
        short_shock = SPOT_VOL_CORRELATION * shocks[0] + sqrt(1.0 - SPOT_VOL_CORRELATION**2) * shocks[1]
        vol = self.short_end()
        skew = _revert(self.skew, SKEW_FACTOR, step_years, shocks[3])
        return replace(
            self,
            spot_usd=self.spot_usd * exp(vol * sqrt(step_years) * shocks[0] - 0.5 * vol**2 * step_years),
            short=_revert(self.short, SHORT_FACTOR, step_years, short_shock),
            long=_revert(self.long, LONG_FACTOR, step_years, shocks[2]),
            skew=min(max(skew, -SKEW_LIMIT), SKEW_LIMIT),
            carry=_revert(self.carry, CARRY_FACTOR, step_years, shocks[4]),
            stress=self.stress * 0.5 ** (step_years * 365.0 / STRESS_HALF_LIFE_DAYS),
        )

    def struck(self, size: float) -> "Regime":
        """The same market just after a volatility shock of the given size (1 is a crash of about 9 %)."""
        return replace(self, spot_usd=self.spot_usd * exp(-0.09 * size), stress=self.stress + size)

    def short_end(self) -> float:
        """Volatility at the short end of the forward variance curve."""
        return self.short_vol * exp(self.short + 0.75 * self.stress)

    def long_end(self) -> float:
        """Volatility at its long end."""
        return self.long_vol * exp(self.long + 0.15 * self.stress)

    def forward_usd(self, expiry_years: Float[np.ndarray, "expiries"]) -> Float[np.ndarray, "expiries"]:
        """Forwards on a carry curve of 5 % a year, more mobile at the short end; stress pushes it down."""
        near = self.carry - 0.06 * self.stress
        rate = 0.05 + near * np.exp(-expiry_years / 0.1)
        return self.spot_usd * np.exp(rate * expiry_years)

    def surface(self, ts_us: int) -> TrueSurface:
        """The true surface at a time."""
        steeper, stress = self.skew + 0.08 * min(self.stress, 1.0), min(self.stress, 1.0)
        return TrueSurface(
            clock=variance_clock(ts_us, self.short_end(), self.long_end()),
            calm=_smile(CALM_SLOPES, steeper),
            wild=_smile(WILD_SLOPES, steeper),
            wild_weight=WILD_WEIGHT + 0.04 * stress,
            wild_ratio=WILD_RATIO,
        )


def variance_clock(ts_us: int, short_vol: float, long_vol: float) -> VarianceClock:
    """ATM variance from a forward curve that decays from short to long, run on a calendar of busy days.

    Weekend days count less, and a day with an announcement counts double: the variance is piecewise linear
    between midnights (UTC).
    """
    midnights = (ts_us // DAY_US + 1 + np.arange(CLOCK_DAYS)) * DAY_US
    years = np.concatenate([[0.0], (midnights - ts_us) / YEAR_US])
    middle = 0.5 * (years[1:] + years[:-1])
    days = midnights // DAY_US - 1
    weight = np.where(days % EVENT_EVERY_DAYS == 0, EVENT_WEIGHT, DAY_WEIGHTS[weekday(days)])
    forward = long_vol**2 + (short_vol**2 - long_vol**2) * np.exp(-middle / CURVE_DECAY_YEARS)
    return VarianceClock(years, np.concatenate([[0.0], np.cumsum(weight * forward * np.diff(years))]))


def _smile(slopes: tuple[tuple[float, float], tuple[float, float]], steeper: float) -> ExtendedSSVI:
    (left_short, left_long), (right_short, right_long) = slopes
    up, down = exp(steeper), exp(-1.5 * steeper)
    return ExtendedSSVI(
        Slope(left_short * up, left_long * up, SLOPE_PIVOT),
        Slope(right_short * down, right_long * down, SLOPE_PIVOT),
    )


def _revert(value: float, factor: tuple[float, float], step_years: float, shock: float) -> float:
    half_life_days, volatility = factor
    keep = 0.5 ** (step_years * 365.0 / half_life_days)
    return value * keep + volatility * sqrt(step_years) * shock
