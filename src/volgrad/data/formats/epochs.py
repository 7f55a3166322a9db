"""Columns of time in tables whose documentation leaves the unit open: stamps, ISO 8601 text, or numbers since 1970."""

import numpy as np
import pyarrow as pa

from volgrad.data.columns import STAMP_TYPE, is_textual, number, numbers, text
from volgrad.data.stamps import stamps

__all__ = ["stamp_column"]

# A number since 1970 below the bound is of the unit, from 1973 (ms: 1e11) to 5138: the four ranges do not overlap.
_UNITS = ((1e11, "s", 1e6), (1e14, "ms", 1e3), (1e17, "us", 1.0), (np.inf, "ns", 1e-3))


def stamp_column(column: pa.ChunkedArray, name: str, source: str) -> tuple[pa.ChunkedArray, str | None]:
    """A time column as `timestamp[us, UTC]` and a note on what was assumed; cells that are no time are null.

    The unit of numbers follows from their size and is told unless it is milliseconds.

    Raises:
        SchemaError: the column holds neither times, numbers nor text.

    >>> stamp_column(pa.chunked_array([[1641005912220]]), "t", "trades.csv")[0][0].as_py().isoformat()
    '2022-01-01T02:58:32.220000+00:00'
    """
    dtype = column.type
    if is_textual(dtype):
        read = numbers(text(column, name, source), name, source)
        if read.bad is None and not read.nulls.all():
            return _of_numbers(read.values, name)
    elif pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        return _of_numbers(number(column, name, source)[0], name)
    read = stamps(column, name, source)
    return read.column, read.note


def _of_numbers(values: np.ndarray, name: str) -> tuple[pa.ChunkedArray, str | None]:
    sound = np.isfinite(values) & (values > 0)
    if not sound.any():
        return pa.chunked_array([pa.nulls(len(values), STAMP_TYPE)]), None
    middle = float(np.median(values[sound]))
    unit, micros = next((unit, micros) for bound, unit, micros in _UNITS if middle < bound)
    scaled = np.where(sound, values, 0.0) * micros
    sound &= scaled < 1e17
    whole = np.where(sound, scaled, 0.0).round().astype(np.int64)
    note = None if unit == "ms" else f"{name} is taken as {unit} since 1970 by its size"
    return pa.chunked_array([pa.array(whole, pa.int64(), mask=~sound).cast(STAMP_TYPE)]), note
