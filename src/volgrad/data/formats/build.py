"""Decoded messages -> tables in canonical names."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from volgrad.data.columns import STAMP_TYPE, compute
from volgrad.data.formats.fields import TICKER, TRADE
from volgrad.data.formats.frames import Quote

__all__ = [
    "POLL_MS",
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

#: Rows of one poll lie this close. Assumption, from the slowest poll seen: a cycle of the 5-minute files took 146 s.
POLL_MS = 600_000


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
    return latest if answer or latest - min(known) <= POLL_MS else None


def told(source: str, notes: Iterable[str | None]) -> tuple[str, ...]:
    """Notes with the source's name before them."""
    return tuple(note if note.startswith(f"{source}: ") else f"{source}: {note}" for note in notes if note)


def others(records: Sequence[Any], used: set[str]) -> tuple[str, ...]:
    """Fields of the first record that are not used."""
    first = next((record for record in records if isinstance(record, dict)), {})
    return tuple(str(name)[:80] for name in list(first)[:100] if name not in used)


def quotes_table(rows: Sequence[Quote]) -> pa.Table:
    """Tickers as quotes: the instrument's name stands for the contract."""

    def of(field: str) -> list[Any]:
        return list(map(attrgetter(field), rows))

    table = {"ts": stamps_ms(of("timestamp")), "instrument": texts(of("instrument_name"))}
    table |= {"underlying_index": texts(of("underlying_index"))}
    return pa.table(table | {ours: numbers(of(theirs)) for ours, theirs in TICKER.items()})


def trades_table(of: Callable[[str], Sequence[Any]]) -> pa.Table:
    """Trades under the names of `side.SIDE_COLUMNS`, the instrument's name in place of the contract.

    Args:
        of: field of the exchange's trades -> its values.
    """
    table = {"ts": stamps_ms(of("timestamp")), "instrument": texts(of("instrument_name"))}
    table |= {ours: numbers(of(theirs)) for ours, theirs in TRADE.items()}
    table["direction"] = texts(of("direction"))
    table["trade_id"] = pa.array([None if one is None else str(one) for one in of("trade_id")], pa.string())
    return pa.table(table)


def ticks_table(ticks: Sequence[Tick], *, symbol: bool) -> pa.Table:
    """Values of an index as bars of no length, in which only the close is given."""
    names = [tick.index_name for tick in ticks]
    columns = {
        "ts": stamps_ms([tick.stamp_ms for tick in ticks]),
        "ccy": texts([name.partition("_")[0].upper() for name in names]),
        "close": numbers([tick.value for tick in ticks]),
    }
    return pa.table(columns | {"symbol": texts(names)} if symbol else columns)
