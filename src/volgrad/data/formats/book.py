"""An order book rebuilt from a snapshot and the changes after it."""

from collections.abc import Callable, Iterable

import msgspec

from volgrad.data.formats.frames import Data

__all__ = ["Book", "BookGapError", "Top"]

#: Best bid and its amount, best ask and its amount; 0 where a side is empty (the ticker's own code for it).
Top = tuple[float, float, float, float]
_Entry = tuple[str, float, float]
_ACTIONS = frozenset(("new", "change", "delete"))
_ENTRIES = msgspec.json.Decoder(list[_Entry])
_LEVELS = msgspec.json.Decoder(list[tuple[float, float]])


class BookGapError(Exception):
    """A change does not follow the one before it: the book is not known until its next snapshot."""


class _Side:
    """Price -> amount, with the best price kept beside it: most changes do not touch that."""

    def __init__(self, best_of: Callable[[Iterable[float]], float]) -> None:
        self.levels: dict[float, float] = {}
        self.best: float | None = None
        self._best_of = best_of

    def apply(self, entries: list[_Entry]) -> None:
        for action, price, amount in entries:
            if action == "delete" or amount == 0:
                self.levels.pop(price, None)
                if price == self.best:
                    self.best = self._best_of(self.levels) if self.levels else None
            else:
                self.levels[price] = amount
                self.best = price if self.best is None else self._best_of((self.best, price))

    def top(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.best is None else (self.best, self.levels[self.best])


class Book:
    """Bids and asks of one instrument.

    >>> book = Book(Data(change_id=1, bids=msgspec.Raw(b'[["new", 0.05, 2.0]]'), asks=msgspec.Raw(b"[]")))
    >>> book.change(Data(change_id=2, prev_change_id=1, asks=msgspec.Raw(b'[["new", 0.06, 1.5]]')))
    >>> book.top
    (0.05, 2.0, 0.06, 1.5)
    """

    def __init__(self, snapshot: Data) -> None:
        """Begin with a snapshot, of entries or (grouped books) of levels.

        Raises:
            ValueError: entries that cannot be read.
        """
        self._bids, self._asks = _Side(max), _Side(min)
        self._apply(snapshot)

    def change(self, data: Data) -> None:
        """Apply a change; where it raises, the book is as it was before.

        Raises:
            BookGapError: the change before this one is missing.
            ValueError: entries that cannot be read.
        """
        if data.prev_change_id is None or data.prev_change_id != self._change_id:
            raise BookGapError
        self._apply(data)

    @property
    def top(self) -> Top:
        """Best prices and what stands there."""
        return *self._bids.top(), *self._asks.top()

    @property
    def levels(self) -> tuple[dict[float, float], dict[float, float]]:
        """Price -> amount of the bids and of the asks."""
        return dict(self._bids.levels), dict(self._asks.levels)

    def _apply(self, data: Data) -> None:
        bids, asks = _entries(data.bids), _entries(data.asks)
        self._bids.apply(bids)
        self._asks.apply(asks)
        self._change_id = data.change_id


def _entries(raw: msgspec.Raw) -> list[_Entry]:
    if len(raw) <= 2:  # absent, or []
        return []
    try:
        entries = _ENTRIES.decode(raw)
    except msgspec.ValidationError:
        entries = [("new", price, amount) for price, amount in _LEVELS.decode(raw)]
    for action, price, amount in entries:
        if action not in _ACTIONS or not price > 0 or amount < 0:
            raise ValueError(f"{action} {price} x {amount} is no entry of an order book")
    return entries
