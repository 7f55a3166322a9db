"""What a market's quotes are like: statistics of chains that real and simulated files are compared by.

Both sides are read by `volgrad.data.read_quotes` and go through the same functions here. Deltas, moneyness and the
level of volatility rest on the exchange's mark, which both have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from volgrad.data import read_quotes
from volgrad.market.implied import implied_total_volatility
from volgrad.runtime import double_precision
from volgrad.simulate.truth import SQRT_2PI, mills_ratio

YEAR_US = 365 * 86_400e6
DELTAS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.01)
OTM_DELTAS = (0.02, 0.05, 0.1, 0.25, 0.5)
DAYS = (0.08, 1.0, 3.0, 10.0, 35.0, 100.0, 400.0)
_BLOCK = 65_536


@dataclass(frozen=True)
class Rows:
    """The quotes of one underlying, sorted by chain; shapes "rows". Prices are NaN where missing.

    `chain` numbers the chains, whose stamps are `stamps_us`; `iv` columns are fractions from prices and NaN in the
    money.
    """

    stamps_us: np.ndarray
    chain: np.ndarray
    expiry_us: np.ndarray
    strike: np.ndarray
    is_call: np.ndarray
    number: dict[str, np.ndarray]
    years: np.ndarray
    k: np.ndarray
    delta: np.ndarray
    is_otm: np.ndarray

    @property
    def two_sided(self) -> np.ndarray:
        """Rows with a bid and an ask above it."""
        return self.number["ask"] > self.number["bid"]

    @property
    def spread(self) -> np.ndarray:
        """Ask less bid, coin."""
        return self.number["ask"] - self.number["bid"]


def read_rows(files: Sequence[Path]) -> dict[str, Rows]:
    """The quotes of files by underlying; those at or past their expiry are left out."""
    quotes = read_quotes(list(files))
    table = quotes.table.filter(pa.array(quotes.reason == 0))
    codes = table["ccy"].cast(pa.string()).to_numpy(zero_copy_only=False)
    return {ccy: _rows(table.filter(pa.array(codes == ccy))) for ccy in sorted(set(codes.tolist()))}


def _rows(table: pa.Table) -> Rows:
    def micros(name: str) -> np.ndarray:
        return table[name].cast(pa.int64()).to_numpy()

    stamp = micros("cycle" if "cycle" in table.column_names else "ts")
    expiry_us = micros("expiry")
    keep = np.flatnonzero(expiry_us > stamp)
    keep = keep[np.argsort(stamp[keep], kind="stable")]
    number = {
        name: table[name].to_numpy()[keep] for name in table.column_names if table[name].type == pa.float64()
    }  # fmt: skip
    is_call = (table["cp"].cast(pa.string()).to_numpy(zero_copy_only=False) == "C")[keep]
    expiry_us, stamp = expiry_us[keep], stamp[keep]
    stamps_us, chain = np.unique(stamp, return_inverse=True)
    years = (expiry_us - stamp) / YEAR_US
    k = np.log(number["strike"] / number["underlying"])
    deviation = np.maximum(number["mark_iv"], 1e-3) * np.sqrt(years)
    d1 = 0.5 * deviation - k / deviation
    delta = _tail(np.where(is_call, -d1, d1))
    strike = number.pop("strike")
    return Rows(stamps_us, chain, expiry_us, strike, is_call, number, years, k, delta, is_call == (k > 0.0))


def _tail(x: np.ndarray) -> np.ndarray:
    """The normal chance of a value above x."""
    tail = np.exp(-0.5 * x * x) / SQRT_2PI * mills_ratio(np.abs(x))
    return np.where(x > 0.0, tail, 1.0 - tail)


def quote_vols(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Volatilities of bid and ask of two-sided out-of-the-money rows, NaN elsewhere."""
    used = np.flatnonzero(rows.two_sided & rows.is_otm & (rows.years > 2.0 / 8760.0))
    both = np.full((2, rows.k.size), np.nan)
    for side, name in enumerate(("bid", "ask")):
        total = _implied(rows.number[name][used], rows.k[used], rows.is_call[used])
        both[side, used] = total / np.sqrt(rows.years[used])
    return both[0], both[1]


def _implied(premium: np.ndarray, k: np.ndarray, is_call: np.ndarray) -> np.ndarray:
    size = -(-max(premium.size, 1) // _BLOCK) * _BLOCK
    filled = [np.full(size, 0.04), np.zeros(size), np.ones(size, bool)]
    for whole, part in zip(filled, (premium, k, is_call), strict=True):
        whole[: part.size] = part
    found = np.empty(size)
    with double_precision():
        for start in range(0, size, _BLOCK):
            piece = slice(start, start + _BLOCK)
            found[piece] = np.asarray(implied_total_volatility(*(whole[piece] for whole in filled))[0])
    return found[: premium.size]


def cross_section(rows: Rows) -> dict[str, Any]:
    """Statistics of single chains: listing, spreads, missing sides, forwards, marks, errors in common."""
    bid, ask = rows.number["bid"], rows.number["ask"]
    bid_iv, ask_iv = quote_vols(rows)
    chains = rows.stamps_us.size
    expiries = np.unique(np.stack([rows.chain, rows.expiry_us], axis=1), axis=0).shape[0]
    two = rows.two_sided
    intrinsic = np.maximum(np.where(rows.is_call, -1.0, 1.0) * np.expm1(rows.k), 0.0)
    mark = rows.number["mark"]
    outside = (mark < bid - 1e-9) | (mark > ask + 1e-9)
    buckets = list(_buckets(rows.delta, DELTAS))
    return {
        "chains": chains,
        "options_a_chain": rows.chain.size / chains,
        "expiries_a_chain": expiries / chains,
        "strikes_an_expiry": rows.chain.size / 2.0 / expiries,
        "two_sided": float(two.mean()),
        "crossed_or_locked": float(np.mean(bid >= ask)),
        "ask_of_one_coin_or_more": float(np.mean(ask >= 1.0)),
        "ask_at_the_volatility_cap": _share_capped(rows),
        "spread_vol_points": {
            f"{days}, |delta| {near}": _median(
                100.0 * (ask_iv - bid_iv)[of_days & of_delta & np.isfinite(ask_iv - bid_iv)]
            )
            for days, of_days in _buckets(rows.years * 365.0, DAYS, " d")
            for near, of_delta in _buckets(rows.delta, OTM_DELTAS)
        },
        "by_delta": {
            name: {
                "share": float(inside.mean()),
                "no_bid": float(np.isnan(bid[inside]).mean()),
                "no_ask": float(np.isnan(ask[inside]).mean()),
                "spread_coin_p50": _median(rows.spread[inside & two]),
                "spread_coin_p90": _quantile(rows.spread[inside & two], 0.9),
                "bid_below_intrinsic": float(np.mean((bid <= intrinsic)[inside & two])),
            }
            for name, inside in buckets
            if inside.any()
        },
        "sizes": _sizes(rows),
        "oi": {name: _three(rows.number["oi"][inside]) for name, inside in buckets if inside.any()},
        "forwards": _forwards(rows),
        "mark_outside_quotes": float(outside[two].mean()),
        "errors": _errors(rows, bid_iv, ask_iv),
    }


def _share_capped(rows: Rows) -> float | None:
    given = rows.number.get("ask_iv")
    return None if given is None else float(np.mean(given > 9.98))


def _sizes(rows: Rows) -> dict[str, Any] | None:
    """10 %, median, 90 % of the bids' sizes by delta, where the source has them."""
    size = rows.number.get("bid_size")
    if size is None:
        return None
    known = (rows.number["bid"] > 0.0) & (size > 0.0)
    return {name: _three(size[known & inside]) for name, inside in _buckets(rows.delta, DELTAS)}


def _forwards(rows: Rows) -> dict[str, float]:
    """How far call and put of one strike disagree about the forward, basis points."""
    order = np.lexsort((rows.is_call, rows.strike, rows.expiry_us, rows.chain))
    keys = np.stack([rows.chain, rows.expiry_us, rows.strike], axis=1)[order]
    pair = np.flatnonzero(np.all(keys[1:] == keys[:-1], axis=1))
    forward = np.log(rows.number["underlying"])[order]
    apart = 1e4 * np.abs(forward[pair + 1] - forward[pair])
    some = apart[apart > 0.1]
    return {
        "pairs_apart": some.size / max(apart.size, 1),
        "apart_bp_p50": _median(some),
        "apart_bp_p99": _quantile(some, 0.99),
        "apart_bp_max": float(apart.max(initial=0.0)),
    }


def judged(rows: Rows) -> np.ndarray:
    """Rows whose errors are looked at: two-sided, out of the money, not cheap, a day or more to live."""
    near = rows.is_otm & (rows.delta > 0.05) & (rows.years > 1.0 / 365.0)
    return rows.two_sided & near & (rows.number["bid"] > 0.001)


def half_spread_errors(rows: Rows) -> np.ndarray:
    """Middle less mark, in half-spreads, cut at 3; NaN where it is not looked at."""
    middle = 0.5 * (rows.number["bid"] + rows.number["ask"])
    error = np.full(rows.k.size, np.nan)
    used = judged(rows)
    error[used] = np.clip((middle - rows.number["mark"])[used] / (0.5 * rows.spread[used]), -3.0, 3.0)
    return error


def _errors(rows: Rows, bid_iv: np.ndarray, ask_iv: np.ndarray) -> dict[str, float]:
    """Errors against the mark and log spreads: how large, and how much of it a chain or an expiry has in common."""
    used = judged(rows)
    error = half_spread_errors(rows)[used]
    vol = np.clip(100.0 * (0.5 * (bid_iv + ask_iv) - rows.number["mark_iv"])[used], -5.0, 5.0)
    chain = rows.chain[used]
    expiry = np.unique(np.stack([chain, rows.expiry_us[used]], axis=1), axis=0, return_inverse=True)[1].ravel()
    log_spread = np.log(rows.spread[used])
    kind = 100 * np.digitize(rows.delta[used], (0.1, 0.15, 0.25, 0.35)) + np.digitize(
        rows.years[used] * 365.0, (2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 35.0, 60.0, 100.0, 200.0)
    )
    log_spread = log_spread - (np.bincount(kind, log_spread) / np.maximum(np.bincount(kind), 1))[kind]
    known = np.isfinite(vol)
    return {
        "half_spreads_sd": float(error.std()),
        "half_spreads_mean": float(error.mean()),
        "within_chain": intraclass(error, chain),
        "within_expiry": intraclass(error, expiry),
        "vol_points_sd": float(vol[known].std()),
        "vol_within_chain": intraclass(vol[known], chain[known]),
        "vol_within_expiry": intraclass(vol[known], expiry[known]),
        "log_spread_sd": float(log_spread.std()),
        "log_spread_within_chain": intraclass(log_spread, chain),
        "log_spread_within_expiry": intraclass(log_spread, expiry),
    }


def intraclass(values: np.ndarray, group: np.ndarray) -> float:
    """Intraclass correlation by one-way analysis of variance (Fisher 1925) [paper]; NaN with one group."""
    _, group = np.unique(group, return_inverse=True)
    count = np.bincount(group)
    if count.size < 2 or values.size <= count.size:
        return float("nan")
    mean = np.bincount(group, values) / count
    between = np.sum(count * (mean - values.mean()) ** 2) / (count.size - 1)
    within = np.sum((values - mean[group]) ** 2) / (values.size - count.size)
    usual = (values.size - np.sum(count.astype(float) ** 2) / values.size) / (count.size - 1)
    return float((between - within) / (between + (usual - 1.0) * within))


def _buckets(values: np.ndarray, edges: Sequence[float], unit: str = "") -> Any:
    for low, high in pairwise(edges):
        yield f"{low:g}-{min(high, 1.0) if high == DELTAS[-1] else high:g}{unit}", (values >= low) & (values < high)


def _median(values: np.ndarray) -> float:
    return _quantile(values, 0.5)


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if values.size else float("nan")


def _three(values: np.ndarray) -> list[float]:
    return [_quantile(values, share) for share in (0.1, 0.5, 0.9)]
