"""What a session has said of each instrument so far."""

from typing import Any, NamedTuple

import msgspec

from volgrad.data.formats.book import Book, Top
from volgrad.data.formats.frames import Quote

__all__ = ["CARRIED_MS", "Known", "Mark"]

# How old a ticker or mark may be to stand beside a newer price. Assumption: the exchange repeats a ticker whenever the
# forward moves; five minutes is the usual step between chains.
CARRIED_MS = 300_000
_EMPTY: Top = (0.0, 0.0, 0.0, 0.0)


class Mark(NamedTuple):
    """The exchange's own price: milliseconds since 1970 UTC, coin or dollars, percent."""

    stamp_ms: int
    price: float | None
    iv_percent: float | None


class Known:
    """The latest ticker, mark, best prices and book of each instrument, and the time of its latest row (`said`)."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.tickers: dict[str, Quote] = {}
        self.marks: dict[str, Mark] = {}
        self.books: dict[str, Book] = {}
        self.tops: dict[str, Top] = {}
        self.said: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._partial: dict[str, dict[str, Any]] = {}

    def forget_connection(self, stamp_ms: int) -> list[Quote]:
        """A new connection sends its own snapshots; changes across it cannot be joined.

        Gives rows that say so, just after `stamp_ms`, of all that was known by changes alone.
        """
        lost = [self.lose(name, stamp_ms + 1) for name in dict.fromkeys([*self.books, *self._partial])]
        self._partial.clear()
        return lost

    def lose(self, name: str, stamp_ms: int) -> Quote:
        """A book is not known from now on until its next snapshot: a row without a price, so that no older one stands.

        It stands after all that was said of the instrument before, whatever the clocks of two channels make of it.
        """
        stamp_ms = max(stamp_ms, self.said.get(name, 0) + 1)
        self.books.pop(name, None)
        self.tops.pop(name, None)
        self._lost[name] = stamp_ms
        row = self.row(name, stamp_ms, _EMPTY)
        row.best_bid_price = row.best_bid_amount = row.best_ask_price = row.best_ask_amount = None
        row.bid_iv = row.ask_iv = None
        return row

    def found_at(self, name: str, stamp_ms: int) -> int:
        """The time of a row after a loss: a snapshot bears that of the book's last change, which may lie before it."""
        lost = self._lost.pop(name, None)
        return stamp_ms if lost is None else max(stamp_ms, lost + 1)

    def merged(self, name: str, fields: dict[str, Any], *, snapshot: bool) -> Quote | None:
        """A ticker from a snapshot or from the fields that changed; None for a change without its snapshot.

        Raises:
            ValueError: the fields are no ticker's.
        """
        before = {} if snapshot else self._partial.get(name)
        if before is None:
            return None
        fields = before | fields
        quote = msgspec.convert(fields, Quote)
        self._partial[name] = fields
        return quote

    def row(self, name: str, stamp_ms: int, top: Top) -> Quote:
        """The best prices with what the latest ticker and mark say of the rest."""
        bid, bid_size, ask, ask_size = top
        row = Quote(
            timestamp=stamp_ms,
            instrument_name=name,
            best_bid_price=bid,
            best_bid_amount=bid_size,
            best_ask_price=ask,
            best_ask_amount=ask_size,
        )
        ticker, said = self.tickers.get(name), -1
        if ticker is not None and ticker.timestamp is not None and stamp_ms - ticker.timestamp <= CARRIED_MS:
            said = ticker.timestamp
            row.underlying_price, row.underlying_index = ticker.underlying_price, ticker.underlying_index
            row.open_interest = ticker.open_interest
            row.mark_price, row.mark_iv = ticker.mark_price, ticker.mark_iv
            row.bid_iv = ticker.bid_iv if ticker.best_bid_price == bid else None
            row.ask_iv = ticker.ask_iv if ticker.best_ask_price == ask else None
        mark = self.marks.get(name)
        if mark is not None and mark.stamp_ms > said and stamp_ms - mark.stamp_ms <= CARRIED_MS:
            row.mark_price, row.mark_iv = mark.price, mark.iv_percent
        return row
