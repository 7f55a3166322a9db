"""What is carried from chain to chain, by expiry: its own level and smile beyond its neighbours', and its shape.

An expiry's own level is `ln` of its at-the-money volatility less what the other expiries of the same chain say by
kriging (`market.clock`); its own smile is likewise the difference of `ln(vol(x) / vol(0))` at the knots. Both are kept
as running means over the chains in which the expiry was an inner one; they are what is known of it while it is missing.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.market.chain import Chain
from volgrad.market.clock import carried_level, carried_smile, clock_years, smile_error
from volgrad.models.grid import NODES
from volgrad.models.local_vol import KNOTS
from volgrad.models.slices import PUBLISHED, SlicedSurface
from volgrad.tasks.model import Carried

__all__ = ["Memory", "Own", "forget", "own_parts", "remember", "unquoted"]

_COUNT = KNOTS.size
_K = NODES[PUBLISHED]
_FADE = np.array([0.5, 0.85])  # of the fast and the slow mean of a level, a chain (measured: .6 to .8 are alike)
_FADE_SMILE = 0.8
_FADE_SHAPE = 0.85
_UNQUOTED = 0.02  # error of a smile, beyond its quotes, at which it counts for a half
_SOFT = 0.3  # standard deviations over which a shape is forgotten beyond the quotes
_LONGEST_US = 10 * 86_400_000_000  # an expiry not seen for so long is forgotten
_QUOTE_LIFE_US = 3_600_000_000  # a quote not seen for so long is forgotten
_FIVE_MINUTES_US = 300_000_000
_DRIFT = 0.004  # of ln volatility in five minutes
_PLACES = np.cumsum([1, 2, 1, 2, 2, _COUNT, _COUNT, _COUNT, _COUNT])


class Memory(NamedTuple):
    """What is known of one expiry.

    ts_us: stamp of the chain that last showed it.
    level: fast and slow mean of its own level.
    before: stamp of the expiry before it there, whose interval the shape is of; 0: none.
    seen: weights of the two means. Shape: (2,).
    quoted: low and high of x between its last quotes.
    smile, smile_seen: mean own smile at the knots, and its weight.
    shape, shape_seen: mean log local variance at the knots, and its weight.
    quotes: latest quote of each strike: dollars, implied volatility and half-spread, stamp. Shape: (quotes, 4).
    """

    ts_us: float
    level: Float64[np.ndarray, "2"]
    before: float
    seen: Float64[np.ndarray, "2"]
    quoted: Float64[np.ndarray, "2"]
    smile: Float64[np.ndarray, " knots"]
    smile_seen: Float64[np.ndarray, " knots"]
    shape: Float64[np.ndarray, " knots"]
    shape_seen: Float64[np.ndarray, " knots"]
    quotes: Float64[np.ndarray, "quotes 4"]

    @classmethod
    def of(cls, numbers: Float64[np.ndarray, " numbers"]) -> "Memory":
        """From one array, as carried."""
        ts_us, level, before, seen, quoted, smile, smile_seen, shape, shape_seen, quotes = np.split(numbers, _PLACES)
        known = level, float(before[0]), seen, quoted, smile, smile_seen, shape, shape_seen
        return cls(float(ts_us[0]), *known, quotes.reshape(-1, 4))

    @classmethod
    def empty(cls, ts_us: int) -> "Memory":
        """Of an expiry never seen."""
        zero = np.zeros(_COUNT)
        return cls(float(ts_us), np.zeros(2), 0.0, np.zeros(2), np.zeros(2), zero, zero, zero, zero, np.empty((0, 4)))

    def numbers(self) -> Float64[np.ndarray, " numbers"]:
        """As one array."""
        return np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in self])


class Own(NamedTuple):
    """An expiry's own level and smile in one chain; weights are 0 where nothing is known.

    level: ln volatility beyond its neighbours'. Shape: (expiries,).
    known: whether it is an inner expiry.
    smile, weight: own smile at the knots. Shape: (expiries, knots).
    """

    level: Float64[np.ndarray, " expiries"]
    known: np.ndarray
    smile: Float64[np.ndarray, "expiries knots"]
    weight: Float64[np.ndarray, "expiries knots"]


def own_parts(surface: SlicedSurface, stamps: Int64[np.ndarray, " expiries"]) -> Own:
    """What each expiry of a fitted chain is beyond what the others say."""
    clock, theta = clock_years(surface.ts_us, stamps), surface.theta
    root = np.sqrt(theta)[:, None]
    at = np.clip(KNOTS[None, :] * root, _K[0], _K[-1])
    smile = np.stack([np.interp(place, _K, row) for place, row in zip(at, surface.variance, strict=True)])
    smile = 0.5 * np.log(smile / theta[:, None])
    error = smile_error(KNOTS, *(surface.quoted / root).T)
    count = theta.size
    level, own, known = np.zeros(count), np.zeros((count, _COUNT)), np.zeros(count, bool)
    for one in range(1, count - 1):
        others = np.arange(count) != one
        here = clock[one : one + 1]
        level[one] = 0.5 * np.log(theta[one] / carried_level(clock[others], theta[others], here)[0])
        own[one] = smile[one] - carried_smile(clock[others], smile[others], here, error[others])[0]
        known[one] = True
    weight = np.where(known[:, None], 1.0 / (1.0 + (error / _UNQUOTED) ** 2), 0.0)
    return Own(level, known, own, weight)


def forget(earlier: Carried | None, ts_us: int) -> dict[int, Memory]:
    """Memories that may still serve at `ts_us`, by expiry."""
    found = {stamp: Memory.of(numbers) for stamp, numbers in (earlier or {}).items()}
    return {stamp: one for stamp, one in found.items() if stamp > ts_us and ts_us - one.ts_us <= _LONGEST_US}


def remember(
    memory: Mapping[int, Memory],
    surface: SlicedSurface,
    stamps: Int64[np.ndarray, " expiries"],
    shape: Float64[np.ndarray, "expiries knots"],
    chain: Chain,
) -> dict[int, Memory]:
    """Memories after `chain` was fitted: its expiries renewed, the others as they were."""
    own = own_parts(surface, stamps)
    low, high = (surface.quoted / np.sqrt(surface.theta)[:, None]).T
    after = dict(memory)
    for place, stamp in enumerate(stamps.tolist()):
        before = memory.get(stamp) or Memory.empty(surface.ts_us)
        level, seen = _mean(before.level, before.seen, _FADE, own.level[place], float(own.known[place]))
        smile, smile_seen = _mean(before.smile, before.smile_seen, _FADE_SMILE, own.smile[place], own.weight[place])
        previous = float(stamps[place - 1]) if place else 0.0
        known = before.shape_seen if before.before == previous else np.zeros(_COUNT)  # else it was another interval
        formed, formed_seen = _mean(before.shape, known, _FADE_SHAPE, shape[place], _inside(low[place], high[place]))
        after[stamp] = Memory(
            float(surface.ts_us), level, previous, seen, np.array([low[place], high[place]]),
            smile, smile_seen, formed, formed_seen, _latest(before.quotes, chain, stamp),
        )  # fmt: skip
    return after


def unquoted(memory: Memory | None, chain: Chain, expiry: int) -> Float64[np.ndarray, "quotes 4"]:
    """Remembered quotes of strikes that the chain does not show: log-moneyness, volatility, half-spread, years.

    The half-spread grows with age, as volatilities move meanwhile.
    """
    if memory is None or not memory.quotes.size:
        return np.empty((0, 4))
    strike, vol, half_spread, ts_us = memory.quotes[_recent(memory.quotes, chain.ts_us)].T
    gone = ~np.isin(strike, chain.strike_usd[chain.rows(expiry)])
    drift = _DRIFT * vol * np.sqrt((chain.ts_us - ts_us) / _FIVE_MINUTES_US)
    k = np.log(strike / chain.forward_usd[expiry])
    years = np.full(k.size, chain.expiry_years[expiry])
    return np.stack([k, vol, np.hypot(half_spread, drift), years], axis=1)[gone]


def _latest(before: np.ndarray, chain: Chain, stamp: int) -> Float64[np.ndarray, "quotes 4"]:
    rows = chain.rows(int(np.searchsorted(chain.expiry_us, stamp)))
    strike = chain.strike_usd[rows]
    stamps = np.full(strike.size, float(chain.ts_us))
    now = np.stack([strike, chain.mid_iv[rows], chain.half_spread_iv[rows], stamps], axis=1)
    kept = before[_recent(before, chain.ts_us) & ~np.isin(before[:, 0], strike)]
    return np.concatenate([kept, now])


def _recent(quotes: np.ndarray, ts_us: int) -> np.ndarray:
    return (ts_us - quotes[:, 3] <= _QUOTE_LIFE_US) & (ts_us > quotes[:, 3])


def _inside(low: float, high: float) -> Float64[np.ndarray, " knots"]:
    """1 at knots between the quotes, falling to 0 beyond them."""
    return 1.0 / (
        1.0 + np.exp(np.clip((low - KNOTS) / _SOFT, -30, 30)) + np.exp(np.clip((KNOTS - high) / _SOFT, -30, 30))
    )


def _mean(mean: np.ndarray, weight: np.ndarray, fade: np.ndarray | float, new: np.ndarray, share: np.ndarray | float):
    """A running mean and its weight after one more look; a look of share 0 changes neither."""
    kept = weight * np.power(fade, share)
    total = kept + share
    return np.where(total > 0.0, (kept * mean + share * new) / np.maximum(total, 1e-12), 0.0), total
