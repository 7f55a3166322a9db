"""When each quote is made anew, and how what it carries has moved by then.

A contract's quote is refreshed at Poisson times in a clock that runs with time and with the variance of spot:
after a large move nearly every quote is new, in a quiet night some stand for minutes. Both clocks add up over
moments, so that the law does not depend on the cadence.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.simulate.contracts import Standing

__all__ = ["HALF_LIVES_MINUTES", "Refreshed", "refresh_rates", "refreshes", "renew"]

# Processes of a single option, all Ornstein-Uhlenbeck of variance 1, with half-lives in minutes. Error and spread:
# from the 5-minute days of April 2023, lags of 5 minutes to 4 hours; a side that is missing is missing five
# minutes later in 92 to 97 % of the cases (measured); the others are assumptions.
HALF_LIVES_MINUTES = {
    "error": 8.0,
    "lasting_error": 600.0,
    "stray": 20.0,
    "spread": 240.0,
    "no_bid": 240.0,
    "no_ask": 240.0,
    "stub": 1440.0,
    "deep": 360.0,
    "bid_size": 30.0,
    "ask_size": 30.0,
}
PROCESSES = tuple(HALF_LIVES_MINUTES)
_DECAY_US = np.log(2.0) / (60e6 * np.array(list(HALF_LIVES_MINUTES.values())))  # a microsecond

# Refreshes a minute by time alone: of an option out of the money by its distance, of one in the money by its depth
# (from the share of quotes that stand unchanged, sizes included, after five minutes: 64 % below |delta| .02, 8 %
# at .25 to .5, 60 to 80 % above .75; measured in April 2023).
FAR_RATE, NEAR_RATE, NEAR_DELTA, DEEP_RATE = 0.07, 2.4, 0.35, 0.07
SHORT_YEARS = 0.02  # the near rate halves by about this life
MANY = 0.3  # refreshes a cell from which drawing for every cell is faster (measured)
MOVED = 1.0  # refreshes for a move of spot that takes the premium half a spread away, squared (assumption)


def refresh_rates(
    otm_delta: Float[np.ndarray, " rows"],
    is_itm: Bool[np.ndarray, " rows"],
    years: Float[np.ndarray, " rows"],
    half_spread: Float[np.ndarray, " rows"],
    net_delta: Float[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Refreshes a microsecond, and refreshes a unit of squared log return of spot.

    Args:
        otm_delta: |delta| of the out-of-the-money option of the same strike, 0 to about a half.
        is_itm: whether this one is in the money.
        years: to expiry.
        half_spread: of the quote, in coin.
        net_delta: coin of premium a unit of log forward.
    """
    near = np.minimum(otm_delta / NEAR_DELTA, 1.0) ** 1.3
    by_life = 0.5 + 1.0 / (1.0 + years / SHORT_YEARS)
    a_minute = FAR_RATE + NEAR_RATE * near * by_life
    in_the_money = DEEP_RATE + 0.25 * NEAR_RATE * near**3
    reach = np.minimum(np.abs(net_delta) / np.maximum(half_spread, 1e-4), 400.0)
    return np.where(is_itm, in_the_money, a_minute) / 60e6, MOVED * reach**2


class Refreshed(NamedTuple):
    """Refreshes in order of moment and row.

    `tick` and `row` say which, `before` is the place of the same row's refresh before each in this list, and
    `final` that of each row's last one ("rows"); -1 where there is none in these moments.
    """

    tick: Int[np.ndarray, " refreshes"]
    row: Int[np.ndarray, " refreshes"]
    before: Int[np.ndarray, " refreshes"]
    final: Int[np.ndarray, " rows"]

    def latest(self, ticks: int) -> Int[np.ndarray, "ticks rows"]:
        """Place of each row's latest refresh at each moment, -1 where there is none yet."""
        found = np.full((ticks, self.final.size), -1)
        found[self.tick, self.row] = np.arange(self.tick.size)
        return np.maximum.accumulate(found, axis=0)


def refreshes(
    elapsed_us: int,
    variance: Float[np.ndarray, " ticks"],
    rates: tuple[np.ndarray, np.ndarray],
    is_new: Bool[np.ndarray, " rows"],
    random: np.random.Generator,
) -> Refreshed:
    """Draw which quotes are refreshed at each moment; an option without a quote gets one at the first.

    A quote is refreshed where at least one event of two Poisson processes falls between two moments: one runs
    with time, the other with the variance of spot.

    Args:
        elapsed_us, variance: since the moment before: microseconds, and sum of squared returns.
        rates: of `refresh_rates`.
        is_new: options that have no quote yet.
        random: where chance comes from.
    """
    ticks, rows = variance.size, is_new.size
    expected = (rates[0].sum() * elapsed_us * ticks, rates[1].sum() * variance.sum())
    if sum(expected) < MANY * ticks * rows:
        cell = _scattered(ticks, variance, rates, expected, random)
        cell = np.unique(np.concatenate([cell, np.flatnonzero(is_new)]))
    else:
        numbers = np.multiply.outer(variance.astype(np.float32), rates[1].astype(np.float32))
        numbers += (rates[0] * elapsed_us).astype(np.float32)
        # at least one event: an exponential time of mean 1 lies below the expected number
        happens = random.standard_exponential(numbers.shape, dtype=np.float32) < numbers
        happens[0] |= is_new
        cell = np.flatnonzero(happens)
    tick, row = np.divmod(cell, rows)
    by_row = np.argsort(row, kind="stable")
    same = row[by_row][1:] == row[by_row][:-1]
    before, final = np.full(cell.size, -1), np.full(rows, -1)
    before[by_row[1:][same]] = by_row[:-1][same]
    final[row] = np.arange(cell.size)  # of several, the last is kept
    return Refreshed(tick, row, before, final)


def _scattered(
    ticks: int,
    variance: np.ndarray,
    rates: tuple[np.ndarray, np.ndarray],
    expected: tuple[float, float],
    random: np.random.Generator,
) -> np.ndarray:
    """Cells of all events of both processes, drawn event by event (the same law, for events far apart)."""
    by_time, by_variance = random.poisson(expected)
    tick = random.integers(ticks, size=by_time)
    found = [tick * rates[0].size + _chosen(rates[0], by_time, random)]
    if by_variance:
        found.append(_chosen(variance, by_variance, random) * rates[0].size + _chosen(rates[1], by_variance, random))
    return np.concatenate(found)


def _chosen(weight: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Places drawn in proportion to their weights."""
    edges = np.cumsum(weight)
    return np.minimum(np.searchsorted(edges, random.random(count) * edges[-1], side="right"), weight.size - 1)


def renew(
    standing: Standing, refreshed: Refreshed, ts_us: Int[np.ndarray, " ticks"], random: np.random.Generator
) -> tuple[Float[np.ndarray, "refreshes processes"], list[Int[np.ndarray, " round"]]]:
    """The options' own processes at each refresh, by their exact transitions; `standing` keeps the last ones.

    Also the refreshes in rounds, in order of time, each of which has any option at most once.
    """
    tick, row = refreshed.tick, refreshed.row
    stamp = ts_us[tick]
    before = refreshed.before
    since = stamp - np.where(before >= 0, stamp[before], standing.refreshed_us[row])
    keep = np.exp(-np.multiply.outer(np.maximum(since, 0), _DECAY_US))
    moods = np.sqrt(1.0 - keep * keep) * random.standard_normal(keep.shape)
    round_of = _rounds(row)
    order = np.argsort(round_of, kind="stable")
    rounds = np.split(order, np.flatnonzero(np.diff(round_of[order])) + 1)
    for part in rounds:
        own = row[part]
        standing.moods[own] = moods[part] = moods[part] + keep[part] * standing.moods[own]
    last = refreshed.final
    standing.refreshed_us = np.where(last >= 0, stamp[np.maximum(last, 0)], standing.refreshed_us)
    return moods, rounds


def _rounds(row: Int[np.ndarray, " refreshes"]) -> Int[np.ndarray, " refreshes"]:
    """How many refreshes of the same row come before each: rows of one round are all different."""
    order = np.argsort(row, kind="stable")
    ranked = row[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if row.size else np.empty(0, int)
    found = np.empty_like(row)
    found[order] = np.arange(row.size) - np.repeat(starts, np.diff(np.append(starts, row.size)))
    return found
