"""Columns of time: stamps, dates, ISO 8601 text and, where a format says its unit, integer epochs -> us UTC."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from volgrad.data.columns import (
    NO_STAMP,
    STAMP_TYPE,
    compute,
    is_textual,
    matches,
    numbers,
    refuse_cell,
    text,
)
from volgrad.errors import SchemaError

__all__ = ["EXPECTED", "Stamps", "stamp", "stamps"]

EXPECTED = "a time such as 2026-01-02T08:00:00Z"
EIGHT_O_CLOCK_US = 8 * 3_600_000_000
_DAY_US = 86_400_000_000
_MICROS = {"s": 1_000_000, "ms": 1000, "us": 1}
_LATEST_US = 10**17  # the year 5138: later stamps are damage
_NO_TEXT = pa.scalar(None, pa.string())
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_ZONED = r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$"


class Stamps(NamedTuple):
    """A column of time as read: ``timestamp[us, UTC]``.

    note: what had to be assumed. bad: cells that hold other text (None: no such cell), null in `column`.
    """

    column: pa.ChunkedArray
    note: str | None = None
    bad: Bool[np.ndarray, " rows"] | None = None
    first_bad: str = ""


def stamp(column: pa.ChunkedArray, name: str, source: str) -> tuple[pa.ChunkedArray, str | None]:
    """As :func:`stamps`, but a cell that is no time is an error.

    >>> stamp(pa.chunked_array([["2026-01-02T08:00:00Z"]]), "expiry", "quotes.csv")[0].type
    TimestampType(timestamp[us, tz=UTC])
    """
    read = stamps(column, name, source)
    if read.bad is not None:
        raise refuse_cell(source, name, int(np.argmax(read.bad)), read.first_bad, EXPECTED)
    return read.column, read.note


def stamps(column: pa.ChunkedArray, name: str, source: str, epoch: str | None = None) -> Stamps:
    """A time column as ``timestamp[us, UTC]`` (ns are cut to us); text that is no time is marked.

    Stamps without a time zone are taken as UTC; an expiry given as a bare date means 08:00 UTC of that day
    (the exchange's rule), any other date 00:00 UTC. Each is told in the note.

    Args:
        column: the cells.
        name: the column's name.
        source: for messages.
        epoch: unit ("s", "ms", "us") of integers since 1970 where the format has them.

    Raises:
        SchemaError: the column holds neither stamps, dates nor text (an integer epoch of a format that does not
            say its unit is not trusted).
    """
    dtype = column.type
    if pa.types.is_null(dtype):
        return Stamps(pa.chunked_array([pa.nulls(len(column), STAMP_TYPE)]))
    if epoch is not None and not pa.types.is_timestamp(dtype):
        return _of_epoch(column, name, source, _MICROS[epoch])
    if is_textual(dtype):
        return _of_text(text(column, name, source), name, source)
    if pa.types.is_date(dtype):
        return _of_dates(column, name, source)
    if pa.types.is_timestamp(dtype):
        notes = [] if dtype.tz else [f"{source}: {name} has no time zone, taken as UTC"]
        taken = _utc(column.cast(pa.timestamp("us", tz=dtype.tz), safe=False))
        notes += [_midnight(name, source)] if name == "expiry" and _at_midnight(taken) else []
        return Stamps(taken, "; ".join(notes) or None)
    raise SchemaError(
        f"{source}: column {name} holds {dtype}, expected a timestamp (ms, us or ns) or ISO 8601 text; "
        f"cast it first, e.g. pyarrow.compute.cast(column, pyarrow.timestamp('ms', 'UTC')).",
        file=source,
    )


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.int64()).cast(STAMP_TYPE)


def _of_epoch(column: pa.ChunkedArray, name: str, source: str, micros: int) -> Stamps:
    if pa.types.is_integer(column.type):
        values, bad, first = column.cast(pa.int64()).fill_null(int(NO_STAMP)).to_numpy(), None, ""
    else:
        values, _, bad, first = numbers(column, name, source)
    limit = _LATEST_US // micros
    sound = (values > -limit) & (values < limit)
    whole = np.where(sound, values, 0).astype(np.int64) * micros
    return Stamps(pa.chunked_array([pa.array(whole, pa.int64(), mask=~sound).cast(STAMP_TYPE)]), None, bad, first)


def _of_dates(column: pa.ChunkedArray, name: str, source: str) -> Stamps:
    hour = EIGHT_O_CLOCK_US if name == "expiry" else 0
    micros = column.cast(pa.timestamp("us")).cast(pa.int64())
    taken = "08:00" if hour else "00:00"
    return Stamps(_utc(compute("add", micros, hour)), f"{source}: {name} holds dates, taken as {taken} UTC of the day")


def _of_text(column: pa.ChunkedArray, name: str, source: str) -> Stamps:
    """Each distinct text is read once."""
    combined = column.combine_chunks()
    array = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    read = _distinct(pa.chunked_array([array.dictionary]), name, source)
    taken = read.column.take(array.indices)
    if read.bad is None:
        return Stamps(taken, read.note)
    bad = np.append(read.bad, False)[array.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return Stamps(taken, read.note, bad if bad.any() else None, read.first_bad)


def _distinct(entries: pa.ChunkedArray, name: str, source: str) -> Stamps:
    entries = compute("utf8_trim_whitespace", entries)
    entries = compute("if_else", compute("equal", entries, ""), _NO_TEXT, entries)
    bare, zoned = matches(entries, _DATE), matches(entries, _ZONED)
    dates, bad_dates = _castable(compute("if_else", bare, entries, _NO_TEXT), pa.date32())
    day = _of_dates(dates, name, source)
    with_zone, bad = _castable(compute("if_else", zoned, entries, _NO_TEXT), STAMP_TYPE)
    naive_text = compute("if_else", compute("or", bare, zoned), _NO_TEXT, entries)
    without, worse = _castable(naive_text, pa.timestamp("us"))
    notes = [day.note] if dates.null_count < len(dates) else []
    notes += [f"{source}: {name} has no time zone, taken as UTC"] if without.null_count < len(without) else []
    notes += [_midnight(name, source)] if name == "expiry" and _at_midnight(without) else []
    read = Stamps(
        compute("coalesce", _utc(with_zone), _utc(without), day.column), "; ".join(filter(None, notes)) or None
    )
    return _marked(read, entries, bad | worse | bad_dates)


def _at_midnight(column: pa.ChunkedArray) -> bool:
    """Whether all stamps that there are stand at 00:00."""
    stamps = column.cast(pa.int64()).drop_null().to_numpy()
    return bool(stamps.size and np.all(stamps % _DAY_US == 0))


def _midnight(name: str, source: str) -> str:
    return f"{source}: every {name} stands at 00:00 UTC, taken as it is; where these are dates the exchange means 08:00"


def _marked(read: Stamps, entries: pa.ChunkedArray, bad: Bool[np.ndarray, " rows"]) -> Stamps:
    if not bad.any():
        return read
    return read._replace(bad=bad, first_bad=entries[int(np.argmax(bad))].as_py())


def _castable(column: pa.ChunkedArray, target: pa.DataType) -> tuple[pa.ChunkedArray, Bool[np.ndarray, " rows"]]:
    """Cells cast to `target`, null where that fails, and which those are; by halves, so that few failures cost
    little.
    """
    bad = np.zeros(len(column), bool)
    parts: list[pa.Array] = []
    todo = [(0, len(column))]
    while todo:
        start, stop = todo.pop()
        try:
            cast = column.slice(start, stop - start).cast(target)
        except pa.ArrowInvalid:
            if stop - start == 1:
                bad[start] = True
                parts.append(pa.nulls(1, target))
                continue
            middle = (start + stop) // 2
            todo += [(middle, stop), (start, middle)]
        else:
            parts += cast.chunks
    return pa.chunked_array(parts, target), bad
