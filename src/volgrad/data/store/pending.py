"""Rows that a writer has taken and not yet committed: in memory by partition, and in parts once they are many."""

from dataclasses import dataclass, field

import pyarrow as pa

from volgrad.data.store.known import Block, merged
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import PartEntry

__all__ = ["Pending", "Pile", "to_merge"]

_FEW = 8  # overlapping blocks to search one by one before they are merged


@dataclass
class Pile:
    """Rows of one partition in memory, in the order they came, and their hashes."""

    tables: list[pa.Table] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def overlapping(self, from_us: int, to_us: int) -> list[Block]:
        """Blocks that may hold rows between these stamps."""
        found = [block for block in self.blocks if block.overlaps(from_us, to_us)]
        if len(found) <= _FEW:
            return found
        together = merged(found)
        self.blocks = [block for block in self.blocks if not block.overlaps(from_us, to_us)] + [together]
        return [together]


@dataclass
class Pending:
    """What one source, or all that have ended since the last commit, added.

    Attributes:
        piles: rows in memory by partition.
        parts: parts written from them, which no manifest names yet.
        rows: rows in memory.
    """

    piles: dict[Partition, Pile] = field(default_factory=dict)
    parts: dict[Partition, list[PartEntry]] = field(default_factory=dict)
    rows: int = 0

    def put(self, partition: Partition, table: pa.Table, block: Block) -> None:
        """Take rows (at least one) that are known to be new, and their hashes."""
        pile = self.piles.setdefault(partition, Pile())
        pile.tables.append(table)
        pile.blocks.append(block)
        self.rows += table.num_rows

    def absorb(self, other: "Pending") -> None:
        """Take over all that `other` holds, after what is here."""
        for partition, pile in other.piles.items():
            mine = self.piles.setdefault(partition, Pile())
            mine.tables += pile.tables
            mine.blocks += pile.blocks
        for partition, parts in other.parts.items():
            self.parts.setdefault(partition, []).extend(parts)
        self.rows += other.rows

    def written(self, partition: Partition, parts: list[PartEntry]) -> None:
        """Note that a pile now stands in parts."""
        self.parts.setdefault(partition, []).extend(parts)
        self.rows -= sum(table.num_rows for table in self.piles.pop(partition).tables)

    @property
    def entries(self) -> list[PartEntry]:
        """All parts written."""
        return [entry for parts in self.parts.values() for entry in parts]


def to_merge(parts: list[PartEntry], most: int, rows: int) -> list[PartEntry]:
    """Which parts of a partition to rewrite as one, in order of time; none where there are few.

    The smallest ones are taken: as many as bring the partition down to `most`, and further ones while each is no
    larger than all before it together, so that a row is rewritten as often as the logarithm of the partition's rows.

    Args:
        parts: of one partition.
        most: parts that may stay as they are.
        rows: rows that a part may have.
    """
    if len(parts) <= most:
        return []
    ascending = sorted(parts, key=lambda part: part.rows)
    taken: list[PartEntry] = []
    total = 0
    for part in ascending:
        enough = len(taken) > len(parts) - most
        if total + part.rows > rows or (enough and part.rows > total):
            break
        taken.append(part)
        total += part.rows
    return sorted(taken, key=lambda part: (part.from_us, part.path)) if len(taken) > 1 else []
