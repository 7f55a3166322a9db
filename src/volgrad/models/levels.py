"""At-the-money total variance of each expiry, read from its quotes: the scale in which a surface is fitted."""

import numpy as np
from jaxtyping import Float64

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
    quoted = np.unique(chain.expiry_index)
    years = chain.expiry_years[quoted]
    half_spread, mid = chain.half_spread_iv, chain.mid_iv
    vol = np.empty(quoted.size)
    for place, expiry in enumerate(quoted):
        rows = chain.rows(int(expiry))
        vol[place] = _parabola_at_zero(chain.log_moneyness[rows], mid[rows], half_spread[rows], years[place])
    return _ascending(vol**2 * years, years)


def _parabola_at_zero(log_moneyness: np.ndarray, mid: np.ndarray, half_spread: np.ndarray, years: float) -> float:
    # the median of a few: the nearest quote may be the wild one
    nearest = float(np.median(mid[np.argsort(np.abs(log_moneyness), kind="stable")[:3]]))
    x = log_moneyness / (nearest * np.sqrt(years))
    if x.size < 4 or np.count_nonzero(np.abs(x) < 1.5) < 3:
        return nearest
    weight = np.exp(-0.5 * (x / _WIDTH) ** 2) / (half_spread + 0.002) ** 2
    columns = np.stack([np.ones_like(x), x, x**2])
    trust = 1.0 / (1.0 + ((mid - nearest) / (_LIKELY * nearest)) ** 4)
    for _ in range(_ROBUST_ROUNDS):  # a wild quote right at the money must not set the scale of the whole chain
        weighted = columns * (weight * trust)
        ridge = np.diag([0.0, 1e-3, 1e-2]) * (weight * trust).sum()
        found = np.linalg.solve(weighted @ columns.T + ridge, weighted @ mid)
        miss = np.abs(mid - found @ columns)
        trust = 1.0 / (1.0 + (miss / (3.0 * np.median(miss) + 1e-6)) ** 2)
    vol = float(found[0])
    return vol if 0.5 < vol / nearest < 2.0 else nearest


def _ascending(theta: np.ndarray, years: np.ndarray) -> np.ndarray:
    raised = theta.copy()
    for expiry in range(theta.size):
        before, since = (raised[expiry - 1], years[expiry - 1]) if expiry else (0.0, 0.0)
        least = before + _LEAST_GROWTH * (years[expiry] - since) * theta[expiry] / years[expiry]
        raised[expiry] = max(theta[expiry], least)
    return raised
