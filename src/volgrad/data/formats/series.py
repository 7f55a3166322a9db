"""Trades, bars and volatility indices: what stands beside quotes.

Trades are the exchange's own (`public/get_last_trades*`, its recorded columns, or the short names `q, p, s, t` of one
archive): `iv` in percent, prices in the unit of the option. Bars of the underlying and of a volatility index have the
same columns, and so are told by what else is there; see `bars_reader`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from volgrad.data.formats.build import numbers, others, stamps_ms, texts, told
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.records import fields_of, number, stamp_ms, words
from volgrad.data.formats.underlying import named_pair, underlying_of
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import InputError

__all__ = ["bars_of", "bars_reader", "trades_of", "trades_reader"]

Reader = Callable[[pa.Table], Piece]

# canonical -> names in sources, the first that is there
_TRADE_NAMES = {
    "price": ("price", "p"), "amount": ("amount", "q"), "direction": ("direction", "side"), "iv": ("iv",),
    "index_usd": ("index_price",), "mark": ("mark_price",), "trade_id": ("trade_id", "id"),
}  # fmt: skip
_TRADE_CLOCKS = ("timestamp", "t", "ts")
_BAR_CLOCKS = ("timestamp", "date", "datetime", "time", "open_time", "ts", "t", "unix")
_BAR = ("open", "high", "low", "close")
_INDEX_WORDS = ("dvol", "volatility")


def trades_of(records: Sequence[Any]) -> Piece:
    """Trades of the exchange's answers."""
    readers = {
        "instrument_name": words, "timestamp": stamp_ms, "price": number, "amount": number, "direction": words,
        "iv": number, "index_price": number, "mark_price": number, "trade_id": _identifier,
    }  # fmt: skip
    read, malformed = fields_of(records, readers)
    table = pa.table(
        {
            "ts": stamps_ms(read["timestamp"]),
            "instrument": texts(read["instrument_name"]),
            "price": numbers(read["price"]),
            "amount": numbers(read["amount"]),
            "direction": texts(read["direction"]),
            "iv": numbers(read["iv"]),
            "index_usd": numbers(read["index_price"]),
            "mark": numbers(read["mark_price"]),
            "trade_id": pa.array(read["trade_id"], pa.string()),
        }
    )
    return Piece(Dataset.TRADES, SourceKind.TICKER, table, others(records, set(readers)), malformed)


def _identifier(value: object) -> str | None:
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else words(value)


def trades_reader(names: Sequence[str], source: str) -> Reader | None:
    """Reader of a table of trades; None where the columns are not those of trades.

    >>> trades_reader(["instrument_name", "t", "p", "q", "trade_id"], "trades.csv") is None
    False
    """
    found = set(names)
    columns = {ours: next((n for n in theirs if n in found), None) for ours, theirs in _TRADE_NAMES.items()}
    clock = next((name for name in _TRADE_CLOCKS if name in found), None)
    contract = "instrument_name" if "instrument_name" in found else "symbol" if "exchange" in found else None
    if contract is None or clock is None or columns["price"] is None or columns["trade_id"] is None:
        return None
    used = {contract, clock, *columns.values()}
    extra = tuple(name for name in names if name not in used)

    def read(table: pa.Table) -> Piece:
        stamps, note = stamp_column(table[clock], clock, source)
        out = {"ts": stamps, "instrument": table[contract]}
        for ours, theirs in columns.items():
            kind = pa.string() if ours in ("direction", "trade_id") else pa.float64()
            out[ours] = pa.nulls(table.num_rows, kind) if theirs is None else table[theirs]
        out["trade_id"] = out["trade_id"].cast(pa.string())
        return Piece(Dataset.TRADES, SourceKind.TICKER, pa.table(out), extra, notes=told(source, [note]))

    return read


def bars_of(value: object, source: str, underlying: str | None) -> Piece | None:
    """Bars in the exchange's answers: `public/get_volatility_index_data` (`[ms, open, high, low, close]`, percent) and
    `public/get_tradingview_chart_data` (a list for each column); None where `value` is neither. Documentation only.

    Raises:
        InputError: the underlying, which the answers do not name, cannot be told.

    >>> answer = {"result": {"data": [[1598019300000, 89.7, 89.9, 89.5, 89.6]], "continuation": None}}
    >>> bars_of(answer, "answer.json", "BTC").table["close"].to_pylist()
    [89.6]
    """
    result = value.get("result", value) if isinstance(value, dict) else None
    if not isinstance(result, dict):
        return None
    dataset, kind, rows = Dataset.BARS, SourceKind.CANONICAL, []
    data = result.get("data")
    if "continuation" in result and isinstance(data, list):
        dataset, kind = Dataset.VOLATILITY_INDEX, SourceKind.TICKER
        rows = [dict(zip(("ticks", *_BAR), row, strict=False)) if isinstance(row, list) else None for row in data]
    elif isinstance(result.get("ticks"), list) and all(isinstance(result.get(name), list) for name in _BAR):
        names = [name for name in ("ticks", *_BAR, "volume") if isinstance(result.get(name), list)]
        parts = itertools.zip_longest(*(result[name] for name in names))
        rows = [dict(zip(names, row, strict=True)) for row in parts]
    else:
        return None
    coin, note = underlying_of(source, underlying)
    read, malformed = fields_of(rows, {"ticks": stamp_ms} | dict.fromkeys((*_BAR, "volume"), number))
    table = {"ts": stamps_ms(read["ticks"]), "ccy": texts([coin] * len(read["ticks"]))}
    table |= {name: numbers(read[name]) for name in _BAR}
    if dataset is Dataset.BARS:
        table |= {"volume": numbers(read["volume"]), "symbol": texts([named_pair(source)] * len(read["ticks"]))}
    return Piece(dataset, kind, pa.table(table), malformed=malformed, notes=told(source, [note]))


def bars_reader(names: Sequence[str], source: str, underlying: str | None) -> Reader | None:
    """Reader of a table of bars, of the underlying or of a volatility index; None where it has no such columns.

    A file named `dvol` or `volatility` is an index: in percent, or in fractions where its columns have our own names
    (`ts`, `ccy`). A table with a volume or a symbol, or a file named after a pair, is of prices. Anything else could be
    both and is refused.

    Raises:
        InputError: what it is, or of which underlying, cannot be told.

    >>> reader = bars_reader(["date", "open", "high", "low", "close"], "btc_dvol_daily.csv", None)
    >>> rows = {"date": ["2021-11-09"], "open": [86.69], "high": [87.72], "low": [84.33], "close": [84.68]}
    >>> reader(pa.table(rows)).dataset.value
    'volatility_index'
    """
    theirs = {name.lower().strip(): name for name in reversed(names)}
    clock = next((theirs[name] for name in _BAR_CLOCKS if name in theirs), None)
    if clock is None or not set(_BAR) <= theirs.keys():
        return None
    lowered = source.lower().replace("\\", "/").rpartition("/")[2]
    is_index = any(word in lowered for word in _INDEX_WORDS)
    pair = named_pair(source)
    if not is_index and pair is None and not theirs.keys() & {"volume", "symbol"}:
        raise InputError(
            f"{source}: bars of a price or of a volatility index: nothing says which; name the file after the pair "
            "(btcusdt) or the index (dvol), or give a column volume.",
            file=source,
        )
    coin, note = (None, None) if "ccy" in theirs else underlying_of(source, underlying)
    columns = {name: theirs[name] for name in _BAR}
    if not is_index and "volume" in theirs:
        columns["volume"] = theirs["volume"]
    if not is_index and "symbol" in theirs:
        columns["symbol"] = theirs["symbol"]
    if coin is None:
        columns["ccy"] = theirs["ccy"]
    extra = tuple(name for name in names if name != clock and name not in columns.values())

    def read(table: pa.Table) -> Piece:
        stamps, assumed = stamp_column(table[clock], clock, source)
        out: dict[str, Any] = {"ts": stamps} | {ours: table[name] for ours, name in columns.items()}
        if coin is not None:
            out["ccy"] = pa.repeat(pa.scalar(coin), table.num_rows).dictionary_encode()
        if not is_index and "symbol" not in columns:
            out["symbol"] = pa.repeat(pa.scalar(pair, pa.string()), table.num_rows).dictionary_encode()
        dataset, kind = (Dataset.BARS, SourceKind.CANONICAL)
        if is_index:
            own = clock == "ts" and coin is None
            dataset, kind = Dataset.VOLATILITY_INDEX, SourceKind.CANONICAL if own else SourceKind.TICKER
        return Piece(dataset, kind, pa.table(out), extra, notes=told(source, [note, assumed]))

    return read
