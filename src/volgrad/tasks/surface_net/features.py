"""What the network is told of a chain: one row an expiry, listed or only remembered, in the order of time."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from volgrad.market.chain import Chain
from volgrad.market.clock import clock_years
from volgrad.models.local_vol import KNOTS
from volgrad.tasks.surface_net.memory import Memory

__all__ = ["FEATURES", "LEVEL_UNIT", "SMILE_UNIT", "Told", "missing", "tell"]

_COUNT = KNOTS.size
_DAY_US = 86_400_000_000
_LEAST_US = 2 * 3_600_000_000  # before its expiry an option is left out
LEVEL_UNIT, SMILE_UNIT = 0.01, 0.05
_WIDTH = 0.4 * np.gradient(KNOTS)  # of the kernel by which quotes are gathered at a knot (assumption)

_SINGLE = (
    "missing", "log_clock", "gap_before", "gap_after", "friday", "saturday", "sunday", "monday", "month_end",
    "quarter_end", "level_fast", "level_slow", "seen_fast", "seen_slow", "age", "remembered", "low", "high",
    "log_quotes", "log_spread", "log_vol", "log_vol_relative",
)  # fmt: skip
_KNOTTED = ("smile", "smile_seen", "shape", "shape_seen", "quote", "quoted")
#: Names of the columns.
FEATURES = (*_SINGLE, *(f"{name}_{knot}" for name in _KNOTTED for knot in range(_COUNT)))


class Told(NamedTuple):
    """Rows for the network.

    stamps: expiries, microseconds since 1970 UTC, ascending.
    listed: whether the chain has quotes of it.
    values: numbers of `FEATURES`. Shape: (expiries, features).
    """

    stamps: Int64[np.ndarray, " expiries"]
    listed: Bool[np.ndarray, " expiries"]
    values: Float32[np.ndarray, "expiries features"]

    def knotted(self, name: str) -> Float32[np.ndarray, "expiries knots"]:
        """The columns of a name of which there is one for each knot."""
        start = len(_SINGLE) + _KNOTTED.index(name) * _COUNT
        return self.values[:, start : start + _COUNT]

    def single(self, name: str) -> Float32[np.ndarray, " expiries"]:
        """The column of a name."""
        return self.values[:, _SINGLE.index(name)]


def missing(memory: Mapping[int, Memory], stamps: Int64[np.ndarray, " expiries"], ts_us: int) -> list[int]:
    """Expiries that are remembered, lie between those of a chain, and are not in it."""
    listed = set(stamps.tolist())
    first, last = int(stamps[0]), int(stamps[-1])
    return sorted(one for one in memory if first < one < last and one not in listed and one - ts_us >= _LEAST_US)


def tell(
    chain: Chain,
    expiries: Int64[np.ndarray, " expiries"],
    theta: Float64[np.ndarray, " expiries"],
    mean: Float64[np.ndarray, "expiries knots"],
    memory: Mapping[int, Memory],
) -> Told:
    """The rows of a chain.

    Args:
        chain: the quotes.
        expiries: which of its expiries have quotes.
        theta: their at-the-money total variance, roughly.
        mean: their mean shape without a network.
        memory: of earlier chains, by expiry.
    """
    quoted = chain.expiry_us[expiries]
    stamps = np.sort(np.concatenate([quoted, np.asarray(missing(memory, quoted, chain.ts_us), np.int64)]))
    listed = np.isin(stamps, quoted)
    single, knotted = np.zeros((stamps.size, len(_SINGLE))), np.zeros((stamps.size, len(_KNOTTED), _COUNT))
    clock = np.maximum(clock_years(chain.ts_us, stamps), 1e-6)
    single[:, :10] = _calendar(stamps, listed, clock)
    _remembered(single, knotted, [memory.get(stamp) for stamp in stamps.tolist()], chain.ts_us)
    same = np.array([stamp in memory and memory[stamp].before == before for before, stamp in _pairs(quoted)], bool)
    knotted[np.flatnonzero(listed)[~same], 2:4] = 0.0
    knotted[listed, 2] = np.where(knotted[listed, 3] > 0, np.clip(knotted[listed, 2] - mean, -3.0, 3.0), 0.0)
    knotted[~listed, 2:4] = 0.0
    _current(single, knotted, listed, chain, theta)
    level = 0.5 * np.log(theta / clock[listed])
    single[listed, -2], single[listed, -1] = level + np.log(2.0), level - np.median(level)
    values = np.concatenate([single, knotted.reshape(stamps.size, -1)], axis=1)
    return Told(stamps, listed, values.astype(np.float32))


def _pairs(quoted: np.ndarray) -> list[tuple[float, int]]:
    """Each expiry with the one before it; 0 before the first."""
    return list(zip([0.0, *quoted[:-1].astype(np.float64).tolist()], quoted.tolist(), strict=True))


def _calendar(stamps: np.ndarray, listed: np.ndarray, clock: np.ndarray) -> Float64[np.ndarray, "expiries 10"]:
    log_clock = np.log(clock)
    gap = np.minimum(np.diff(log_clock), 3.0)
    day = stamps.astype("datetime64[us]").astype("datetime64[D]")
    weekday = (stamps // _DAY_US + 3) % 7  # Monday is 0
    month = day.astype("datetime64[M]")
    last = (weekday == 4) & ((day + 7).astype("datetime64[M]") != month)  # the month's last Friday
    quarter = last & (month.astype(np.int64) % 3 == 2)
    columns = [~listed, (log_clock - np.log(30.0 / 365.0)) / 2.0, np.append(3.0, gap), np.append(gap, 3.0)]
    return np.stack([*columns, *(weekday == one for one in (4, 5, 6, 0)), last, quarter], axis=1).astype(np.float64)


def _remembered(single: np.ndarray, knotted: np.ndarray, found: list[Memory | None], ts_us: int) -> None:
    for place, one in enumerate(found):
        if one is None:
            continue
        single[place, 10:12] = np.clip(one.level / LEVEL_UNIT, -6.0, 6.0)
        single[place, 12:14] = one.seen / 2.0
        single[place, 14:16] = np.log1p(max(ts_us - one.ts_us, 0.0) / 3.6e9) / 3.0, 1.0
        knotted[place, 0] = np.clip(one.smile / SMILE_UNIT, -6.0, 6.0)
        knotted[place, 1] = one.smile_seen / 5.0
        knotted[place, 2], knotted[place, 3] = one.shape, one.shape_seen / 5.0


def _current(single: np.ndarray, knotted: np.ndarray, listed: np.ndarray, chain: Chain, theta: np.ndarray) -> None:
    """The chain's own quotes: their smile, gathered at the knots, and how many and how good they are."""
    row = np.unique(chain.expiry_index, return_inverse=True)[1]
    count = np.bincount(row)
    first = np.cumsum(count) - count
    x = chain.log_moneyness / np.sqrt(theta)[row]
    at_money = np.sqrt(theta / chain.expiry_years[np.unique(chain.expiry_index)])
    smile = np.clip(np.log(chain.mid_iv / at_money[row]), -2.0, 2.0)
    spread = np.clip(chain.half_spread_iv / chain.mid_iv, 1e-4, 1.0)
    kernel = np.exp(-0.5 * ((x[:, None] - KNOTS[None, :]) / _WIDTH[None, :]) ** 2)
    weight = kernel / (spread + 0.005)[:, None] ** 2
    total = np.add.reduceat(weight, first, axis=0)
    knotted[listed, 4] = 3.0 * np.add.reduceat(weight * smile[:, None], first, axis=0) / (total + 1e-3 * total.max())
    near = np.add.reduceat(kernel, first, axis=0)
    knotted[listed, 5] = near / (near + 1.0)
    single[listed, 16], single[listed, 17] = x[first] / 4.0, x[first + count - 1] / 4.0
    single[listed, 18] = np.log(count / 20.0)
    single[listed, 19] = np.log(np.add.reduceat(spread, first) / count / 0.02)
