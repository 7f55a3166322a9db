"""Decoded JSON documents, one after the other -> pieces."""

from collections.abc import Iterator
from typing import Any

import msgspec

from volgrad.data.formats.chains import chain_of_ccxt, summaries, tickers
from volgrad.data.formats.records import Document, Shape, documents
from volgrad.data.formats.series import bars_of, trades_of
from volgrad.data.formats.session import SessionDecoder
from volgrad.data.formats.venues import VENUES, Venue
from volgrad.data.piece import Piece

__all__ = ["DocumentDecoder", "Joiner"]

# Assumption: answers asked for together come within a minute; a slower pair describes two states of the market.
_TOGETHER_MS = 60_000
_LOOSE = 16_384  # records on lines of their own, gathered to a piece


class Joiner:
    """Joins by name the answers in which an exchange says different things about the same options.

    Two that follow each other belong together when they are of different kinds and at most a minute apart, or when one
    of them has no time at all.

    >>> joiner = Joiner(VENUES[Shape.BINANCE])
    >>> joiner.add(Document(Shape.BINANCE, [{"symbol": "BTC-200730-9000-C", "bidPrice": "999.34"}]))
    []
    >>> joiner.add(Document(Shape.BINANCE, [{"symbol": "BTC-200730-9000-C", "markIV": "1.45"}]))
    []
    >>> [sorted(document.records[0]) for document in joiner.finish()]
    [['bidPrice', 'markIV', 'symbol']]
    """

    def __init__(self, venue: Venue) -> None:
        """Nothing waits."""
        self._venue = venue
        self._held: Document | None = None
        self._roles: set[int] = set()

    def add(self, document: Document) -> list[Document]:
        """Take an answer; gives the one that waited, unless the two belong together."""
        role = next((self._venue.role(record) for record in document.records if isinstance(record, dict)), 0)
        if self._held is not None and role not in self._roles and self._together(document):
            self._held = self._joined(self._held, document)
            self._roles.add(role)
            return []
        done = self.finish()
        self._held, self._roles = document, {role}
        return done

    def finish(self) -> list[Document]:
        """The answer that waits."""
        done = [] if self._held is None else [self._held]
        self._held, self._roles = None, set()
        return done

    def _together(self, other: Document) -> bool:
        assert self._held is not None
        here, there = self._time(self._held), self._time(other)
        return here is None or there is None or abs(here - there) <= _TOGETHER_MS

    def _time(self, document: Document) -> int | None:
        if document.stamp_ms is not None or self._venue.stamp is None:
            return document.stamp_ms
        stamps = (str(r.get(self._venue.stamp)) for r in document.records if isinstance(r, dict))
        return max((int(stamp) for stamp in stamps if stamp.isdecimal() and len(stamp) < 15), default=None)

    def _joined(self, first: Document, second: Document) -> Document:
        """The records of both, those of one name as one; prices stay with the time of their own answer."""
        quotes = second if 0 in {self._venue.role(r) for r in second.records if isinstance(r, dict)} else first
        name, by_name = self._venue.name, {}
        strange: list[Any] = []
        for record in (*(first if quotes is second else second).records, *quotes.records):
            key = record.get(name) if isinstance(record, dict) else None
            if isinstance(key, str):
                by_name[key] = by_name.get(key, {}) | record
            else:
                strange.append(record)
        stamp = quotes.stamp_ms or first.stamp_ms or second.stamp_ms
        return Document(first.shape, [*by_name.values(), *strange], stamp, first.answer or second.answer)


class DocumentDecoder:
    """Documents in, pieces out.

    >>> decoder = DocumentDecoder("chain.json")
    >>> chain = [{"instrument_name": "BTC-16JUN25-111000-P", "bid_price": 0.04, "creation_timestamp": 1749938299495}]
    >>> decoder.add(chain)
    True
    >>> [piece.kind.value for piece in decoder.drain()]
    ['book_summary']
    """

    def __init__(self, name: str, underlying: str | None = None) -> None:
        """Begin before the first document of the source `name`; `underlying` is that of bars, where it is known."""
        self.name = name
        self._underlying = underlying
        self._pieces: list[Piece] = []
        self._joiners = {shape: Joiner(venue) for shape, venue in VENUES.items()}
        self._loose: list[Document] = []
        self._instruments = 0

    def add(self, value: object) -> bool:
        """Take a decoded JSON value; whether anything in it is known."""
        bars = bars_of(value, self.name, self._underlying)
        if bars is not None:
            self._pieces.append(bars)
            return True
        known = False
        for document in documents(value):
            known = True
            alone = len(document.records) == 1 and document.records[0] is value
            if self._loose and (not alone or self._loose[0].shape is not document.shape):
                self._gather()
            if alone:
                self._loose.append(document)
                if len(self._loose) >= _LOOSE:
                    self._gather()
            else:
                self._take(document)
        return known

    def drain(self, *, end: bool = True) -> list[Piece]:
        """The pieces so far; at the `end` also what waited for a companion."""
        if end:
            self._gather()
            for shape, joiner in self._joiners.items():
                self._pieces += [self._of_venue(shape, document) for document in joiner.finish()]
        done, self._pieces = self._pieces, []
        return done

    @property
    def instruments(self) -> int:
        """Instruments without a price that were met (`public/get_instruments`), which are no quotes."""
        return self._instruments

    def _gather(self) -> None:
        """Records that came on lines of their own, as one document."""
        if self._loose:
            gathered, self._loose = self._loose, []
            self._take(Document(gathered[0].shape, [document.records[0] for document in gathered]))

    def _take(self, document: Document) -> None:
        shape, records, stamp, answer = document
        if shape in VENUES:
            done = self._joiners[shape].add(document)
            self._pieces += [self._of_venue(shape, before) for before in done]
        elif shape is Shape.SUMMARY:
            self._pieces.append(summaries(records, stamp, answer=answer))
        elif shape is Shape.TICKER:
            self._pieces.append(tickers(records))
        elif shape is Shape.TRADE:
            self._pieces.append(trades_of(records))
        elif shape is Shape.CCXT:
            self._pieces += chain_of_ccxt(records, self.name, stamp)
        elif shape is Shape.FRAME:
            self._pieces += _session(records, self.name)
        else:
            self._instruments += len(records)

    def _of_venue(self, shape: Shape, document: Document) -> Piece:
        return VENUES[shape].piece(document.records, self.name, document.stamp_ms, answer=document.answer)


def _session(records: list[Any], name: str) -> Iterator[Piece]:
    """Frames that were gathered in one array."""
    session = SessionDecoder(name)
    for record in records:
        session.frame(msgspec.json.encode(record))
    pieces = session.drain()
    if pieces:
        pieces[-1] = pieces[-1]._replace(notes=session.notes())
    yield from pieces
