"""One Arrow column in, one plain column out: text and numbers, whatever their encoding (time stamps: `stamps`).

Dictionary, plain, large and view strings are the same text; integers, decimals and numeric strings the same
number. A column of the wrong type is a :class:`SchemaError` that names file, column and first bad value; single
cells that cannot be read are marked, for the caller to judge.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from volgrad.errors import SchemaError

__all__ = [
    "NO_STAMP",
    "Numbers",
    "chunked",
    "coded",
    "holds",
    "missing",
    "number",
    "numbers",
    "refuse_cell",
    "stamp_us",
    "text",
    "text_codes",
    "text_entries",
]

STAMP_TYPE = pa.timestamp("us", tz="UTC")
TEXT_TYPE = pa.dictionary(pa.int32(), pa.string())
_NO_TEXT = pa.scalar(None, pa.string())
NO_STAMP = np.iinfo(np.int64).min
# What both Arrow and a person read as one decimal number
_DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:inf|infinity|nan)$"


def compute(function: str, *arguments: Any, options: pc.FunctionOptions | None = None) -> Any:
    """Call an Arrow compute function by its name.

    >>> compute("coalesce", pa.array([None, 1]), pa.array([2, 3])).to_pylist()
    [2, 1]
    """
    return pc.call_function(function, list(arguments), options)


def matches(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Which text cells match `pattern` (RE2), somewhere; null where the cell is."""
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


def text_entries(column: pa.ChunkedArray) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """Dictionary of a :func:`text` column as it stands, and each row's index into it (-1 where null).

    >>> text_entries(text(pa.chunked_array([["P", None, "C"]]), "cp", "quotes"))
    (['P', 'C'], array([ 0, -1,  1], dtype=int32))
    """
    combined = column.combine_chunks()
    array = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    return array.dictionary.to_pylist(), array.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def text_codes(column: pa.ChunkedArray) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """Distinct values in alphabetical order and each row's index into them (-1 where null).

    The codes depend on the values alone, never on the order of rows, files or dictionary entries.

    >>> values, codes = text_codes(text(pa.chunked_array([["P", "C", None, "P"]]), "cp", "quotes"))
    >>> values, codes.tolist()
    (['C', 'P'], [1, 0, -1, 1])
    """
    entries, indices = text_entries(column)
    present = np.bincount(indices + 1, minlength=len(entries) + 1)[1:] > 0
    values = sorted({e for e, here in zip(entries, present, strict=True) if here and e is not None})
    rank = {value: i for i, value in enumerate(values)}
    lookup = np.array([rank.get(e, -1) for e in entries] + [-1], np.int64)
    return values, lookup[indices]


def chunked(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """The column as a chunked one."""
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def missing(column: pa.ChunkedArray | pa.Array) -> Bool[np.ndarray, " rows"]:
    """Which rows are null."""
    if not column.null_count:
        return np.zeros(len(column), bool)
    return np.asarray(chunked(column).is_null().to_numpy())


def coded(
    values: list[str], codes: Int[np.ndarray, " rows"], nulls: Bool[np.ndarray, " rows"] | None = None
) -> pa.DictionaryArray:
    """A text column from the position of each row's text in `values`.

    >>> coded(["C", "P"], np.array([1, 0]), np.array([False, True])).to_pylist()
    ['P', None]
    """
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=nulls), pa.array(values, pa.string()))


def holds(column: pa.ChunkedArray | pa.Array, value: str) -> Bool[np.ndarray, " rows"]:
    """Which rows of a :func:`text` column are `value`.

    >>> holds(coded(["C", "P"], np.array([1, 0])), "P").tolist()
    [True, False]
    """
    entries, codes = text_entries(chunked(column))
    return np.array([entry == value for entry in entries] + [False])[codes]


class Numbers(NamedTuple):
    """A column of numbers as read.

    values: NaN where there is none. nulls: no cell. bad: cells that hold other text (None: no such cell).
    first_bad: the first of them.
    """

    values: Float[np.ndarray, " rows"]
    nulls: Bool[np.ndarray, " rows"]
    bad: Bool[np.ndarray, " rows"] | None = None
    first_bad: str = ""


def numbers(column: pa.ChunkedArray, name: str, source: str) -> Numbers:
    """A numeric column as float64; text that is no number is marked.

    Raises:
        SchemaError: the column holds neither numbers nor text.

    >>> numbers(pa.chunked_array([["1.5", None, "n.a."]]), "bid", "quotes.csv").bad.tolist()
    [False, False, True]
    """
    dtype = column.type
    if is_textual(dtype):
        return _numeric_text(text(column, name, source).cast(pa.string()))
    if pa.types.is_dictionary(dtype):
        column = column.cast(dtype.value_type)
        dtype = column.type
    readable = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    if not (readable or pa.types.is_null(dtype)):
        raise SchemaError(f"{source}: column {name} holds {dtype}, expected numbers.", file=source)
    nulls = np.asarray(column.is_null().to_numpy()) if column.null_count else np.zeros(len(column), bool)
    values = column.to_numpy() if dtype == pa.float64() else column.cast(pa.float64(), safe=False).to_numpy()
    return Numbers(np.asarray(values, np.float64), nulls)


def number(
    column: pa.ChunkedArray, name: str, source: str
) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """A numeric column as float64 (NaN where null) and the mask of its nulls.

    Raises:
        SchemaError: the column holds neither numbers nor text that reads as numbers.

    >>> number(pa.chunked_array([["1.5", None]]), "bid", "quotes.csv")[0].tolist()
    [1.5, nan]
    """
    values, nulls, bad, first_bad = numbers(column, name, source)
    if bad is not None:
        raise refuse_cell(source, name, int(np.argmax(bad)), first_bad, "a number (an empty cell is a missing one)")
    return values, nulls


def refuse_cell(source: str, name: str, row: int, value: str, expected: str) -> SchemaError:
    """The error for a cell that does not hold what its column should."""
    return SchemaError(f"{source}: column {name} holds {value!r} in row {row}, expected {expected}.", file=source)


def is_textual(dtype: pa.DataType) -> bool:
    """Whether a column of this type holds text, plain or in a dictionary."""
    value = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)


def _numeric_text(column: pa.ChunkedArray) -> Numbers:
    trimmed = compute("utf8_trim_whitespace", column)
    trimmed = compute("if_else", compute("equal", trimmed, ""), _NO_TEXT, trimmed)
    nulls = np.asarray(trimmed.is_null().to_numpy())
    try:
        return Numbers(trimmed.cast(pa.float64()).to_numpy(), nulls)
    except pa.ArrowInvalid:
        sound = matches(trimmed, _DECIMAL)
    values = compute("if_else", sound, trimmed, _NO_TEXT).cast(pa.float64()).to_numpy()
    bad = ~np.asarray(sound.fill_null(True).to_numpy())
    return Numbers(values, nulls, bad, trimmed[int(np.argmax(bad))].as_py())


def stamp_us(column: pa.ChunkedArray) -> Int[np.ndarray, " rows"]:
    """A ``timestamp[us, UTC]`` column as microseconds since 1970 (``NO_STAMP`` where null)."""
    return column.cast(pa.int64()).fill_null(int(NO_STAMP)).to_numpy()
