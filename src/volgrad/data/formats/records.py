"""Records of decoded JSON: what they are, the documents they come in, and their fields as columns.

A document is told by the fields of its records, never by the name of its file. Around the records may stand the
answer of an exchange (`result`, `data`, `list`) or an envelope of the user's with the time of the request.
"""

import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from volgrad.data.formats.frames import LATEST_MS

__all__ = ["Document", "Record", "Shape", "documents", "fields_of", "number", "shape_of", "stamp_ms", "words"]

Record = Mapping[str, Any]
Reader = Callable[[Any], Any]
_DEEPEST = 6  # levels around records; exchanges use three
_STAMPS = ("time", "timestamp", "ts")
_LONGEST_NAME = 200


class Shape(enum.Enum):
    """What a record is; the value names it in messages."""

    SUMMARY = "book summaries"
    TICKER = "tickers"
    TRADE = "trades"
    INSTRUMENT = "instruments"
    OKX = "OKX options"
    BYBIT = "Bybit options"
    BINANCE = "Binance options"
    CCXT = "ccxt option chain"
    FRAME = "frames of a session"


class Document(NamedTuple):
    """Records of one shape that came together.

    stamp_ms: when they were asked for, where the document says so.
    answer: whether they are one answer of an exchange (a bare list may be gathered from several).
    """

    shape: Shape
    records: list[Any]
    stamp_ms: int | None = None
    answer: bool = False


def shape_of(record: object) -> Shape | None:
    """What one record is; None where it is none that is known.

    >>> shape_of({"instId": "BTC-USD-241227-60000-P", "bidPx": ""}).value
    'OKX options'
    """
    if not isinstance(record, dict):
        return None
    if "instrument_name" in record:
        return _deribit_shape(record)
    if "instId" in record:
        return Shape.OKX if record.keys() & {"bidPx", "askPx", "markVol", "bidVol", "fwdPx", "markPx"} else None
    if isinstance(record.get("symbol"), str):
        return _symbol_shape(record)
    params = record.get("params")
    if isinstance(params, dict) and ("channel" in params or record.get("method") == "heartbeat"):
        return Shape.FRAME
    return None


def _deribit_shape(record: Record) -> Shape | None:
    if "best_bid_price" in record or "best_ask_price" in record:
        return Shape.TICKER
    if "trade_id" in record:
        return Shape.TRADE
    if "tick_size" in record or ("settlement_period" in record and "mark_price" not in record):
        return Shape.INSTRUMENT
    return Shape.SUMMARY if record.keys() & {"bid_price", "ask_price", "mark_price"} else None


def _symbol_shape(record: Record) -> Shape | None:
    if "info" in record or ":" in record["symbol"]:
        return Shape.CCXT
    if record.keys() & {"bid1Price", "ask1Price", "bid1Iv"}:
        return Shape.BYBIT
    return Shape.BINANCE if record.keys() & {"bidPrice", "askPrice", "markIV"} else None


def documents(value: object, stamp: int | None = None, depth: int = 0, *, answer: bool = False) -> Iterator[Document]:
    """The documents in a decoded JSON value, outermost first.

    >>> [d.shape.name for d in documents({"code": "0", "data": [{"instId": "BTC-USD", "bidPx": ""}]})]
    ['OKX']
    """
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        shape = next((s for s in map(shape_of, value[:20]) if s), None)
        if shape is not None:
            yield Document(shape, value, stamp, answer)
        elif value and isinstance(value[0], dict | list):
            for part in value:
                yield from documents(part, stamp, depth + 1, answer=answer)
    elif isinstance(value, dict):
        yield from _in_object(value, stamp, depth, answer)


def _in_object(value: dict[str, Any], stamp: int | None, depth: int, answer: bool) -> Iterator[Document]:
    shape = shape_of(value)
    if shape is not None:
        yield Document(shape, [value], stamp, False)
        return
    parts = [part for part in value.values() if isinstance(part, dict | list)]
    if parts and all(shape_of(part) is Shape.CCXT for part in parts):
        yield Document(Shape.CCXT, parts, stamp, answer=True)
        return
    stamp = _said_stamp(value) or stamp
    answer = answer or bool(value.keys() & _ANSWERS) or stamp is not None
    for part in parts:
        yield from documents(part, stamp, depth + 1, answer=answer)


_ANSWERS = {"jsonrpc", "retCode", "code"}


def _said_stamp(value: Record) -> int | None:
    """When an answer was given: `usOut` of the JSON-RPC (microseconds), or a time in milliseconds."""
    micros = value.get("usOut")
    if isinstance(micros, int) and 0 < micros < LATEST_MS * 1000:
        return micros // 1000
    for name in _STAMPS:
        try:
            if said := stamp_ms(value.get(name)):
                return said
        except ValueError:
            continue
    return None


def fields_of(records: Sequence[Any], readers: Mapping[str, Reader]) -> tuple[dict[str, list[Any]], int]:
    """Fields as columns, and how many records could not be read (left out).

    Args:
        records: decoded objects; anything else is malformed.
        readers: field -> what reads its value (None where the record has no such field).

    >>> fields_of([{"a": "1.5"}, {"a": "x"}, 7], {"a": number})
    ({'a': [1.5]}, 2)
    """
    rows, malformed = [], 0
    for record in records:
        try:
            rows.append([read(record.get(name)) for name, read in readers.items()])
        except (ValueError, AttributeError):
            malformed += 1
    columns = zip(*rows, strict=True) if rows else ((),) * len(readers)
    return {name: list(column) for name, column in zip(readers, columns, strict=True)}, malformed


def number(value: object) -> float | None:
    """A number, or text that reads as one; "" and None are a missing one.

    Raises:
        ValueError: anything else.

    >>> number("0.05"), number("")
    (0.05, None)
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        raise ValueError(f"{type(value).__name__} is no number")
    try:
        read = float(value)
    except OverflowError as error:
        raise ValueError("too large a number") from error
    return None if math.isnan(read) else read


def words(value: object) -> str | None:
    """Text of a sensible length, or None.

    Raises:
        ValueError: anything else.
    """
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST_NAME):
        return value or None
    raise ValueError(f"{type(value).__name__} is no text")


def stamp_ms(value: object) -> int | None:
    """Milliseconds since 1970 UTC, as a number or as text.

    Raises:
        ValueError: no time after 1973 and before the year 5138: seconds taken for milliseconds are refused.

    >>> stamp_ms("1672376592395")
    1672376592395
    """
    read = number(value)
    if read is None or read == 0:
        return None
    if not 1e11 < read < LATEST_MS:
        raise ValueError(f"{value!r} is no time in milliseconds")
    return int(read)
