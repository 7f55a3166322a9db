"""Bars of the underlying and of volatility indices, which have the same columns: told by what else is there.

A file named `dvol` or `volatility` is an index: in percent, or in fractions where its columns have our own names
(`ts`, `ccy`). A table with a volume or a symbol, or a file named after a pair, is of prices. Anything else could be
both and is refused. Bars of an option are neither, and are refused or, where rows name what they are of, left out and
counted.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from volgrad.data import columns
from volgrad.data.formats.build import numbers, stamps_ms, texts, told
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.readers import Decode
from volgrad.data.formats.records import fields_of, number, stamp_ms
from volgrad.data.formats.underlying import (
    check_symbols,
    named_option,
    named_pair,
    symbol_underlying,
    underlying_of,
)
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import ForeignError, InputError

__all__ = ["bars_of", "bars_reader"]

_CLOCKS = ("timestamp", "date", "datetime", "time", "open_time", "ts", "t", "unix")
_SYMBOLS = ("symbol", "instrument_name", "instrument")
_BAR = ("open", "high", "low", "close")
_INDEX_WORDS = ("dvol", "volatility")


def bars_of(value: object, source: str, underlying: str | None) -> Piece | None:
    """Bars in the exchange's answers: `public/get_volatility_index_data` (`[ms, open, high, low, close]`, percent) and
    `public/get_tradingview_chart_data` (a list for each column); None where `value` is neither. Documentation only.

    Raises:
        ForeignError: they are of an option, by the file's name or by an `instrument_name` beside them.
        InputError: the underlying, which the answers do not name, cannot be told.

    >>> answer = {"result": {"data": [[1598019300000, 89.7, 89.9, 89.5, 89.6]], "continuation": None}}
    >>> bars_of(answer, "answer.json", "BTC").table["close"].to_pylist()
    [89.6]
    """
    result = value.get("result", value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(result, dict):
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
    coin, note, pair = _of_answer(value, source, underlying)
    read, malformed = fields_of(rows, {"ticks": stamp_ms} | dict.fromkeys((*_BAR, "volume"), number))
    table = {"ts": stamps_ms(read["ticks"]), "ccy": texts([coin] * len(read["ticks"]))}
    table |= {name: numbers(read[name]) for name in _BAR}
    if dataset is Dataset.BARS:
        table |= {"volume": numbers(read["volume"]), "symbol": texts([pair] * len(read["ticks"]))}
    return Piece(dataset, kind, pa.table(table), malformed=malformed, notes=told(source, [note]))


def _of_answer(value: dict[str, Any], source: str, underlying: str | None) -> tuple[str, str | None, str | None]:
    """Underlying, note and symbol of an answer: by the name beside it, where the user kept it, else by the file's."""
    params = value.get("params")
    beside = value.get("instrument_name", params.get("instrument_name") if isinstance(params, dict) else None)
    beside = beside if isinstance(beside, str) else None
    _refuse_option(named_option(beside or source), source)
    coin = beside and symbol_underlying(beside)
    if beside and coin:
        check_symbols(source, underlying, {beside: coin})
        return coin, None, beside
    return *underlying_of(source, underlying), named_pair(source)


def _refuse_option(option: str | None, source: str) -> None:
    if option is not None:
        raise ForeignError(
            f"{source}: bars of the option {option}, which are neither of its underlying nor quotes; leave them out.",
            file=source,
        )


class _Columns(NamedTuple):
    """Where a table of bars keeps what: names there."""

    clock: str
    symbol: str | None
    ccy: str | None
    numbers: dict[str, str]
    is_index: bool


def bars_reader(names: Sequence[str], source: str, underlying: str | None) -> Decode | None:
    """Reader of a table of bars, of the underlying or of a volatility index; None where it has no such columns.

    The underlying of a row is that of its symbol, else that of the file's name, else `underlying`.

    Raises (then and while it is read):
        InputError: what it is, or of which underlying, cannot be told; or two of the three contradict each other.

    >>> reader = bars_reader(["date", "open", "high", "low", "close"], "btc_dvol_daily.csv", None)
    >>> rows = {"date": ["2021-11-09"], "open": [86.69], "high": [87.72], "low": [84.33], "close": [84.68]}
    >>> reader(pa.table(rows)).dataset.value
    'volatility_index'
    """
    found = _columns(names, source)
    if found is None:
        return None
    _refuse_option(named_option(source), source)
    if found.ccy is None and found.symbol is None:
        _ = underlying_of(source, underlying)  # refused before a row is read
    used = {found.clock, found.symbol, found.ccy, *found.numbers.values()}
    extra = tuple(name for name in names if name not in used)

    def read(table: pa.Table) -> Piece:
        stamps, assumed = stamp_column(table[found.clock], found.clock, source)
        out: dict[str, Any] = {"ts": stamps} | {ours: table[name] for ours, name in found.numbers.items()}
        notes, options = [assumed], None
        if found.ccy is not None:
            out["ccy"] = table[found.ccy]
        else:
            out["ccy"], options, said = _underlyings(table, found, source, underlying)
            notes += said
        if not found.is_index:
            pair = pa.repeat(pa.scalar(named_pair(source), pa.string()), table.num_rows).dictionary_encode()
            out["symbol"] = pair if found.symbol is None else table[found.symbol]
        dataset, kind = (Dataset.BARS, SourceKind.CANONICAL)
        if found.is_index:
            own = found.clock == "ts" and found.ccy is not None
            dataset, kind = Dataset.VOLATILITY_INDEX, SourceKind.CANONICAL if own else SourceKind.TICKER
        kept = pa.table(out) if options is None else pa.table(out).filter(pa.array(~options))
        return Piece(dataset, kind, kept, extra, table.num_rows - kept.num_rows, told(source, notes))

    return read


def _columns(names: Sequence[str], source: str) -> _Columns | None:
    theirs = {name.lower().strip(): name for name in reversed(names)}
    clock = next((theirs[name] for name in _CLOCKS if name in theirs), None)
    if clock is None or not set(_BAR) <= theirs.keys():
        return None
    lowered = source.lower().replace("\\", "/").rpartition("/")[2]
    is_index = any(word in lowered for word in _INDEX_WORDS)
    if not is_index and named_pair(source) is None and not theirs.keys() & {"volume", *_SYMBOLS}:
        raise InputError(
            f"{source}: bars of a price or of a volatility index: nothing says which; name the file after the pair "
            "(btcusdt) or the index (dvol), or give a column volume.",
            file=source,
        )
    numbers_of = {name: theirs[name] for name in _BAR}
    if not is_index and "volume" in theirs:
        numbers_of["volume"] = theirs["volume"]
    symbol = next((theirs[name] for name in _SYMBOLS if name in theirs), None)
    return _Columns(clock, symbol, theirs.get("ccy"), numbers_of, is_index)


def _underlyings(
    table: pa.Table, found: _Columns, source: str, underlying: str | None
) -> tuple[pa.Array, np.ndarray | None, list[str | None]]:
    """Underlying of each row, the rows that are of options (None: no such rows), and notes."""
    if found.symbol is None:
        coin, note = underlying_of(source, underlying)
        return pa.repeat(pa.scalar(coin), table.num_rows).dictionary_encode(), None, [note]
    symbols, codes = columns.text_codes(columns.text(table[found.symbol], found.symbol, source))
    options = [symbol for symbol in symbols if named_option(symbol)]
    said = {s: coin for s in symbols if s not in options and (coin := symbol_underlying(s))}
    check_symbols(source, underlying, said)
    notes: list[str | None] = []
    if options:
        notes.append(f"bars of {len(options)} options, such as {options[0]}, are no bars of an underlying: left out")
    silent = any(symbol not in said and symbol not in options for symbol in symbols) or bool((codes < 0).any())
    other = ""
    if silent:
        other, note = underlying_of(source, underlying)
        notes.append(note)
    entries = pa.array([said.get(symbol, other) for symbol in symbols] + [other], pa.string())
    places = np.where(codes < 0, len(symbols), codes)
    is_option = np.array([symbol in options for symbol in symbols] + [False])[places]
    return entries.take(pa.array(places)).dictionary_encode(), is_option if options else None, notes
