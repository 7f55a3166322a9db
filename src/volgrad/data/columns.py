"""One Arrow column in, one plain column out: text, numbers and time stamps, whatever their encoding.

Dictionary, plain, large and view strings are the same text; ms, us and ns stamps the same instant; integers,
decimals and numeric strings the same number. What cannot be read is a :class:`SchemaError` that names file,
column and first bad value.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from volgrad.errors import SchemaError

__all__ = ["NO_STAMP", "number", "stamp", "stamp_us", "text", "text_codes"]

STAMP_TYPE = pa.timestamp("us", tz="UTC")
TEXT_TYPE = pa.dictionary(pa.int32(), pa.string())
_NO_TEXT = pa.scalar(None, pa.string())
NO_STAMP = np.iinfo(np.int64).min
EIGHT_O_CLOCK_US = 8 * 3_600_000_000


def compute(function: str, *arguments: Any, options: pc.FunctionOptions | None = None) -> Any:
    """Call an Arrow compute function by its name.

    >>> compute("coalesce", pa.array([None, 1]), pa.array([2, 3])).to_pylist()
    [2, 1]
    """
    return pc.call_function(function, list(arguments), options)


def _matches(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return compute("match_substring_regex", column, options=pc.MatchSubstringOptions(pattern))


def text(column: pa.ChunkedArray, name: str, source: str) -> pa.ChunkedArray:
    """A text column as ``dictionary<int32, string>`` with one dictionary; nulls stay null.

    Raises:
        SchemaError: the column does not hold text.

    >>> text(pa.chunked_array([["C", "P", "C"]]), "cp", "quotes").chunk(0).dictionary.to_pylist()
    ['C', 'P']
    """
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), TEXT_TYPE)])
    if pa.types.is_dictionary(column.type):
        # decoding by cast is not implemented for dictionaries of string views: convert the dictionary instead
        _must_be_text(column.type.value_type, name, source)
        column = pa.chunked_array([_plain_dictionary(chunk) for chunk in column.chunks], TEXT_TYPE)
    else:
        _must_be_text(column.type, name, source)
        column = column.cast(pa.string()).dictionary_encode()
    return column.unify_dictionaries()


def _plain_dictionary(chunk: pa.DictionaryArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.string()))


def _must_be_text(dtype: pa.DataType, name: str, source: str) -> None:
    if not (pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)):
        raise SchemaError(f"{source}: column {name} holds {dtype}, expected text.", file=source)


def text_codes(column: pa.ChunkedArray) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """Distinct values in alphabetical order and each row's index into them (-1 where null).

    The codes depend on the values alone, never on the order of rows, files or dictionary entries.

    >>> values, codes = text_codes(text(pa.chunked_array([["P", "C", None, "P"]]), "cp", "quotes"))
    >>> values, codes.tolist()
    (['C', 'P'], [1, 0, -1, 1])
    """
    combined = column.combine_chunks()
    array = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    indices = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    entries = array.dictionary.to_pylist()
    present = np.bincount(indices[indices >= 0], minlength=len(entries)) > 0
    values = sorted({e for e, here in zip(entries, present, strict=True) if here and e is not None})
    rank = {value: i for i, value in enumerate(values)}
    lookup = np.array([rank.get(e, -1) for e in entries] + [-1], np.int64)
    return values, lookup[indices]


def number(
    column: pa.ChunkedArray, name: str, source: str
) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """A numeric column as float64 (NaN where null) and the mask of its nulls.

    Raises:
        SchemaError: the column holds neither numbers nor text that reads as numbers.

    >>> number(pa.chunked_array([["1.5", None]]), "bid", "quotes.csv")[0].tolist()
    [1.5, nan]
    """
    dtype = column.type
    if pa.types.is_dictionary(dtype) or pa.types.is_string_view(dtype) or pa.types.is_large_string(dtype):
        column = text(column, name, source).cast(pa.string()) if _is_textual(dtype) else column.cast(dtype.value_type)
        dtype = column.type
    readable = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    if pa.types.is_string(dtype):
        column = _numeric_text(column, name, source)
    elif not (readable or pa.types.is_null(dtype)):
        raise SchemaError(f"{source}: column {name} holds {dtype}, expected numbers.", file=source)
    nulls = np.asarray(column.is_null().to_numpy())
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.array(values, np.float64), nulls


def _is_textual(dtype: pa.DataType) -> bool:
    value = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)


def _numeric_text(column: pa.ChunkedArray, name: str, source: str) -> pa.ChunkedArray:
    trimmed = compute("utf8_trim_whitespace", column)
    trimmed = compute("if_else", compute("equal", trimmed, ""), _NO_TEXT, trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        row, value = _first_bad(trimmed, pa.float64())
        raise SchemaError(
            f"{source}: column {name} holds {value!r} in row {row}, expected a number "
            "(an empty cell is a missing one).",
            file=source,
        ) from None


def _first_bad(column: pa.ChunkedArray, target: pa.DataType) -> tuple[int, str]:
    """Row (from 0) and text of the first value that does not cast, by bisection."""
    lo, hi = 0, len(column)
    while hi - lo > 1:
        mid = (lo + hi) // 2
        try:
            column.slice(lo, mid - lo).cast(target)
            lo = mid
        except pa.ArrowInvalid:
            hi = mid
    return lo, column[lo].as_py()


def stamp(column: pa.ChunkedArray, name: str, source: str) -> tuple[pa.ChunkedArray, str | None]:
    """A time column as ``timestamp[us, UTC]`` (ns are cut to us) and a note where something had to be
    assumed.

    Stamps without a time zone are taken as UTC; an expiry given as a bare date means 08:00 UTC of that day
    (the exchange's rule), any other date 00:00 UTC. Each is told in the note.

    Raises:
        SchemaError: the column holds neither stamps, dates nor ISO 8601 text (an integer epoch has no unit to
        trust).

    >>> stamp(pa.chunked_array([["2026-01-02T08:00:00Z"]]), "expiry", "quotes.csv")[0].type
    TimestampType(timestamp[us, tz=UTC])
    """
    dtype = column.type
    if pa.types.is_null(dtype):
        return pa.chunked_array([pa.nulls(len(column), STAMP_TYPE)]), None
    if _is_textual(dtype):
        return _stamp_text(text(column, name, source).cast(pa.string()), name, source)
    if pa.types.is_date(dtype):
        hour = EIGHT_O_CLOCK_US if name == "expiry" else 0
        micros = column.cast(pa.timestamp("us")).cast(pa.int64())
        taken = "08:00" if hour else "00:00"
        stamps = _utc(compute("add", micros, hour))
        return stamps, f"{source}: {name} holds dates, taken as {taken} UTC of the day"
    if pa.types.is_timestamp(dtype):
        note = None if dtype.tz else f"{source}: {name} has no time zone, taken as UTC"
        return _utc(column.cast(pa.timestamp("us", tz=dtype.tz), safe=False)), note
    raise SchemaError(
        f"{source}: column {name} holds {dtype}, expected a timestamp (ms, us or ns) or ISO 8601 text; "
        f"cast it first, e.g. pyarrow.compute.cast(column, pyarrow.timestamp('ms', 'UTC')).",
        file=source,
    )


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.int64()).cast(STAMP_TYPE)


def _stamp_text(column: pa.ChunkedArray, name: str, source: str) -> tuple[pa.ChunkedArray, str | None]:
    if compute("all", _matches(column, r"^\d{4}-\d{2}-\d{2}$")).as_py():
        return stamp(column.cast(pa.date32()), name, source)
    zoned = _matches(column, r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$")
    naive_text = compute("if_else", zoned, _NO_TEXT, column)
    zoned_text = compute("if_else", zoned, column, _NO_TEXT)
    parts = []
    for part, target in ((zoned_text, STAMP_TYPE), (naive_text, pa.timestamp("us"))):
        try:
            parts.append(_utc(part.cast(target)))
        except pa.ArrowInvalid:
            row, value = _first_bad(part, target)
            raise SchemaError(
                f"{source}: column {name} holds {value!r} in row {row}, expected a time such as 2026-01-02T08:00:00Z.",
                file=source,
            ) from None
    naive = naive_text.null_count < len(naive_text)
    return compute("coalesce", *parts), f"{source}: {name} has no time zone, taken as UTC" if naive else None


def stamp_us(column: pa.ChunkedArray) -> Int[np.ndarray, " rows"]:
    """A ``timestamp[us, UTC]`` column as microseconds since 1970 (``NO_STAMP`` where null)."""
    return column.cast(pa.int64()).fill_null(int(NO_STAMP)).to_numpy()
