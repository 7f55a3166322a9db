"""What is kept of many sources: the rows that are asked for, chains drawn from streams of updates, and the accounts."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.canonical import Canonical
from volgrad.data.feeds import Fed
from volgrad.data.filters import Extent, Window
from volgrad.data.schema import SourceKind
from volgrad.data.snapshots import Drawing, Drawn, Snapshots
from volgrad.market.duration import format_duration

__all__ = ["Gathered", "Source"]

_ORIGIN = "source_index"  # column of each row's source while rows are collected


@dataclass(frozen=True)
class Source:
    """One source that was read.

    Attributes:
        name: path of the file as it was given (to `ingest`, where it comes from a store), or `table`.
        kind: how it was recognised; the kind decides names and units.
        rows: rows in it; of a source in a store, those that were read.
        rows_filtered: rows outside the asked time window or underlying (not rejections: they were not
            wanted).
        malformed_rows: lines, records or frames that could not be taken apart, skipped.
        extra_columns: columns that were ignored.
        bad_values: column -> what (nan, negative, zero, cap) -> volatilities in it that are none.
    """

    name: str
    kind: SourceKind
    rows: int
    rows_filtered: int = 0
    malformed_rows: int = 0
    extra_columns: tuple[str, ...] = ()
    bad_values: dict[str, dict[str, int]] = field(default_factory=dict)


_VENUES = {kind: kind.value for kind in (SourceKind.OKX, SourceKind.BYBIT, SourceKind.BINANCE)}
_Kept = tuple[pa.Table, Int[np.ndarray, " rows"]]


@dataclass
class _Tally:
    """A source while it is read."""

    kind: SourceKind
    rows: int = 0
    filtered: int = 0
    malformed: int = 0
    extra: tuple[str, ...] = ()
    bad: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, block: Canonical, rows: int, kept: int) -> None:
        """Add a block of which `rows` are this source's and `kept` are asked for."""
        self.rows += rows
        self.filtered += rows - kept
        self.malformed += block.malformed
        self.extra = tuple(dict.fromkeys([*self.extra, *block.extra]))
        for column, wrong in block.bad_values.items():
            self.bad.setdefault(column, Counter()).update(wrong)

    def source(self, name: str) -> Source:
        bad = {column: dict(counts) for column, counts in self.bad.items()}
        return Source(name, self.kind, self.rows, self.filtered, self.malformed, self.extra, bad)


class Gathered:
    """Collects sources one after the other, each whole or not at all.

    Attributes:
        sources: what was taken, in the order in which it came.
        notes: sentences on what was assumed about the rows that are kept.
        offered: what those sources hold of which no row is kept.
    """

    def __init__(self, window: Window, drawing: Drawing) -> None:
        """Begin with nothing."""
        self.sources: list[Source] = []
        self.notes: list[str] = []
        self.offered: list[Extent] = []
        self._window, self._drawing = window, drawing
        self._kept: list[_Kept] = []
        self._streams: dict[Drawing, _Stream] = {}

    def take(self, feed: Iterator[Fed]) -> None:
        """Take a source (or a store of many); where it raises, nothing of it is kept."""
        tallies: dict[str, _Tally] = {}
        kept: list[_Kept] = []
        extents: list[Extent] = []
        notes: list[str] = []
        streams = {drawing: stream.fork() for drawing, stream in self._streams.items()}
        for fed in feed:
            block, drawing = fed.block, self._drawing.of_kind(fed.block.kind)
            numbers = [len(self.sources) + _place(tallies, name, block.kind) for name in fed.names]
            origin = np.array(numbers, np.int64)[fed.origin]
            block = replace(block, table=block.table.append_column(_ORIGIN, pa.array(origin)))
            wanted = drawing.window(self._window) if block.kind.events else self._window
            chosen = wanted.keep(block)
            for name in fed.names:
                mine = len(self.sources) + _place(tallies, name, block.kind)
                tallies[name].count(block, int((origin == mine).sum()), _rows_of(chosen, mine))
            notes += [note for note in block.notes if note not in notes]
            if block.kind.events:
                stream = streams.setdefault(drawing, _Stream(Snapshots(drawing)))
                kept.append(self._chosen(stream.draw(chosen)))
            else:
                kept.append((chosen.table, chosen.reason))
            if not chosen.table.num_rows:
                extents.append(Extent.of(block.table))
        self.sources += [tally.source(name) for name, tally in tallies.items()]
        self._kept += kept
        self._streams = streams
        if any(tally.rows > tally.filtered for tally in tallies.values()):
            self.notes += notes
        elif extents:
            self.offered.append(Extent.over(extents))

    def finish(self) -> tuple[pa.Table, Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """All rows in canonical columns, their reasons, and the position of each one's source in `sources`."""
        for stream in self._streams.values():
            if (drawn := stream.finish()) is not None:
                self._kept.append(self._chosen(drawn))
            if not stream.updates:
                continue
            self.notes.append(
                f"chains are drawn from {stream.updates:,} single updates, one every "
                f"{format_duration(self._drawing.every_us)} (--every): {stream.superseded:,} updates were replaced by "
                f"later ones before; {stream.late:,} came too late for theirs; {stream.stale:,} times an option was "
                "left out as nothing new was said of it"
            )
        venues = sorted(
            {_VENUES.get(one.kind, "deribit or your own") for one in self.sources if one.rows > one.rows_filtered}
        )
        if len(venues) > 1:
            self.notes.append(
                f"quotes of several exchanges ({', '.join(venues)}) are taken as one market: fit them apart"
            )
        table = pa.concat_tables([part for part, _ in self._kept], promote_options="default").unify_dictionaries()
        origin = table[_ORIGIN].to_numpy()
        return table.drop_columns([_ORIGIN]), np.concatenate([reason for _, reason in self._kept]), origin

    def _chosen(self, drawn: Drawn) -> _Kept:
        chosen = self._window.keep(Canonical(drawn.table, drawn.reason, SourceKind.CANONICAL))
        return chosen.table, chosen.reason


@dataclass
class _Stream:
    """Updates on their way to chains, over all sources."""

    snapshots: Snapshots
    updates: int = 0
    superseded: int = 0
    stale: int = 0
    late: int = 0

    def fork(self) -> "_Stream":
        """A copy for the next source, which may fail."""
        return replace(self, snapshots=self.snapshots.fork())

    def draw(self, block: Canonical) -> Drawn:
        """Chains that are complete now."""
        self.updates += block.table.num_rows
        return self._counted(self.snapshots.add(block.table, block.reason))

    def finish(self) -> Drawn | None:
        """The open chains; None where there was no row."""
        drawn = self.snapshots.finish()
        return None if drawn is None else self._counted(drawn)

    def _counted(self, drawn: Drawn) -> Drawn:
        self.superseded += drawn.superseded
        self.stale += drawn.stale
        self.late += drawn.late
        return drawn


def _place(tallies: dict[str, _Tally], name: str, kind: SourceKind) -> int:
    """Position of a source among those of its feed."""
    tallies.setdefault(name, _Tally(kind))
    return list(tallies).index(name)


def _rows_of(block: Canonical, number: int) -> int:
    return int((block.table[_ORIGIN].to_numpy() == number).sum())
