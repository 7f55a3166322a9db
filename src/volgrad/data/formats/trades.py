"""Trades: the exchange's own (`public/get_last_trades*`, its recorded columns, or the short names `q, p, s, t` of one
archive), and those of Tardis. `iv` is in percent, prices are in the unit of the option.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from volgrad.data.formats.build import others, told, trades_table
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.fields import TRADE, TRADE_SHORT
from volgrad.data.formats.readers import Decode
from volgrad.data.formats.records import fields_of, number, stamp_ms, words
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["trades_of", "trades_reader"]

_TRADE_CLOCKS = ("timestamp", "t", "ts")


def trades_of(records: Sequence[Any]) -> Piece:
    """Trades of the exchange's answers."""
    readers = {"instrument_name": words, "timestamp": stamp_ms, "direction": words, "trade_id": _identifier}
    readers |= dict.fromkeys(TRADE.values(), number)
    read, malformed = fields_of(records, readers)
    table = trades_table(read.__getitem__)
    return Piece(Dataset.TRADES, SourceKind.TICKER, table, others(records, set(readers)), malformed)


def _identifier(value: object) -> str | None:
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else words(value)


def trades_reader(names: Sequence[str], source: str) -> Decode | None:
    """Reader of a table of trades; None where the columns are not those of trades.

    >>> trades_reader(["instrument_name", "t", "p", "q", "trade_id"], "trades.csv") is None
    False
    """
    found = set(names)
    names_of = TRADE | {"direction": "direction", "trade_id": "trade_id"}
    columns = {
        ours: next((name for name in (theirs, TRADE_SHORT.get(ours)) if name in found), None)
        for ours, theirs in names_of.items()
    }
    clock = next((name for name in _TRADE_CLOCKS if name in found), None)
    contract = "instrument_name" if "instrument_name" in found else "symbol" if "exchange" in found else None
    if contract is None or clock is None or columns["price"] is None or columns["trade_id"] is None:
        return None
    used = {contract, clock, "exchange", *columns.values()}
    extra = tuple(name for name in names if name not in used)

    def read(table: pa.Table) -> Piece:
        stamps, note = stamp_column(table[clock], clock, source)
        out = {"ts": stamps, "instrument": table[contract]}
        if "exchange" in found:
            out["exchange"] = table["exchange"]  # names of another exchange's options are not understood
        for ours, theirs in columns.items():
            kind = pa.string() if ours in ("direction", "trade_id") else pa.float64()
            out[ours] = pa.nulls(table.num_rows, kind) if theirs is None else table[theirs]
        out["trade_id"] = out["trade_id"].cast(pa.string())
        return Piece(Dataset.TRADES, SourceKind.TICKER, pa.table(out), extra, notes=told(source, [note]))

    return read
