"""From the state of a market to its true surface: for one moment, or for many moments and expiries at once.

The forward variance curve decays from a short end to a long one, with a bump of a few days on top, and runs on
a calendar of busy days; smiles are a mixture of two extended SSVI surfaces (see `volgrad.simulate.truth`).
Every level is bounded so that any state at all gives a surface free of static arbitrage.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from volgrad.market.instruments import YEAR_US
from volgrad.simulate.listing import DAY_US, weekday
from volgrad.simulate.truth import ExtendedSSVI, Slope, TrueSurface, VarianceClock

__all__ = ["Skew", "Smiles", "clock_integrals", "day_weight", "ends", "smiles_of", "surface_of", "theta_of"]

# Variance of the days of the week, Monday first: near what is measured, but on purpose not the very numbers
# that `volgrad.market.clock` assumes, so that a model which uses those is not flattered.
DAY_WEIGHTS = np.array([1.10, 1.00, 1.00, 1.00, 1.10, 0.35, 0.70]) / (6.25 / 7.0)
EVENT_WEIGHT = 2.0  # of a day with a scheduled announcement (assumption)
EVENT_EVERY_DAYS = 19
CLOCK_DAYS = 480  # the longest listing that the exchange has
CURVE_DECAY_YEARS = 30.0 / 365.0  # from the short to the long end of the forward variance curve (measured)
BUMP_DECAY_YEARS = 6.0 / 365.0  # of what passes quickly (from the daily volatilities by tenor, measured)

# Wing slopes in units of sqrt(theta), short -> long end: fitted to the median BTC smiles of recorded months.
CALM_SLOPES = ((0.71, 0.87), (0.36, 0.41))
WILD_SLOPES = ((1.80, 1.10), (1.40, 0.40))
WILD_WEIGHT, WILD_RATIO = 0.058, 2.0
SLOPE_PIVOT = 0.002  # ATM variance of about four days
# How far the skew may steepen or flatten each part (logarithm of the left slope): with the wild part's bounds every
# slope keeps the butterfly condition. At the long end only a share of it is felt: skew moves four times as much at 7
# days as at 180 (measured).
CALM_SKEW, WILD_SKEW, LONG_SKEW = (-0.6, 0.6), (-0.12, 0.20), 0.10
STRESS_ON_SKEW = 0.08

# Bounds of the curve's two ends (volatilities) and of its bump: with them the wing condition holds in any state.
SHORT_BOUNDS, LONG_BOUNDS, BUMP_BOUNDS = (0.05, 2.2), (0.05, 0.95), (-0.6, 2.0)
STRESS_ON_SHORT, STRESS_ON_LONG, STRESS_ON_WEIGHT = 0.75, 0.15, 0.04

Ends = tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]


def ends(values: Mapping[str, np.ndarray], short_vol: float, long_vol: float) -> Ends:
    """Short and long end of the forward volatility curve, and its bump (a share of the short end's variance).

    Args:
        values: the factors fast, short, long and stress.
        short_vol, long_vol: the calm market's two ends.
    """
    short = short_vol * np.exp(np.minimum(values["short"] + STRESS_ON_SHORT * values["stress"], 5.0))
    long = long_vol * np.exp(np.minimum(values["long"] + STRESS_ON_LONG * values["stress"], 5.0))
    bump = np.expm1(2.0 * np.minimum(values["fast"], 5.0))
    return np.clip(short, *SHORT_BOUNDS), np.clip(long, *LONG_BOUNDS), np.clip(bump, *BUMP_BOUNDS)


def day_weight(ts_us: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Variance of the day of each moment against the mean day's."""
    days = ts_us // DAY_US
    return np.where(days % EVENT_EVERY_DAYS == 0, EVENT_WEIGHT, DAY_WEIGHTS[weekday(days)])


def variance_clock(ts_us: int, short_end: float, long_end: float, bump: float) -> VarianceClock:
    """ATM variance against expiry at one moment, piecewise linear between midnights (UTC).

    Weekend days count less, and a day with an announcement counts double.
    """
    midnights = (ts_us // DAY_US + 1 + np.arange(CLOCK_DAYS)) * DAY_US
    years = np.concatenate([[0.0], (midnights - ts_us) / YEAR_US])
    middle = 0.5 * (years[1:] + years[:-1])
    falling = short_end**2 * (np.exp(-middle / CURVE_DECAY_YEARS) + bump * np.exp(-middle / BUMP_DECAY_YEARS))
    forward = falling + long_end**2 * -np.expm1(-middle / CURVE_DECAY_YEARS)
    grown = np.cumsum(day_weight(midnights - DAY_US) * forward * np.diff(years))
    return VarianceClock(years, np.concatenate([[0.0], grown]))


def clock_integrals(ts_us: Int[np.ndarray, " ticks"], expiry_us: Int[np.ndarray, " expiries"]) -> np.ndarray:
    """Integrals over the calendar from each moment to each expiry, shape "3 ticks expiries".

    Of the day's weight, and of the weight times the decay of the curve and of the bump. All moments lie in one
    UTC day.
    """
    midnight = (int(ts_us[0]) // DAY_US + 1) * DAY_US
    starts = midnight + np.arange(CLOCK_DAYS - 1) * DAY_US
    first, today = (midnight - ts_us) / YEAR_US, float(day_weight(ts_us[:1])[0])
    beyond = np.clip((expiry_us[:, None] - starts) / DAY_US, 0.0, 1.0) * (DAY_US / YEAR_US) * day_weight(starts)
    middle = (starts - midnight + 0.5 * DAY_US) / YEAR_US
    left = today * np.minimum((expiry_us - ts_us[:, None]) / YEAR_US, first[:, None])
    found = np.empty((3, ts_us.size, expiry_us.size))
    found[0] = left + beyond.sum(axis=1)
    for place, decay in ((1, CURVE_DECAY_YEARS), (2, BUMP_DECAY_YEARS)):
        later = beyond @ np.exp(-middle / decay)
        found[place] = left * np.exp(-0.5 * first / decay)[:, None] + np.exp(-first / decay)[:, None] * later
    return found


def theta_of(integrals: np.ndarray, curve: Ends) -> Float[np.ndarray, "ticks expiries"]:
    """ATM variance of every expiry at every moment: `variance_clock` for many at once."""
    short, long, bump = (column[:, None] for column in curve)
    whole, curved, bumped = integrals
    return long**2 * (whole - curved) + short**2 * (curved + bump * bumped)


class Smiles(NamedTuple):
    """The two parts of the mixture at every moment and expiry: theta, phi, rho each (shape "2 ticks expiries").

    `wild_weight` is "ticks".
    """

    theta: Float[np.ndarray, "2 ticks expiries"]
    phi: Float[np.ndarray, "2 ticks expiries"]
    rho: Float[np.ndarray, "2 ticks expiries"]
    wild_weight: Float[np.ndarray, " ticks"]


class Skew(NamedTuple):
    """How the smile is tilted: `own` is the market's usual tilt, `moved` the skew factor, `stress` adds to it.

    `moved` and `stress` are "ticks" or numbers.
    """

    own: float
    moved: Float[np.ndarray, "..."] | float
    stress: Float[np.ndarray, "..."] | float

    @property
    def wild_weight(self) -> Float[np.ndarray, "..."]:
        """Probability of the mixture's wild part."""
        return np.asarray(WILD_WEIGHT + STRESS_ON_WEIGHT * np.clip(self.stress, 0.0, 1.0))

    def factors(self) -> Float[np.ndarray, "parts sides ends ..."]:
        """What each slope of the mixture is multiplied by: calm and wild, left and right, short and long end."""
        felt = np.asarray(self.moved + STRESS_ON_SKEW * np.clip(self.stress, 0.0, 1.0))
        ends = np.stack([felt, LONG_SKEW * felt]) + self.own
        parts = np.stack([np.clip(ends, *CALM_SKEW), np.clip(ends, *WILD_SKEW)])
        return np.exp(np.stack([parts, -1.5 * parts], axis=1))


def smiles_of(theta: Float[np.ndarray, "ticks expiries"], skew: Skew) -> Smiles:
    """What `surface_of` gives, for many moments at once."""
    weight = skew.wild_weight
    calm_ratio = ((1.0 - weight * WILD_RATIO) / (1.0 - weight))[:, None]
    thetas = np.stack([theta * calm_ratio**2, theta * WILD_RATIO**2])
    damped = 1.0 / np.sqrt(1.0 + thetas / SLOPE_PIVOT)
    slopes = (np.array([CALM_SLOPES, WILD_SLOPES])[..., None] * skew.factors())[..., None]
    left, right = (slopes[:, side, 1] + (slopes[:, side, 0] - slopes[:, side, 1]) * damped for side in (0, 1))
    return Smiles(thetas, 0.5 * (left + right) / np.sqrt(thetas), (right - left) / (left + right), weight)


def surface_of(ts_us: int, curve: tuple[float, float, float], skew: Skew) -> TrueSurface:
    """The true surface at one moment."""
    calm, wild = np.array([CALM_SLOPES, WILD_SLOPES]) * skew.factors()
    return TrueSurface(
        clock=variance_clock(ts_us, *curve),
        calm=_smile(calm),
        wild=_smile(wild),
        wild_weight=float(skew.wild_weight),
        wild_ratio=WILD_RATIO,
    )


def _smile(slopes: Float[np.ndarray, "2 2"]) -> ExtendedSSVI:
    (left_short, left_long), (right_short, right_long) = slopes.tolist()
    return ExtendedSSVI(Slope(left_short, left_long, SLOPE_PIVOT), Slope(right_short, right_long, SLOPE_PIVOT))
