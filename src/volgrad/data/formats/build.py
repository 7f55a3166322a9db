"""Decoded messages -> tables in canonical names."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from volgrad.data.columns import STAMP_TYPE, compute
from volgrad.data.formats.frames import Data, Quote

__all__ = [
    "Tick",
    "cycle_of",
    "numbers",
    "others",
    "quotes_table",
    "stamps_ms",
    "texts",
    "ticks_table",
    "told",
    "trades_table",
]

# Rows of one poll lie this close. Assumption, from the slowest poll seen: a cycle of the 5-minute files took 146 s.
_POLL_MS = 600_000


class Tick(NamedTuple):
    """A value of an index: milliseconds since 1970 UTC, the index's name such as btc_usd, its value."""

    stamp_ms: int
    index_name: str
    value: float


def texts(values: Sequence[str | None]) -> pa.Array:
    """Text as a dictionary column."""
    return pa.array(values, pa.string()).dictionary_encode()


def numbers(values: Sequence[float | None]) -> pa.Array:
    """Numbers as a float64 column, None as null."""
    return pa.array(values, pa.float64())


def stamps_ms(values: Sequence[int | None]) -> pa.Array:
    """Milliseconds since 1970 UTC as `timestamp[us, UTC]`.

    >>> stamps_ms([1749938299495]).to_pylist()[0].isoformat()
    '2025-06-14T21:58:19.495000+00:00'
    """
    millis = pa.array(values, pa.int64())
    if not millis.null_count:
        return pa.array(millis.to_numpy() * np.int64(1000)).cast(STAMP_TYPE)
    return compute("multiply", millis, 1000).cast(STAMP_TYPE)


def cycle_of(own: Sequence[int | None], stamp: int | None, *, answer: bool) -> int | None:
    """The one time of a poll's rows, in milliseconds: when it was asked for, else that of its latest row.

    None where the rows lie ten minutes apart and nothing says that they were asked for together.

    >>> cycle_of([1000, None, 3000], None, answer=False), cycle_of([1000, 700_000], None, answer=False)
    (3000, None)
    """
    known = [time for time in own if time]
    if stamp is not None or not known:
        return stamp
    latest = max(known)
    return latest if answer or latest - min(known) <= _POLL_MS else None


def told(source: str, notes: Iterable[str | None]) -> tuple[str, ...]:
    """Notes with the source's name before them."""
    return tuple(note if note.startswith(f"{source}: ") else f"{source}: {note}" for note in notes if note)


def others(records: Sequence[Any], used: set[str]) -> tuple[str, ...]:
    """Fields of the first record that are not used."""
    first = next((record for record in records if isinstance(record, dict)), {})
    return tuple(str(name)[:80] for name in list(first)[:100] if name not in used)


def quotes_table(rows: Sequence[Quote]) -> pa.Table:
    """Tickers as quotes: the instrument's name stands for the contract."""
    return pa.table(
        {
            "ts": stamps_ms([row.timestamp for row in rows]),
            "instrument": texts([row.instrument_name for row in rows]),
            "bid": numbers([row.best_bid_price for row in rows]),
            "ask": numbers([row.best_ask_price for row in rows]),
            "underlying": numbers([row.underlying_price for row in rows]),
            "underlying_index": texts([row.underlying_index for row in rows]),
            "mark": numbers([row.mark_price for row in rows]),
            "mark_iv": numbers([row.mark_iv for row in rows]),
            "bid_iv": numbers([row.bid_iv for row in rows]),
            "ask_iv": numbers([row.ask_iv for row in rows]),
            "bid_size": numbers([row.best_bid_amount for row in rows]),
            "ask_size": numbers([row.best_ask_amount for row in rows]),
            "oi": numbers([row.open_interest for row in rows]),
        }
    )


def trades_table(rows: Sequence[Data]) -> pa.Table:
    """Trades under the names of `side.SIDE_COLUMNS`, the instrument's name in place of the contract."""
    return pa.table(
        {
            "ts": stamps_ms([row.timestamp for row in rows]),
            "instrument": texts([row.instrument_name for row in rows]),
            "price": numbers([row.price for row in rows]),
            "amount": numbers([row.amount for row in rows]),
            "direction": texts([row.direction for row in rows]),
            "iv": numbers([row.iv for row in rows]),
            "index_usd": numbers([row.index_price for row in rows]),
            "mark": numbers([row.mark_price for row in rows]),
            "trade_id": pa.array([None if row.trade_id is None else str(row.trade_id) for row in rows], pa.string()),
        }
    )


def ticks_table(ticks: Sequence[Tick], *, symbol: bool) -> pa.Table:
    """Values of an index as bars of no length, in which only the close is given."""
    names = [tick.index_name for tick in ticks]
    columns = {
        "ts": stamps_ms([tick.stamp_ms for tick in ticks]),
        "ccy": texts([name.partition("_")[0].upper() for name in names]),
        "close": numbers([tick.value for tick in ticks]),
    }
    return pa.table(columns | {"symbol": texts(names)} if symbol else columns)
