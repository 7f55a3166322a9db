"""Columns of time in tables whose documentation leaves the unit open: stamps, ISO 8601 text, or numbers since 1970."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from volgrad.data.columns import STAMP_TYPE, compute, is_textual, number, numbers, text
from volgrad.data.stamps import stamps

__all__ = ["stamp_column"]

# Seconds at the start of 2009 (the first coin) and of 2101. Numbers between them in one unit are none of these years in
# another: the ranges of s, ms, us and ns lie a factor of 1000 apart and each spans a factor of 3.4.
_EARLIEST_S, _LATEST_S = 1_230_768_000, 4_133_980_800
_UNITS = (("s", 1e6, 1.0), ("ms", 1e3, 1e3), ("us", 1.0, 1e6), ("ns", 1e-3, 1e9))


def stamp_column(column: pa.ChunkedArray, name: str, source: str) -> tuple[pa.ChunkedArray, str | None]:
    """A time column as `timestamp[us, UTC]` and a note on what was assumed; cells that are no time are null.

    The unit of a number follows from its size, cell by cell (archives changed theirs in the middle of a series), and is
    told unless all are milliseconds. A number that is no time of the years 2009 to 2100 in any unit is null.

    Raises:
        SchemaError: the column holds neither times, numbers nor text.

    >>> column, _ = stamp_column(pa.chunked_array([[1641005912220, 1641005912220000, 7]]), "t", "trades.csv")
    >>> column.cast("int64").to_pylist()
    [1641005912220000, 1641005912220000, None]
    """
    dtype = column.type
    if is_textual(dtype):
        read = numbers(text(column, name, source), name, source)
        if read.bad is None and not read.nulls.all():
            return _of_numbers(read.values, name)
        written = stamps(column, name, source)
        if read.nulls.all() or (read.bad | read.nulls).all():
            return written.column, written.note
        counted, note = _of_numbers(read.values, name)
        notes = [one for one in (written.note, note) if one]
        return compute("coalesce", written.column, counted), "; ".join(notes) or None
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        return _of_numbers(number(column, name, source)[0], name)
    read = stamps(column, name, source)
    return read.column, read.note


def _of_numbers(values: Float[np.ndarray, " rows"], name: str) -> tuple[pa.ChunkedArray, str | None]:
    micros, seen = np.full(len(values), np.nan), []
    for unit, to_micros, of_second in _UNITS:
        mine = (values >= _EARLIEST_S * of_second) & (values < _LATEST_S * of_second)
        if mine.any():
            micros[mine] = values[mine] * to_micros
            seen.append(unit)
    nothing = np.isnan(micros)
    whole = np.where(nothing, 0.0, micros).round().astype(np.int64)
    note = f"{name} is taken as {seen[0]} since 1970 by its size" if seen and seen != ["ms"] else None
    if len(seen) > 1:
        note = f"{name} is taken as {' or '.join(seen)} since 1970, each cell by its size"
    return pa.chunked_array([pa.array(whole, pa.int64(), mask=nothing).cast(STAMP_TYPE)]), note
