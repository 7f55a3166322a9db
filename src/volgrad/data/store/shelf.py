"""Part files as a writer handles them: rows put down, their hashes remembered, small parts put together."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from volgrad.data.columns import stamp_us
from volgrad.data.filters import chain_stamps
from volgrad.data.store.disk import Disk
from volgrad.data.store.identity import row_hashes
from volgrad.data.store.known import Block, HashCache, order_of
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import MAX_PART_ROWS, PartEntry
from volgrad.data.store.parts import make_part, read_part
from volgrad.data.store.pending import Pending
from volgrad.data.store.rows import SOURCE

__all__ = ["Limits", "Shelf"]


@dataclass(frozen=True)
class Limits:
    """How much a writer keeps in memory, and how large its parts become.

    Attributes:
        buffer_rows: rows in memory before they are written to parts; a million of 18 columns are 130 MB.
        part_rows: rows of a part at most.
        parts: parts of a partition before its small ones are merged on commit.
        cache_bytes: hashes of stored rows kept in memory, 20 bytes a row.
    """

    buffer_rows: int = 1_000_000
    part_rows: int = 1_000_000
    parts: int = 8
    cache_bytes: int = 128 << 20

    def __post_init__(self) -> None:
        if not 0 < self.part_rows <= MAX_PART_ROWS or self.parts < 1:
            raise ValueError(f"{self}: a part has 1 to {MAX_PART_ROWS} rows, a partition at least one part")


class Shelf:
    """Writes, reads and removes the part files of a store whose lock is held; no manifest is touched here."""

    def __init__(self, root: Path, disk: Disk, limits: Limits) -> None:
        self._root, self._disk, self._limits = root, disk, limits
        self._hashes = HashCache(self._read_hashes, limits.cache_bytes)

    def block(self, entry: PartEntry) -> Block:
        """The hashes of a part's rows.

        Raises:
            DamagedError: the part is damaged or missing.
        """
        return self._hashes.block(entry)

    def spill(self, pending: Pending) -> None:
        """Write the rows in memory to parts; those that raise OSError stay in memory."""
        for partition, pile in list(pending.piles.items()):
            table = pa.concat_tables(pile.tables, promote_options="default")
            entries = [
                self._write(partition, table.slice(start, self._limits.part_rows))
                for start in range(0, table.num_rows, self._limits.part_rows)
            ]
            if len(entries) == 1:
                self._hashes.keep(entries[0], pile.blocks)
            pending.written(partition, entries)

    def together(self, partition: Partition, tables: list[pa.Table]) -> PartEntry:
        """One part of the rows of several (what `read_part` gives), in this order."""
        return self._write(partition, pa.concat_tables(tables, promote_options="default"))

    def remove(self, entries: Iterable[PartEntry]) -> None:
        """Remove files that no manifest names; where that fails the next writer does it."""
        for entry in entries:
            self._hashes.forget(entry)
            with contextlib.suppress(OSError):
                self._disk.remove(self._root / entry.path)

    def _write(self, partition: Partition, table: pa.Table) -> PartEntry:
        part = make_part(partition, table)
        self._disk.put(self._root / part.entry.path, part.content)
        return part.entry

    def _read_hashes(self, entry: PartEntry) -> Block:
        table = read_part(self._root, entry).drop_columns([SOURCE])
        hashes = row_hashes(entry.partition.dataset, table)
        return Block.of(stamp_us(chain_stamps(table)), hashes, order_of(hashes))
