"""What a store tells of itself and of what was read."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from volgrad.data.schema import Dataset
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import PartEntry, SourceEntry

__all__ = ["Damaged", "Extent", "Scanned", "SourceFacts", "extents", "listed"]


class Scanned(NamedTuple):
    """Rows of one part.

    Attributes:
        table: canonical columns in the order in which they were ingested, and `source`: the name of each row's source
            (dictionary-encoded; the indices are positions in `sources`).
        part: the part's path from the root of the store.
        partition: its dataset, underlying and day.
        sources: the sources of its rows.
    """

    table: pa.Table
    part: str
    partition: Partition
    sources: tuple[SourceEntry, ...]


class Damaged(NamedTuple):
    """A part of which nothing is used: its path, why, its rows, and the sources to ingest again."""

    part: str
    why: str
    rows: int
    sources: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.why} It held {self.rows} rows; ingest again: {listed(self.sources)}."


class Extent(NamedTuple):
    """What a store holds of one dataset and underlying; stamps in microseconds since 1970."""

    dataset: Dataset
    underlying: str
    rows: int
    bytes: int
    parts: int
    partitions: int
    from_us: int
    to_us: int


class SourceFacts(NamedTuple):
    """A source and what became of it: `rows` are in the store, `duplicates` were there already."""

    entry: SourceEntry
    rows: int
    duplicates: int


def extents(parts: Iterable[PartEntry]) -> tuple[Extent, ...]:
    """Rows, bytes and extent of parts by dataset and underlying."""
    groups: dict[tuple[Dataset, str], list[PartEntry]] = {}
    for entry in parts:
        groups.setdefault(entry.partition[:2], []).append(entry)
    return tuple(
        Extent(
            dataset,
            underlying,
            rows=sum(entry.rows for entry in entries),
            bytes=sum(entry.bytes for entry in entries),
            parts=len(entries),
            partitions=len({entry.partition for entry in entries}),
            from_us=min(entry.from_us for entry in entries),
            to_us=max(entry.to_us for entry in entries),
        )
        for (dataset, underlying), entries in groups.items()
    )


def listed(names: Iterable[str]) -> str:
    """A few of the names, and how many more there are.

    >>> listed("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    several = list(names)
    return ", ".join(several[:5]) + (f" and {len(several) - 5} more" if len(several) > 5 else "")
