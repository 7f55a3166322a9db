"""At-the-money total variance of each expiry, read from its quotes: the scale in which a surface is fitted."""

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.market.chain import Chain

__all__ = ["at_the_money_variance"]

_WIDTH = 0.6  # standard deviations over which quotes speak for the money (assumption)
_ROBUST_ROUNDS = 3
_LIKELY = 0.3  # relative distance of a sound quote near the money from the level, roughly (assumption)
_LEAST_GROWTH = 0.15  # of the forward variance that an expiry's own level would imply (assumption)


def at_the_money_variance(chain: Chain) -> Float64[np.ndarray, " expiries"]:
    """Total variance at `k = 0` for each expiry of `chain` that has quotes, strictly ascending.

    A parabola in `k / (sigma sqrt(tau))`, weighted by spread and nearness to the money, where there are quotes for
    one; the nearest quote otherwise. Where noise would make it fall from one expiry to the next it is raised. It
    is a scale, not an estimate that anything is read from: the fit moves freely around it.
    """
    quoted, place, count = np.unique(chain.expiry_index, return_inverse=True, return_counts=True)
    years = chain.expiry_years[quoted]
    column = np.arange(place.size) - np.repeat(np.cumsum(count) - count, count)

    def by_expiry(values: np.ndarray, padding: float) -> np.ndarray:
        table = np.full((quoted.size, int(count.max())), padding)
        table[place, column] = values
        return table

    k, mid = by_expiry(chain.log_moneyness, np.inf), by_expiry(chain.mid_iv, 0.0)
    precision = by_expiry((chain.half_spread_iv + 0.002) ** -2.0, 0.0)
    order = np.argsort(np.abs(k), axis=1, kind="stable")[:, :3]
    # the median of a few: the nearest quote may be the wild one
    near = np.where(np.arange(order.shape[1]) < count[:, None], np.take_along_axis(mid, order, axis=1), np.inf)
    nearest = _median(near, np.minimum(count, 3))
    x = np.where(np.isfinite(k), k, 0.0) / (nearest * np.sqrt(years))[:, None]
    enough = (count >= 4) & ((np.isfinite(k) & (np.abs(x) < 1.5)).sum(1) >= 3)
    vol = _parabola_at_zero(x, mid, precision, nearest)
    vol = np.where(enough & (vol > 0.5 * nearest) & (vol < 2.0 * nearest), vol, nearest)
    return _ascending(vol**2 * years, years)


def _parabola_at_zero(
    x: Float64[np.ndarray, "expiries quotes"],
    mid: Float64[np.ndarray, "expiries quotes"],
    precision: Float64[np.ndarray, "expiries quotes"],
    nearest: Float64[np.ndarray, " expiries"],
) -> Float64[np.ndarray, " expiries"]:
    """Weighted parabola through each expiry's quotes, read at 0; `precision` is 0 in the padding."""
    weight = np.exp(-0.5 * (x / _WIDTH) ** 2) * precision
    columns = np.stack([np.ones_like(x), x, x**2], axis=1)
    count = np.count_nonzero(precision, axis=1)
    trust = 1.0 / (1.0 + ((mid / nearest[:, None] - 1.0) / _LIKELY) ** 4)
    found = np.zeros((x.shape[0], 3))
    for _ in range(_ROBUST_ROUNDS):  # a wild quote right at the money must not set the scale of the whole chain
        weighted = columns * (weight * trust)[:, None]
        ridge = np.diag([1e-12, 1e-3, 1e-2]) * (weight * trust).sum(1)[:, None, None]
        found = np.linalg.solve(weighted @ columns.swapaxes(1, 2) + ridge, weighted @ mid[:, :, None])[:, :, 0]
        miss = np.abs(mid - (found[:, None] @ columns)[:, 0])
        usual = _median(np.where(precision > 0.0, miss, np.inf), count)
        trust = 1.0 / (1.0 + (miss / (3.0 * usual[:, None] + 1e-6)) ** 2)
    return found[:, 0]


def _median(values: Float64[np.ndarray, "rows columns"], count: Int64[np.ndarray, " rows"]) -> np.ndarray:
    """Of each row's `count` finite values (the others are infinite)."""
    ordered, row = np.sort(values, axis=1), np.arange(count.size)
    return 0.5 * (ordered[row, (count - 1) // 2] + ordered[row, count // 2])


def _ascending(theta: np.ndarray, years: np.ndarray) -> np.ndarray:
    raised = theta.copy()
    for expiry in range(theta.size):
        before, since = (raised[expiry - 1], years[expiry - 1]) if expiry else (0.0, 0.0)
        least = before + _LEAST_GROWTH * (years[expiry] - since) * theta[expiry] / years[expiry]
        raised[expiry] = max(theta[expiry], least)
    return raised
