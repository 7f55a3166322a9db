"""Tickers and order books as JSON lines: what `public/ticker`, `public/get_order_book` or a ticker channel's `data`
give, bare or as the answer of the JSON-RPC. A missing side is price 0 and amount 0; volatilities are in percent.
"""

from collections import Counter
from typing import Any

import msgspec

from volgrad.data.formats.build import quotes_table
from volgrad.data.formats.frames import Quote, Wrapped, is_true
from volgrad.data.formats.records import Shape, shape_of
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["TickerLines"]

_QUOTE = msgspec.json.Decoder(Quote)
_WRAPPED = msgspec.json.Decoder(Wrapped)
_ANY = msgspec.json.Decoder(dict[str, Any])
_ARRIVED = "answers without a ticker"


class TickerLines:
    """Lines in, rows out; `lines == rows written + sum(skipped) + malformed`, always.

    >>> tickers = TickerLines("t.jsonl")
    >>> tickers.add(b'{"result": {"instrument_name": "BTC-27SEP24-40000-C", "timestamp": 1699593511632}}')
    >>> tickers.add(b'{"instrument_name": "BTC-27SEP24-40000-C"}')
    >>> [(piece.table.num_rows, piece.malformed) for piece in tickers.drain()]
    [(1, 1)]
    """

    def __init__(self, name: str) -> None:
        """Begin before the first line of the source `name`."""
        self.name = name
        self.lines = 0
        self.malformed = 0
        self.testnet = 0
        self.skipped: Counter[str] = Counter()
        self._rows: list[Quote] = []
        self._told = 0

    @property
    def rows(self) -> int:
        """Rows that `drain` would give."""
        return len(self._rows)

    def add(self, line: bytes) -> None:
        """Take one line; whatever is wrong with it is counted, never raised."""
        self.lines += 1
        try:
            quote = _QUOTE.decode(line)
            if quote.instrument_name is None:
                answer = _WRAPPED.decode(line)
                quote = answer.result
                self.testnet += is_true(answer.testnet)
            if quote is not None and _is_bare(quote) and not _is_ticker(line):
                raise ValueError("a record of something else")
        except (ValueError, RecursionError):  # every error of msgspec is a ValueError
            self.malformed += 1
            return
        if quote is None:
            self.skipped[_ARRIVED] += 1
        elif quote.instrument_name is None or quote.timestamp is None:
            self.malformed += 1
        else:
            self._rows.append(quote)

    def drain(self) -> list[Piece]:
        """The rows since the last call."""
        malformed, self._told = self.malformed - self._told, self.malformed
        rows, self._rows = self._rows, []
        if not rows and not malformed:
            return []
        return [Piece(Dataset.QUOTES, SourceKind.TICKER, quotes_table(rows), malformed=malformed)]

    def notes(self) -> tuple[str, ...]:
        """Sentences on lines that were not used."""
        notes = []
        if self.skipped:
            parts = ", ".join(f"{count} {what}" for what, count in self.skipped.most_common())
            notes.append(f"{self.name}: of {self.lines} lines not used: {parts}")
        if self.testnet:
            notes.append(f"{self.name}: {self.testnet} answers are of the test network: their prices are no market's")
        return tuple(notes)


def _is_bare(quote: Quote) -> bool:
    """Whether nothing of a quote is there: a ticker of which no side is quoted, or no ticker at all."""
    return (
        quote.best_bid_price is quote.best_ask_price is None and quote.best_bid_amount is quote.best_ask_amount is None
    )


def _is_ticker(line: bytes) -> bool:
    value = _ANY.decode(line)
    record = value.get("result") if isinstance(value.get("result"), dict) else value
    return shape_of(record) in (Shape.TICKER, None)
