"""A WebSocket session of the exchange, frame by frame: tickers, order books, marks, trades and indices.

Channels read (documentation; ticker, book and the requests also seen in a recording; none checked live): `ticker`,
`incremental_ticker`, `quote`, `book`, `markprice.options`, `trades`, `deribit_price_index`,
`deribit_volatility_index`. Of the others only the number is told.

A row of quotes is written for every ticker, and for a book when its best prices or amounts change. A row from a book
carries what the option's latest ticker or mark says of the rest; a volatility of the ticker only where its price is
still the best one. A mark alone writes a row only for an option of which no quote is known, so that it never hides
one. A book that is lost (a change is missing, or the connection was opened anew) writes a row without a price, so
that its last quote does not stand on. `iv` in `markprice.options` is a fraction (documentation) and is written in
percent, as in the tickers.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec

from volgrad.data.formats.answers import fault_of
from volgrad.data.formats.book import Book, BookGapError, Top
from volgrad.data.formats.build import Tick, quotes_table, ticks_table, trades_table
from volgrad.data.formats.frames import Data, Frame, Params, Quote, Unknown, is_true
from volgrad.data.formats.known import Known, Mark
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["Account", "SessionDecoder"]

_MOST_NAMES = 40  # of unknown channels counted apart: a damaged file may invent any number
_FRAME = msgspec.json.Decoder(Frame)
_CHANNEL = msgspec.json.Decoder(Unknown)
_Handler = Callable[[Params], str]
_INCREMENTAL = "incremental_ticker"


class _SkippedError(Exception):
    """The frame is sound and not used; the text says why."""


@dataclass
class Account:
    """What became of every frame: `frames == sum(used) + sum(skipped) + malformed`, always.

    `gaps` counts, by instrument, the books that were lost until their next snapshot; `testnet` the frames that say that
    they are of the exchange's test network; `fault` is the first error that the exchange answered.
    """

    frames: int = 0
    used: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    testnet: int = 0
    fault: str = ""


class SessionDecoder:
    """Frames in, rows out; the same for a recorded file and a live feed.

    >>> session = SessionDecoder("feed")
    >>> session.frame(b'{"method": "subscription", "params": {"channel": "deribit_price_index.btc_usd", '
    ...               b'"data": {"index_name": "btc_usd", "price": 62000.5, "timestamp": 1699999999000}}}')
    >>> session.frame(b'{"method": "subscr')
    >>> [(piece.dataset.value, piece.table.num_rows, piece.malformed) for piece in session.drain()]
    [('bars', 1, 1)]
    """

    def __init__(self, name: str) -> None:
        """Begin before the first frame of the source `name`."""
        self.name = name
        self.account = Account()
        self._known = Known()
        self._quotes: list[Quote] = []
        self._trades: list[Data] = []
        self._prices: list[Tick] = []
        self._volatilities: list[Tick] = []
        self._malformed_told = 0
        self._latest_ms = 0
        self._handlers: dict[str, _Handler] = {
            "ticker": self._ticker,
            "quote": self._top_of_book,
            "book": self._book,
            "markprice": self._marks,
            "trades": self._trade,
            "deribit_price_index": self._price_index,
            "deribit_volatility_index": self._volatility_index,
        }

    @property
    def rows(self) -> int:
        """Rows that `drain` would give."""
        return len(self._quotes) + len(self._trades) + len(self._prices) + len(self._volatilities)

    def connected(self, *, testnet: bool = False) -> None:
        """A connection was opened: books and incremental tickers begin anew; counted as a frame that is not used.

        What was known by changes alone ends just after the last thing that was said.
        """
        self.account.frames += 1
        self.account.skipped["connections"] += 1
        self.account.testnet += testnet
        self._quotes += self._known.forget_connection(self._latest_ms)

    def frame(self, raw: bytes) -> None:
        """Take one message; whatever is wrong with it is counted in `account`, never raised."""
        account = self.account
        account.frames += 1
        try:
            message = _FRAME.decode(raw)
            params = message.params
            if params is None or not params.channel:
                account.skipped[_name_of(message)] += 1
                account.testnet += is_true(message.testnet)
                if len(message.error) and not account.fault:
                    account.fault = fault_of({"error": msgspec.json.decode(message.error)}) or ""
                return
            family = params.channel.partition(".")[0]
            handler = self._handlers.get(family)
            if handler is not None:
                account.used[handler(params)] += 1
            elif family == _INCREMENTAL:
                account.used[self._incremental(params, raw)] += 1
            else:
                self._unknown(params.channel)
        except _SkippedError as why:
            account.skipped[str(why)] += 1
        except (ValueError, RecursionError):  # every error of msgspec is a ValueError
            self._unreadable(raw)

    def drain(self) -> list[Piece]:
        """The rows since the last call, a piece for each kind of series; frames that could not be read are told in
        the first.
        """
        tables = []
        if self._quotes:
            tables.append((Dataset.QUOTES, quotes_table(self._quotes)))
        if self._trades:
            tables.append((Dataset.TRADES, trades_table(self._of_trades)))
        if self._prices:
            tables.append((Dataset.BARS, ticks_table(self._prices, symbol=True)))
        if self._volatilities:
            tables.append((Dataset.VOLATILITY_INDEX, ticks_table(self._volatilities, symbol=False)))
        malformed = self.account.malformed - self._malformed_told
        if malformed and not tables:
            tables.append((Dataset.QUOTES, quotes_table([])))
        self._quotes, self._trades, self._prices, self._volatilities = [], [], [], []
        self._malformed_told = self.account.malformed
        return [
            Piece(dataset, SourceKind.SESSION, table, malformed=0 if place else malformed)
            for place, (dataset, table) in enumerate(tables)
        ]

    def _of_trades(self, name: str) -> list[Any]:
        return list(map(attrgetter(name), self._trades))

    def notes(self) -> tuple[str, ...]:
        """Sentences on gaps and on frames that were not used, with their numbers up to now."""
        account, notes = self.account, []
        if account.gaps:
            worst = ", ".join(name for name, _ in account.gaps.most_common(3))
            notes.append(
                f"{self.name}: {account.gaps.total()} gaps in the order books of {len(account.gaps)} instruments "
                f"({worst}); each was left out until its next snapshot"
            )
        if account.skipped:
            parts = ", ".join(f"{count} {what}" for what, count in account.skipped.most_common())
            parts += f" (the first: {account.fault})" if account.fault else ""
            notes.append(f"{self.name}: of {account.frames} frames not used: {parts}")
        if account.testnet:
            notes.append(f"{self.name}: {account.testnet} frames are of the test network: their prices are no market's")
        return tuple(notes)

    def _unknown(self, channel: str) -> None:
        what = f"of channel {channel.partition('.')[0][:40]}"
        if what not in self.account.skipped and len(self.account.skipped) >= _MOST_NAMES:
            what = "of other channels"
        self.account.skipped[what] += 1

    def _unreadable(self, raw: bytes) -> None:
        """A frame that does not decode is malformed, unless its channel is one whose data is not known."""
        try:
            params = _CHANNEL.decode(raw).params
        except (ValueError, RecursionError):
            params = None
        if params is None or not params.channel or self._is_read(params.channel):
            self.account.malformed += 1
        else:
            self._unknown(params.channel)

    def _is_read(self, channel: str) -> bool:
        family = channel.partition(".")[0]
        return family in self._handlers or family == _INCREMENTAL

    def _ticker(self, params: Params) -> str:
        data = params.data
        if type(data) is not Data or data.timestamp is None:
            raise ValueError("a ticker without a time")
        name = data.instrument_name
        if name is None:
            name = data.instrument_name = _instrument(params.channel)
        self._known.tickers[name] = data
        self._write(data)
        return "ticker"

    def _incremental(self, params: Params, raw: bytes) -> str:
        name, _ = _named(params)
        fields = msgspec.json.decode(raw)["params"]["data"]
        snapshot = fields.get("type") == "snapshot"
        quote = self._known.merged(name, {"instrument_name": name} | fields, snapshot=snapshot)
        if quote is None:
            raise _SkippedError("incremental_ticker before their snapshot")
        self._known.tickers[name] = quote
        self._write(quote)
        return "incremental_ticker snapshot" if snapshot else "incremental_ticker change"

    def _top_of_book(self, params: Params) -> str:
        name, data = _named(params)
        sides = (data.best_bid_price, data.best_bid_amount, data.best_ask_price, data.best_ask_amount)
        bid, bid_size, ask, ask_size = (side or 0.0 for side in sides)
        self._write_top(name, data, (bid, bid_size, ask, ask_size))
        return "quote"

    def _book(self, params: Params) -> str:
        name, data = _named(params)
        books = self._known.books
        if data.type != "change":
            books.pop(name, None)
            books[name] = Book(data)
            self._write_top(name, data, books[name].top, always=data.type == "snapshot")
            return "book snapshot"
        if name not in books:
            raise _SkippedError("book changes without a snapshot before them")
        try:
            books[name].change(data)
        except (BookGapError, ValueError) as wrong:
            self.account.gaps[name] += 1
            assert data.timestamp is not None
            self._write(self._known.lose(name, data.timestamp))
            if isinstance(wrong, BookGapError):
                raise _SkippedError("book changes that came after a gap") from None
            raise
        self._write_top(name, data, books[name].top, always=False)
        return "book change"

    def _write_top(self, name: str, data: Data, top: Top, *, always: bool = True) -> None:
        tops = self._known.tops
        if not always and tops.get(name) == top:
            return
        tops[name] = top
        assert data.timestamp is not None
        self._write(self._known.row(name, self._known.found_at(name, data.timestamp), top))

    def _write(self, row: Quote) -> None:
        assert row.timestamp is not None
        assert row.instrument_name is not None
        self._latest_ms = self._known.said[row.instrument_name] = row.timestamp
        self._quotes.append(row)

    def _marks(self, params: Params) -> str:
        entries = params.data if isinstance(params.data, list) else [params.data]
        known, found = self._known, []
        for entry in entries:
            if entry is None or entry.timestamp is None or entry.instrument_name is None:
                raise ValueError("a mark without a name or a time")
            percent = None if entry.iv is None else 100.0 * entry.iv
            found.append((entry.instrument_name, Mark(entry.timestamp, entry.mark_price, percent)))
        for name, mark in found:
            known.marks[name] = mark
            if name not in known.tickers and name not in known.tops:
                self._write(known.row(name, mark.stamp_ms, (0.0, 0.0, 0.0, 0.0)))
        return "markprice"

    def _trade(self, params: Params) -> str:
        data = params.data
        if not isinstance(data, list) or any(t.timestamp is None or t.instrument_name is None for t in data):
            raise ValueError("a trade without a name or a time")
        self._trades += data
        return "trades"

    def _price_index(self, params: Params) -> str:
        self._prices.append(_tick(params, "price"))
        return "deribit_price_index"

    def _volatility_index(self, params: Params) -> str:
        self._volatilities.append(_tick(params, "volatility"))
        return "deribit_volatility_index"


def _name_of(message: Frame) -> str:
    """What a frame is that is no notification of a channel."""
    if len(message.error):
        return "error answers"
    if len(message.result):
        return "answers"
    if message.method is None:
        return "frames of no known kind"
    return "heartbeats" if message.method == "heartbeat" else "requests"


def _instrument(channel: str) -> str:
    parts = channel.split(".")
    if len(parts) < 2 or not parts[1]:
        raise ValueError(f"channel {channel!r} names no instrument")
    return parts[1]


def _named(params: Params) -> tuple[str, Data]:
    data = params.data
    if not isinstance(data, Data) or data.timestamp is None:
        raise ValueError("data without a time")
    return data.instrument_name or _instrument(params.channel), data


def _tick(params: Params, what: str) -> Tick:
    data = params.data
    value = getattr(data, what, None)
    if not isinstance(data, Data) or data.timestamp is None or value is None:
        raise ValueError("a value of an index without a time")
    return Tick(data.timestamp, data.index_name or _instrument(params.channel), value)
