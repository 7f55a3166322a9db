"""The one writer of a store: sources in, generations out."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from volgrad.data.schema import ColumnKind, Dataset
from volgrad.data.store.disk import Disk
from volgrad.data.store.known import Block, known_rows, order_of, repeated_rows
from volgrad.data.store.layout import Partition
from volgrad.data.store.ledger import Ledger
from volgrad.data.store.manifest import PartEntry, SourceEntry
from volgrad.data.store.parts import read_part
from volgrad.data.store.pending import Pending, to_merge
from volgrad.data.store.rows import SOURCE, canonical_types, kinds_of, partitioned
from volgrad.data.store.shelf import Limits, Shelf
from volgrad.errors import DamagedError, SchemaError, WorkError

__all__ = ["Added", "Writer"]

_BLOCK = 1 << 18  # rows that are hashed and compared at a time


class Added(NamedTuple):
    """Rows that were new, and rows that were there already."""

    rows: int
    duplicates: int


@dataclass
class _Open:
    """The source that is being read."""

    entry: SourceEntry
    pending: Pending = field(default_factory=Pending)
    kinds: dict[tuple[Dataset, str], ColumnKind] = field(default_factory=dict)
    partitions: set[str] = field(default_factory=set)
    read: int = 0


class Writer:
    """Takes sources one after the other and commits them; `Store.writer` gives one, with the store's lock.

    A source is visible whole or not at all: `begin`, `add` as often as needed, then `end`, which lets its rows into
    the next `commit`, or `drop`, after which there never was one.

    Attributes:
        notes: sentences on what was damaged in the store and what to do about it.
    """

    def __init__(self, root: Path, disk: Disk, limits: Limits) -> None:
        self._root, self._limits = root, limits
        with self._told():
            self._ledger = Ledger(root, disk)
        self._ended = Pending()
        self._open: _Open | None = None
        self._closed = False
        self._shelf = Shelf(root, disk, limits)
        self._kinds: dict[tuple[Dataset, str], ColumnKind] = {}
        for partition, parts in self._ledger.parts.items():
            for entry in parts:
                self._kinds |= {(partition.dataset, name): kind for name, kind in entry.columns.items()}

    @property
    def notes(self) -> list[str]:
        """Sentences on what was damaged in the store and what to do about it."""
        return self._ledger.notes

    @property
    def generation(self) -> int:
        """The last committed generation."""
        return self._ledger.generation

    def has_source(self, sha256: str) -> bool:
        """Whether a source of this content is there already, whole and undamaged: it need not be read again."""
        return self._ledger.holds(sha256)

    def begin(self, name: str, kind: str, sha256: str | None = None) -> None:
        """Begin a source.

        Args:
            name: what the user calls it.
            kind: its kind, such as `SourceKind.SNAPSHOT.value`.
            sha256: of its file, so that it can be told when it comes again.

        Raises:
            ValueError: the source before was neither ended nor dropped, or the writer is closed.
        """
        self._check_open()
        if self._open is not None:
            raise ValueError(f"source {self._open.entry.name!r} is still open: end or drop it first")
        name = name.encode("utf-8", "backslashreplace").decode()
        number = self._ledger.number(name, kind, sha256)
        self._open = _Open(SourceEntry(number, name, kind, sha256, read=0, whole=True, partitions=()))

    def add(self, dataset: Dataset, table: pa.Table) -> Added:
        """Add rows of the open source; those that the store has already, from whatever source, are only counted.

        Args:
            dataset: what the rows are.
            table: canonical columns: stamps, text and numbers in whatever encoding.

        Raises:
            SchemaError: a column cannot be stored, or a row has no stamp or no proper underlying.
            WorkError: the disk is full, or files cannot be written.
            ValueError: no source is open.
        """
        source = self._current()
        table = canonical_types(table, source.entry.name)
        self._check_kinds(dataset, table, source)
        with self._told():
            fresh = sum(
                self._add_block(dataset, table.slice(start, _BLOCK), source)
                for start in range(0, table.num_rows, _BLOCK)
            )
        return Added(fresh, table.num_rows - fresh)

    def end(self, rejections: Mapping[str, int] | None = None, notes: Sequence[str] = ()) -> None:
        """Let the open source's rows into the next commit.

        Args:
            rejections: its rows that were rejected before they came here, by reason.
            notes: what was assumed about it.
        """
        source = self._current()
        before = self._ledger.sources.get(source.entry.id)
        partitions, read = source.partitions, source.read
        whole, rejected = source.entry.whole, Counter(rejections or {})
        if before is not None:
            partitions = partitions | set(before.partitions)
            if before.sha256 is None:  # it may be another table of the same name
                read, whole = read + before.read, whole and before.whole
                rejected.update(before.rejections)
        self._ledger.enter(
            msgspec.structs.replace(
                source.entry,
                read=read,
                whole=whole,
                partitions=tuple(sorted(partitions)),
                rejections=dict(+rejected),
                notes=tuple(notes),
            )
        )
        self._ended.absorb(source.pending)
        self._kinds |= source.kinds
        self._open = None

    def drop(self) -> None:
        """Forget the open source: none of its rows will ever be seen."""
        source = self._current()
        self._open = None
        self._shelf.remove(source.pending.entries)

    def commit(self) -> None:
        """Make all ended sources visible, at once. Nothing is written where nothing is new.

        Raises:
            WorkError: the disk is full, or files cannot be written; the generation before stays, and `commit` may be
                tried again.
        """
        self._check_open()
        with self._told():
            self._shelf.spill(self._ended)
            if not self._ended.parts and not self._ledger.changed():
                return
            parts = {partition: list(several) for partition, several in self._ledger.parts.items()}
            fresh = self._merge(parts)
            self._ledger.commit(parts, fresh)
        merged_away = self._ended.entries
        self._ended = Pending()
        self._shelf.remove(entry for entry in merged_away if entry not in fresh)

    def close(self) -> None:
        """Forget what was not committed."""
        for pending in (self._ended, self._open.pending if self._open else Pending()):
            self._shelf.remove(pending.entries)
        self._ended, self._open, self._closed = Pending(), None, True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this writer is closed, and the store no longer locked: make another")

    def _current(self) -> _Open:
        if self._open is None:
            raise ValueError("no source is open: begin one first")
        return self._open

    def _check_kinds(self, dataset: Dataset, table: pa.Table, source: _Open) -> None:
        """A column holds the same in all sources, or they could not be read together."""
        name = source.entry.name
        for column, kind in kinds_of(table).items():
            key = (dataset, column)
            held = self._kinds.get(key) or source.kinds.setdefault(key, kind)
            if held is not kind:
                raise SchemaError(
                    f"{name}: column {column} holds {kind.value}, in the store it holds {held.value}; "
                    "convert or rename it.",
                    file=name,
                )

    def _add_block(self, dataset: Dataset, table: pa.Table, source: _Open) -> int:
        """Take the rows that are new; how many they are."""
        fresh: list[tuple[Partition, pa.Table, Block]] = []
        for piece in partitioned(dataset, table, source.entry.name):
            order = order_of(piece.hashes)
            new = ~repeated_rows(piece.hashes, order)
            span = int(piece.stamp_us.min()), int(piece.stamp_us.max())
            blocks = self._blocks(piece.partition, span, source)
            new &= ~known_rows(piece.stamp_us, piece.hashes, order, blocks)
            source.partitions.add(piece.partition.folder)  # after the blocks: what they lose was not asked before
            if new.any():
                taken = piece.table if new.all() else piece.table.filter(pa.array(new))
                fresh.append((piece.partition, taken, Block.of(piece.stamp_us, piece.hashes, order[new[order]])))
        rows = sum(taken.num_rows for _, taken, _ in fresh)
        for partition, taken, block in fresh:
            if 2 * rows < table.num_rows:  # a copy: a few rows are not to keep the whole block in memory
                taken = taken.take(pa.array(np.arange(taken.num_rows)))
            ids = pa.array(np.full(taken.num_rows, source.entry.id, np.int32))
            source.pending.put(partition, taken.append_column(SOURCE, ids), block)
        source.read += table.num_rows
        if self._ended.rows + source.pending.rows > self._limits.buffer_rows:
            self._shelf.spill(self._ended)
            self._shelf.spill(source.pending)
        return rows

    def _blocks(self, partition: Partition, span: tuple[int, int], source: _Open) -> Iterator[Block]:
        """All blocks that may hold a row of the partition within `span`."""
        for pending in (self._ended, source.pending):
            if partition in pending.piles:
                yield from pending.piles[partition].overlapping(*span)
            for entry in pending.parts.get(partition, ()):
                if entry.from_us <= span[1] and span[0] <= entry.to_us:
                    yield self._shelf.block(entry)
        for entry in list(self._ledger.parts.get(partition, ())):
            if entry.from_us <= span[1] and span[0] <= entry.to_us:
                try:
                    yield self._shelf.block(entry)
                except DamagedError as error:
                    self._lose(entry, error)

    def _lose(self, entry: PartEntry, error: DamagedError) -> None:
        self._ledger.lose(entry, str(error))
        if self._open is not None and entry.partition.folder in self._open.partitions:
            self._open.entry = msgspec.structs.replace(self._open.entry, whole=False)

    def _merge(self, parts: dict[Partition, list[PartEntry]]) -> list[PartEntry]:
        """Add what has ended to `parts`, small parts of a partition merged; the parts that no manifest names yet."""
        fresh: list[PartEntry] = []
        for partition, ended in self._ended.parts.items():
            together = parts.setdefault(partition, [])
            together += ended
            chosen = to_merge(together, self._limits.parts, self._limits.part_rows)
            tables: list[pa.Table] = []
            for entry in chosen:
                try:
                    tables.append(read_part(self._root, entry))
                except DamagedError as error:
                    if entry in ended:
                        raise
                    self._lose(entry, error)
            merged = [self._shelf.together(partition, tables)] if tables else []
            together[:] = [entry for entry in together if entry not in chosen] + merged
            fresh += [entry for entry in together if entry not in self._ledger.parts.get(partition, ())]
        return fresh

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell a failing disk in a sentence."""
        try:
            yield
        except OSError as error:
            where = error.filename or self._root
            raise WorkError(
                f"{where}: could not be written ({error.strerror or error}); the store is as it was after its last "
                "commit. See to free space and permissions, then ingest again."
            ) from error
