"""Small quote tables with a known volatility, in each kind of source's columns."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

NOW = datetime(2026, 1, 6, 9, 18, 35, 173000, tzinfo=UTC)
FORWARDS = {"BTC": 90_000.0, "ETH": 3_000.0}
DAYS = (3, 24, 80)
RATIOS = (0.7, 0.85, 0.95, 1.02, 1.1, 1.3)
ROWS = 2 * len(DAYS) * len(RATIOS)  # of one underlying, calls and puts
ARRAYS = (
    "strike_usd",
    "log_moneyness",
    "is_call",
    "bid",
    "ask",
    "bid_iv",
    "ask_iv",
    "expiry_us",
    "forward_usd",
)


def volatility(k, years):
    """The volatility that all tables quote: a smile that flattens with time."""
    return 0.6 + 0.1 * np.asarray(k) ** 2 - 0.05 * np.asarray(k) + 0.02 / np.sqrt(1 + years)


def normalised_price(k, total_volatility, is_call):
    """Black's formula in units of the forward, by hand."""
    d1 = -k / total_volatility + total_volatility / 2
    sign = 1 if is_call else -1
    return sign * (_normal(sign * d1) - math.exp(k) * _normal(sign * (d1 - total_volatility)))


def _normal(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def expiry(days, now=NOW):
    """08:00 UTC that many days after `now`."""
    return (now + timedelta(days=days)).replace(hour=8, minute=0, second=0, microsecond=0)


def years_to(when, now=NOW):
    """ACT/365."""
    return (when - now).total_seconds() / (365 * 86400)


def quote(days=24, ratio=1.1, cp=None, ccy="BTC", now=NOW, linear=False, spread=0.01) -> dict[str, Any]:
    """One row of the canonical columns: bid and ask `spread` apart in volatility around the known one."""
    forward, when = FORWARDS[ccy], expiry(days, now)
    cp = cp or ("C" if ratio >= 1 else "P")
    years, k = years_to(when, now), math.log(ratio)
    middle = float(volatility(k, years))
    low, high = (normalised_price(k, (middle + side * spread / 2) * math.sqrt(years), cp == "C") for side in (-1, 1))
    unit = forward if linear else 1.0
    row = {"ts": now, "ccy": ccy, "expiry": when, "strike": ratio * forward, "cp": cp}
    return row | {"bid": low * unit, "ask": high * unit, "underlying": forward}


def chain_rows(ccy="BTC", now=NOW, days=DAYS, ratios=RATIOS, **how) -> list[dict[str, Any]]:
    """Calls and puts of all strikes and expiries."""
    return [quote(days=d, ratio=r, cp=cp, ccy=ccy, now=now, **how) for d in days for r in ratios for cp in ("C", "P")]


def table_of(rows, drop=(), **changes):
    """Rows as an Arrow table; `changes` maps a column to values or to a function of a row."""
    names = [name for name in rows[0] if name not in drop]
    columns = {name: [row[name] for row in rows] for name in names}
    for name, values in changes.items():
        columns[name] = [values(row) for row in rows] if callable(values) else values
    return pa.table(columns)


def ticker_rows(ccy="BTC", cycle=NOW, days=DAYS, ratios=RATIOS):
    """Rows as the 5-minute files have them: percent, 0 = missing, the row's own time a minute after the
    cycle.
    """
    rows = []
    for row in chain_rows(ccy, cycle, days, ratios):
        when = row["expiry"]
        name = f"{ccy}-{when.day}{when:%b%y}-{row['strike']:.0f}-{row['cp']}".upper()
        k, years = math.log(row["strike"] / row["underlying"]), years_to(when, cycle)
        iv = 100 * float(volatility(k, years))
        rows.append(
            {
                "instrument_name": name,
                "timestamp_ms": int(cycle.timestamp() * 1000) + 60_000,
                "underlying_price": row["underlying"],
                "best_bid_price": row["bid"],
                "best_ask_price": row["ask"],
                "bid_iv": iv - 0.5,
                "ask_iv": iv + 0.5,
                "mark_iv": iv,
                "ccy": ccy,
                "cycle": cycle,
            }
        )
    return rows


def canonical_table(**changes):
    """BTC and ETH at one instant in canonical columns."""
    return table_of(chain_rows() + chain_rows("ETH"), **changes)


def assert_same_chains(left, right):
    """Equal in every bit."""
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert (a.ts_us, a.ccy, a.split, dict(a.left_out)) == (b.ts_us, b.ccy, b.split, dict(b.left_out))
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
