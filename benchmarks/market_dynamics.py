"""How a market moves from chain to chain: spot, the level and skew of volatility, and the quotes themselves."""

from typing import Any

import numpy as np

from benchmarks.market_statistics import Rows, half_spread_errors

TENORS = (7, 30, 90, 180)  # days
LAGS = (1, 2, 3, 6, 12, 48)  # chains
FAR = 4.0  # robust standard deviations from which a return is counted as a jump
SOONER_US = 420e6  # chains farther apart than this are not one cycle apart


def dynamics(rows: Rows) -> dict[str, Any]:
    """Spot's returns, and level and skew of the mark's smile at fixed tenors, from one chain to the next.

    Volatilities are a square-root day of calendar time: squared changes summed over days summed. `acf` is the first
    autocorrelation of the changes, `kurtosis` that of changes over square-root time.
    """
    level, skew, spot = _smiles(rows)
    days = np.diff(rows.stamps_us) / 86_400e6
    returns = np.diff(np.log(spot))
    scaled = returns / np.sqrt(days)
    robust = 1.4826 * np.median(np.abs(scaled - np.median(scaled)))
    told: dict[str, Any] = {
        "days_apart": float(np.median(days)),
        "spot_yearly_vol": float(np.sqrt(np.sum(returns**2) / days.sum() * 365.0)),
        "spot_kurtosis": _kurtosis(scaled),
        "spot_jumps_per_30_days": float(np.sum(np.abs(scaled) > FAR * robust) / days.sum() * 30.0),
    }
    for place, tenor in enumerate(TENORS):
        moved, tilted = np.diff(np.log(level[:, place])), np.diff(skew[:, place])
        known = np.isfinite(moved) & np.isfinite(tilted)
        both = known[1:] & known[:-1]
        told[f"{tenor} d"] = {
            "atm_vol_mean": float(np.nanmean(level[:, place])),
            "log_level_daily_vol": float(np.sqrt(np.sum(moved[known] ** 2) / days[known].sum())),
            "log_level_sd": float(np.nanstd(np.log(level[:, place]))),
            "spot_correlation": _correlation(moved[known], returns[known]),
            "acf": _correlation(moved[1:][both], moved[:-1][both]),
            "kurtosis": _kurtosis((moved / np.sqrt(days))[known]),
            "skew_mean": float(np.nanmean(skew[:, place])),
            "skew_sd": float(np.nanstd(skew[:, place])),
            "skew_daily_vol": float(np.sqrt(np.sum(tilted[known] ** 2) / days[known].sum())),
        }
    return told


def _smiles(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ATM volatility and skew of every chain at `TENORS` ("chains tenors"), and the shortest forward.

    Skew: volatility one ATM deviation below less one above, over the ATM volatility. Between expiries total variance
    is linear in time, and skew in its logarithm; NaN outside them.
    """
    chains = rows.stamps_us.size
    level, skew, spot = (
        np.full((chains, len(TENORS)), np.nan),
        np.full((chains, len(TENORS)), np.nan),
        np.full(chains, np.nan),
    )
    order = np.lexsort((rows.k, rows.expiry_us, rows.chain))
    order = order[rows.is_otm[order] & (rows.years[order] > 1.0 / 365.0)]
    key = rows.chain[order].astype(np.int64) * 2**20 + (rows.expiry_us[order] // 3_600_000_000 & (2**20 - 1))
    parts = np.split(order, np.flatnonzero(np.diff(key)) + 1)
    nodes: dict[int, list[tuple[float, float, float]]] = {}
    for part in parts:
        if part.size < 5:
            continue
        chain, k, vol = int(rows.chain[part[0]]), rows.k[part], rows.number["mark_iv"][part]
        years, middle = rows.years[part[0]], np.interp(0.0, k, vol)
        reach = middle * np.sqrt(years)
        tilt = (np.interp(-reach, k, vol) - np.interp(reach, k, vol)) / middle
        nodes.setdefault(chain, []).append((float(years) * 365.0, float(middle), float(tilt)))
        if np.isnan(spot[chain]):
            spot[chain] = np.median(rows.number["underlying"][part])
    for chain, of_chain in nodes.items():
        days, middle, tilt = np.array(of_chain).T
        variance = np.interp(TENORS, days, middle**2 * days, left=np.nan, right=np.nan)
        level[chain] = np.sqrt(variance / np.array(TENORS))
        skew[chain] = np.interp(np.log(TENORS), np.log(days), tilt, left=np.nan, right=np.nan)
    return level, skew, spot


def persistence(rows: Rows) -> dict[str, Any]:
    """How quotes last from one 5-minute chain to the next, and how errors and spreads are correlated in time."""
    table = _table(rows)
    near = np.diff(rows.stamps_us) < SOONER_US
    before, after = table[:-1][near], table[1:][near]
    both = (before >= 0) & (after >= 0)
    before, after = before[both], after[both]
    bid, ask = rows.number["bid"], rows.number["ask"]
    two = rows.two_sided[before] & rows.two_sided[after] & (rows.years[after] > 2.0 / 8760.0)
    old, new = before[two], after[two]
    middle = 0.5 * (bid + ask)[old]
    same = (bid[old] == bid[new]) & (ask[old] == ask[new])
    told: dict[str, Any] = {
        "own_middle_inside": float(np.mean((middle >= bid[new]) & (middle <= ask[new]))),
        "prices_unchanged": float(same.mean()),
        "no_bid_again": _again(np.isnan(bid), before, after),
        "no_ask_again": _again(np.isnan(ask), before, after),
        "error_acf": _by_lag(table, half_spread_errors(rows), _correlation),
        "log_spread_change_sd": _by_lag(table, _log_spreads(rows), lambda one, other: float(np.std(other - one))),
    }
    if "bid_size" in rows.number:
        for name in ("bid_size", "ask_size"):
            same &= rows.number[name][old] == rows.number[name][new]
        told["prices_and_sizes_unchanged"] = float(same.mean())
    return told


def _table(rows: Rows) -> np.ndarray:
    """Row of every chain and option, -1 where it is not there."""
    option = np.unique(np.stack([rows.expiry_us, rows.strike, rows.is_call], axis=1), axis=0, return_inverse=True)[1]
    table = np.full((rows.stamps_us.size, int(option.max()) + 1), -1)
    table[rows.chain, option.ravel()] = np.arange(rows.chain.size)
    return table


def _log_spreads(rows: Rows) -> np.ndarray:
    known = np.isfinite(half_spread_errors(rows))
    return np.where(known, np.log(np.where(known, rows.spread, 1.0)), np.nan)


def _by_lag(table: np.ndarray, values: np.ndarray, measure: Any) -> dict[str, float]:
    laid = np.where(table >= 0, values[table], np.nan)
    found = {}
    for lag in LAGS:
        if lag >= laid.shape[0]:
            continue
        one, other = laid[:-lag].ravel(), laid[lag:].ravel()
        known = np.isfinite(one) & np.isfinite(other)
        found[str(lag)] = measure(one[known], other[known])
    return found


def _again(missing: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Share of missing sides that are missing in the next chain too."""
    gone = missing[before]
    return float(missing[after][gone].mean()) if gone.any() else float("nan")


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.size > 2 else float("nan")


def _kurtosis(values: np.ndarray) -> float:
    return float(np.mean(values**4) / np.mean(values**2) ** 2)
