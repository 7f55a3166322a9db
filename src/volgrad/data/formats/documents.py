"""Decoded JSON documents, one after the other -> pieces."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from volgrad.data.formats.answers import fault_of, is_empty
from volgrad.data.formats.bars import bars_of
from volgrad.data.formats.build import quotes_table
from volgrad.data.formats.chains import chain_of_ccxt, summaries, tickers
from volgrad.data.formats.records import Document, Shape, documents, shape_of
from volgrad.data.formats.session import SessionDecoder
from volgrad.data.formats.trades import trades_of
from volgrad.data.formats.venues import VENUES, Venue
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import EmptyInputError, ForeignError, InputError

__all__ = ["DocumentDecoder", "Joiner"]

# Assumption: answers asked for together come within a minute; a slower pair describes two states of the market.
_TOGETHER_MS = 60_000
_MOST_FAULTS = 40  # told apart: a damaged file may invent any number
_MOST_WAITING = 64  # answers: more than there are underlyings with options
_LOOSE = 16_384  # records on lines of their own, gathered to a piece


class Joiner:
    """Joins by name the answers in which an exchange says different things about the same options.

    Two belong together when they are of different kinds, share a name, and are at most a minute apart (or one of them
    has no time at all). An answer waits for its companion until the next about the same underlying, so that polls of
    several underlyings may be written in any order.

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
        self._held: list[_Waiting] = []

    def add(self, document: Document) -> list[Document]:
        """Take an answer; gives those that wait no longer."""
        role = next((self._venue.role(record) for record in document.records if isinstance(record, dict)), 0)
        new = _Waiting(document, {role}, self._names(document))
        for place, held in enumerate(self._held):
            if role not in held.roles and held.names & new.names and self._together(held.document, document):
                joined = self._joined(held.document, document)
                self._held[place] = _Waiting(joined, held.roles | {role}, held.names | new.names)
                return []
        families = _families(new.names)
        over = [held for held in self._held if not families or _families(held.names) & families]
        over += [held for held in self._held if held not in over and not self._together(held.document, document)]
        self._held = [*(held for held in self._held if held not in over), new]
        if len(self._held) > _MOST_WAITING:
            over.append(self._held.pop(0))
        return [held.document for held in over]

    def finish(self) -> list[Document]:
        """The answers that wait."""
        done, self._held = [held.document for held in self._held], []
        return done

    def _names(self, document: Document) -> set[str]:
        names = (record.get(self._venue.name) for record in document.records if isinstance(record, dict))
        return {name for name in names if isinstance(name, str)}

    def _together(self, one: Document, other: Document) -> bool:
        here, there = self._time(one), self._time(other)
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


@dataclass(eq=False)
class _Waiting:
    """An answer, the kinds of answer that are joined in it, and the names of its options."""

    document: Document
    roles: set[int]
    names: set[str]


def _families(names: set[str]) -> set[str]:
    return {name.partition("-")[0] for name in names}


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
        self._session: SessionDecoder | None = None
        self._instruments = self._empty = self._testnet = 0
        self._faults: Counter[str] = Counter()

    def add(self, value: object) -> bool:
        """Take a decoded JSON value; whether anything in it is known, if only an answer without a record."""
        self._testnet += sum(one.get("testnet") is True for one in _objects(value))
        bars = bars_of(value, self.name, self._underlying)
        if bars is not None:
            self._pieces.append(bars)
            return True
        known = False
        for document in documents(value):
            known = True
            alone = len(document.records) == 1 and (document.records[0] is value or document.shape is Shape.TICKER)
            if self._loose and (not alone or self._loose[0].shape is not document.shape):
                self._gather()
            if alone:
                self._loose.append(document)
                if len(self._loose) >= _LOOSE:
                    self._gather()
            else:
                self._take(document)
        if not known and (fault := fault_of(value)):
            self._faults[fault if len(self._faults) < _MOST_FAULTS else "others"] += 1
            return True
        if not known and is_empty(value):
            self._empty += 1
            return True
        return known

    def drain(self, *, end: bool = True) -> list[Piece]:
        """The pieces so far; at the `end` also what waited for a companion."""
        if end:
            self._gather()
            for shape, joiner in self._joiners.items():
                self._pieces += [self._of_venue(shape, document) for document in joiner.finish()]
        if self._session is not None:
            self._pieces += self._session.drain()
        done, self._pieces = self._pieces, []
        return done

    def nothing(self) -> InputError:
        """Why there is no piece at all."""
        name = self.name
        if self._instruments:
            return ForeignError(
                f"{name}: {self._instruments} instruments without a price; ask for their book summaries or tickers.",
                file=name,
            )
        if self._faults:
            return EmptyInputError(
                f"{name}: the exchange answered with an error, {next(iter(self._faults))}; nothing to read, ask again.",
                file=name,
            )
        if self._empty:
            return EmptyInputError(f"{name}: an answer without a record; nothing to read, ask again.", file=name)
        return EmptyInputError(f"{name}: JSON without a quote or trade in it; nothing to read.", file=name)

    def notes(self) -> tuple[str, ...]:
        """Sentences on answers that were not used, and on those of the test network."""
        notes = [] if self._session is None else list(self._session.notes())
        if self._faults:
            most = ", ".join(f"{count} times {fault}" for fault, count in self._faults.most_common(3))
            notes.append(f"{self.name}: answers of the exchange that are errors: {most}")
        if self._empty:
            notes.append(f"{self.name}: {self._empty} answers without a record")
        if self._testnet:
            notes.append(f"{self.name}: {self._testnet} answers are of the test network: their prices are no market's")
        return tuple(notes)

    def _gather(self) -> None:
        """Records that came on lines of their own, as one document."""
        if self._loose:
            gathered, self._loose = self._loose, []
            self._take(Document(gathered[0].shape, [document.records[0] for document in gathered]))

    def _take(self, document: Document) -> None:
        shape, records, stamp, answer = document
        if shape is not Shape.CCXT:  # whose entries are told apart there
            kept = [record for record in records if shape_of(record) in (shape, None)]
            if len(kept) < len(records):  # say a trade among tickers: a row of nothing
                self._pieces.append(_misplaced(len(records) - len(kept)))
            document, records = document._replace(records=kept), kept
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
            self._frames(records)
        else:
            self._instruments += len(records)

    def _of_venue(self, shape: Shape, document: Document) -> Piece:
        return VENUES[shape].piece(document.records, self.name, document.stamp_ms, answer=document.answer)

    def _frames(self, records: list[Any]) -> None:
        """Frames that were gathered in arrays: one session, whatever arrays they come in."""
        if self._session is None:
            self._session = SessionDecoder(self.name)
        for record in records:
            self._session.frame(msgspec.json.encode(record))


def _objects(value: object) -> list[dict[str, Any]]:
    """An answer, or those in a list."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _misplaced(records: int) -> Piece:
    """Records of another kind than those around them, as a piece without a row."""
    return Piece(Dataset.QUOTES, SourceKind.TICKER, quotes_table([]), malformed=records)
