"""Tables (CSV, Parquet, Arrow) with the columns of a side series or of another exchange's tickers."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from volgrad.data.columns import compute, text
from volgrad.data.formats.bars import bars_reader
from volgrad.data.formats.build import stamps_ms, told
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.fields import CCXT, SUMMARY
from volgrad.data.formats.names import contract_columns, parse_ccxt
from volgrad.data.formats.polls import Polls
from volgrad.data.formats.readers import Decode, TableReader
from volgrad.data.formats.records import Shape, shape_of
from volgrad.data.formats.trades import trades_reader
from volgrad.data.formats.venues import VENUES
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["tabular"]


def tabular(names: Sequence[str], name: str, underlying: str | None = None) -> TableReader | None:
    """What turns blocks of a table with the columns `names` into pieces; None where they are not known here.

    Args:
        names: column names.
        name: the source, for messages; of bars also where the underlying may be read from.
        underlying: the underlying of bars, where neither their rows nor their file's name say it.

    Raises:
        InputError: bars of which it cannot be told what they are of.

    >>> reader = tabular(["instId", "bidPx", "askPx", "ts"], "okx.csv")
    >>> rows = {"instId": ["BTC-USD-241227-60000-P"], "bidPx": ["0.05"], "askPx": [""], "ts": [1733000000000]}
    >>> reader.add(pa.table(rows)).table.num_rows, reader.finish()[0].table["ccy"].to_pylist()
    (0, ['BTC'])
    """
    if len(set(names)) < len(names):
        return None
    shape = shape_of(dict.fromkeys(names, ""))
    if shape in VENUES:
        venue = VENUES[shape]
        own_clock = venue.stamp is not None and venue.stamp in names
        polls = Polls(name, own_clock=own_clock)
        return TableReader(name, lambda table: venue.of_table(table, name), polls, named=False)
    if shape is Shape.CCXT or {"symbol", "bidPrice", "impliedVolatility"} <= set(names):
        return TableReader(name, lambda table: _ccxt(table, name), Polls(name, own_clock=False), named=False)
    if shape is Shape.SUMMARY and "creation_timestamp" in names:
        return TableReader(name, lambda table: _summary(table, name), Polls(name, own_clock=False))
    decode: Decode | None = trades_reader(names, name) or bars_reader(names, name, underlying)
    return None if decode is None else TableReader(name, decode)


def _summary(table: pa.Table, source: str) -> Piece:
    """Book summaries that were written to a table."""
    stamps, note = stamp_column(table["creation_timestamp"], "creation_timestamp", source)
    out = {"ts": stamps, "instrument": table["instrument_name"]} | _picked(table, SUMMARY)
    extra = _rest(table, {"instrument_name", "creation_timestamp", *SUMMARY.values()})
    return Piece(Dataset.QUOTES, SourceKind.BOOK_SUMMARY, pa.table(out), extra, notes=told(source, [note]))


def _ccxt(table: pa.Table, source: str) -> Piece:
    """Entries of ccxt that were written to a table; time and volatility are looked for in the text of `info`."""
    names = text(table["symbol"], "symbol", source).cast(pa.string()).to_pylist()
    contracts, readable = contract_columns(names, parse_ccxt)
    stamps, note = pa.chunked_array([stamps_ms([None] * table.num_rows)]), None
    if "timestamp" in table.column_names:
        stamps, note = stamp_column(table["timestamp"], "timestamp", source)
    out = {"ts": stamps, "instrument": pa.array(names, pa.string())} | contracts | _picked(table, CCXT)
    notes = [note, "volatilities are left out: ccxt does not say their unit"]
    if "info" in table.column_names and pa.types.is_string(table["info"].type):
        inside = _inside(table["info"], "creation_timestamp", r"\d{12,14}")
        out["ts"] = compute("coalesce", stamps, stamp_column(inside, "creation_timestamp", source)[0])
        out["mark_iv"] = _inside(table["info"], "mark_iv", r"\d+(?:\.\d+)?")
        notes = [note]
    extra = _rest(table, {"symbol", "timestamp", "info", *CCXT.values()})
    kept = pa.table(out).filter(pa.array(readable))
    return Piece(Dataset.QUOTES, SourceKind.CCXT, kept, extra, int((~readable).sum()), told(source, notes))


def _inside(column: pa.ChunkedArray, field: str, pattern: str) -> pa.ChunkedArray:
    """A field of an object that was written as text."""
    options = pc.ExtractRegexOptions(f"['\"]{field}['\"]: ?['\"]?(?P<value>{pattern})")
    return compute("struct_field", compute("extract_regex", column, options=options), options=_FIRST)


_FIRST = pc.StructFieldOptions([0])


def _picked(table: pa.Table, fields: dict[str, str]) -> dict[str, pa.ChunkedArray | pa.Array]:
    """Columns under canonical names, null where the table has none."""
    found = set(table.column_names)
    nothing = pa.nulls(table.num_rows)
    return {ours: table[theirs] if theirs in found else nothing for ours, theirs in fields.items()}


def _rest(table: pa.Table, used: set[str]) -> tuple[str, ...]:
    return tuple(name for name in table.column_names if name not in used)
