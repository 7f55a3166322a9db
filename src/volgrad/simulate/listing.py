"""What the exchange lists: expiries, strikes, price ticks.

The expiry rule was recovered from recorded months (the lists of expiries of 736 of 736 snapshots of 2026 are
reproduced exactly); the strike ladder follows the steps measured there.
"""

from math import exp, sqrt

import numpy as np
from jaxtyping import Float, Int

from volgrad.market.instruments import EXPIRY_HOUR_UTC

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FRIDAY = 4  # Monday is 0
QUARTER_MONTHS = (2, 5, 8, 11)  # March, June, September, December, January being 0

DAILIES, WEEKLIES, MONTHLIES, QUARTERLIES = 4, 3, 3, 4
# The longest life that a contract of each kind can have had when first listed, in days (measured).
LISTED_DAYS = {"daily": 4.0, "weekly": 22.0, "monthly": 95.0, "quarterly": 370.0}

# Up to so many days to expiry: finest strike step as a share of spot times volatility (in these units BTC's
# and ETH's steps agree), and a width (measured, rounded) ...
TENORS = ((7.0, 0.0235, 1.2), (25.0, 0.0235, 0.7), (130.0, 0.047, 1.05), (float("inf"), 0.117, 1.1))
# ... that multiplies how many ATM deviations the fine, the double and the fivefold steps reach.
BANDS = ((1.0, 1.2), (2.0, 1.8), (5.0, 2.7))

PREMIUM_UNIT = 1e-4  # coin; every premium is a whole number of these
COARSE_UNITS = 5  # tick of 0.0005 ...
COARSE_FROM_UNITS = 50  # ... from 0.005 upwards


def listed_expiries(ts_us: int) -> Int[np.ndarray, "expiries"]:
    """Expiries listed at a time, ascending, in microseconds UTC: 08:00, all Fridays but for the dailies.

    The next four days; then, after tomorrow's 08:00, three Fridays, three last Fridays of a month and four
    last Fridays of a quarter (a new series is listed the day before its predecessor expires). Measured.

    >>> from datetime import UTC, datetime
    >>> friday = datetime(2026, 1, 2, 21, 16, tzinfo=UTC)
    >>> len(listed_expiries(int(friday.timestamp()) * 1_000_000))
    13
    """
    first_day = (ts_us - EXPIRY_HOUR_UTC * HOUR_US) // DAY_US + 1
    days = np.arange(first_day + 1, first_day + 480)
    fridays = days[weekday(days) == FRIDAY]
    month_ends = fridays[_month(fridays) != _month(fridays + 7)]
    quarter_ends = month_ends[np.isin(_month(month_ends) % 12, QUARTER_MONTHS)]
    dailies = np.arange(first_day, first_day + DAILIES)
    listed = (dailies, fridays[:WEEKLIES], month_ends[:MONTHLIES], quarter_ends[:QUARTERLIES])
    return np.unique(np.concatenate(listed)) * DAY_US + EXPIRY_HOUR_UTC * HOUR_US


def weekday(days: np.ndarray) -> np.ndarray:
    """Day of the week (Monday 0) of days since 1970-01-01, a Thursday."""
    return (days + 3) % 7


def _month(days: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def expiry_kind(expiry_us: int) -> str:
    """`daily`, `weekly`, `monthly` or `quarterly`, told from the date alone."""
    day = np.array([expiry_us // DAY_US])
    if weekday(day)[0] != FRIDAY:
        return "daily"
    if _month(day)[0] == _month(day + 7)[0]:
        return "weekly"
    return "quarterly" if _month(day)[0] % 12 in QUARTER_MONTHS else "monthly"


def strike_ladder(
    scale_usd: float, forward_usd: float, expiry_years: float, volatility: float
) -> Float[np.ndarray, "strikes"]:
    """Round strikes around a forward: fine steps near the money, then twice and five times as wide.

    `scale_usd` (the usual spot times the usual yearly volatility) sets the steps, today's `volatility` the
    reach.

    >>> strike_ladder(42_000.0, 90_000.0, 1 / 365, 0.4).tolist()
    [85000.0, 88000.0, 89000.0, 90000.0, 91000.0, 92000.0, 94000.0, 95000.0]
    """
    days = expiry_years * 365.0
    share, width = next((step, width) for limit, step, width in TENORS if days <= limit)
    deviation = volatility * sqrt(expiry_years)
    ladder = []
    for multiple, reach in BANDS:
        step = round_step(multiple * share * scale_usd)
        low = np.ceil(forward_usd * exp(-reach * width * deviation) / step)
        high = np.floor(forward_usd * exp(reach * width * deviation) / step)
        ladder.append(step * np.arange(max(low, 1.0), high + 1.0))
    return np.unique(np.concatenate(ladder))


def round_step(step_usd: float) -> float:
    """The nearest of 1, 2, 2.5, 5 times a power of ten, by ratio."""
    decade = 10.0 ** np.floor(np.log10(step_usd))
    choices = decade * np.array([1.0, 2.0, 2.5, 5.0, 10.0])
    return float(choices[np.argmin(np.abs(np.log(choices / step_usd)))])


def bid_on_tick(premium_coin: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Largest premium on the exchange's grid not above the given one (0 where there is none).

    The tick is 0.0001 below 0.005 and 0.0005 from there on (the exchange's rule for inverse options).
    """
    units = np.floor(np.maximum(premium_coin, 0.0) / PREMIUM_UNIT + 1e-9)
    return np.where(units >= COARSE_FROM_UNITS, units // COARSE_UNITS * COARSE_UNITS, units) / 1e4


def ask_on_tick(premium_coin: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Smallest positive premium on the exchange's grid not below the given one."""
    units = np.maximum(np.ceil(premium_coin / PREMIUM_UNIT - 1e-9), 1.0)
    return np.where(units > COARSE_FROM_UNITS, -(-units // COARSE_UNITS) * COARSE_UNITS, units) / 1e4
