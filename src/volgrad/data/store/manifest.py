"""What a store holds: one manifest a generation, sealed with its own SHA-256, twice on the disk.

A manifest that does not match its seal, or whose name does not match its content, is never used. One that does and
still says what no writer writes (a path out of the store, rows that do not add up) was forged, and is refused.
"""

import re
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np

from volgrad.data.schema import ColumnKind
from volgrad.data.seal import seal, unseal
from volgrad.data.store.layout import DAY_US, Partition, first_days, manifest_generation, partition_at, partition_of
from volgrad.errors import DamagedError, InputError

__all__ = ["MAX_PART_ROWS", "Manifest", "PartEntry", "SourceEntry", "is_store", "manifest_files", "sealed", "unsealed"]

MAX_PART_ROWS = 1 << 24  # no writer makes parts as large: more is a bomb (24 columns of them would be 3 GB)
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PartEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part: a Parquet file of one partition.

    Attributes:
        path: from the root of the store.
        sha256, bytes: of the file.
        rows: rows in it.
        from_us, to_us: first and last stamp of their chains.
        columns: name -> what it holds ("timestamp", "string", "float64"), in order.
        sources: rows by the id of their source.
    """

    path: str
    sha256: str
    bytes: int
    rows: int
    from_us: int
    to_us: int
    columns: dict[str, ColumnKind]
    sources: dict[int, int]

    @property
    def partition(self) -> Partition:
        """The partition that the path names."""
        partition = partition_of(self.path)
        assert partition is not None, self.path  # a manifest is checked when it is read
        return partition


class SourceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source that was ingested.

    Attributes:
        id: its number in this store.
        name, kind, sha256: as given at its ingest.
        read: rows that it offered.
        whole: no row of it has been lost to damage since.
        partitions: folders that its rows are in, or would be had they not been there already.
        rejections: rows rejected before they came here, by reason.
        notes: sentences on what was assumed.
    """

    id: int
    name: str
    kind: str
    sha256: str | None
    read: int
    whole: bool
    partitions: tuple[str, ...]
    rejections: dict[str, int] = {}
    notes: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All parts and sources of one generation."""

    format: int
    generation: int
    parts: tuple[PartEntry, ...]
    sources: tuple[SourceEntry, ...]

    @classmethod
    def empty(cls) -> "Manifest":
        """The manifest of a store without a row."""
        return cls(_FORMAT, 0, (), ())

    def following(self, generation: int, parts: tuple[PartEntry, ...], sources: tuple[SourceEntry, ...]) -> "Manifest":
        """The manifest of a later generation, parts in order of their path."""
        return Manifest(_FORMAT, generation, tuple(sorted(parts, key=lambda part: part.path)), sources)

    @property
    def paths(self) -> set[str]:
        """Paths of all parts."""
        return {part.path for part in self.parts}

    def rows_by_source(self) -> Counter[int]:
        """Rows that the store holds, by the id of their source."""
        rows: Counter[int] = Counter()
        for part in self.parts:
            rows.update(part.sources)
        return rows


class _Header(msgspec.Struct):
    """What every format's manifest has."""

    format: int


def is_store(path: str | Path) -> bool:
    """Whether a folder is a store: it has a manifest, sound or not.

    >>> is_store("no/such/folder")
    False
    """
    folder = Path(path)
    return folder.is_dir() and bool(manifest_files(folder))


def manifest_files(root: Path) -> list[str]:
    """Names of the manifests, the highest generation last."""
    if not root.is_dir():
        return []
    found = [(number, path.name) for path in root.iterdir() if (number := manifest_generation(path.name)) is not None]
    return [name for _, name in sorted(found)]


def sealed(manifest: Manifest) -> bytes:
    """The content of a manifest's file."""
    return seal(msgspec.json.encode(manifest))


def unsealed(content: bytes, file: Path) -> Manifest | None:
    """The manifest of a file's content; None where the content is not what was sealed.

    Raises:
        InputError: a store of another format.
        DamagedError: the seal holds, and the manifest says what no writer writes.
    """
    body = unseal(content)
    if body is None:
        return None
    try:
        if (found := msgspec.json.decode(body, type=_Header).format) != _FORMAT:
            raise InputError(f"{file}: a store of format {found}, this version reads {_FORMAT}; update volgrad.")
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    _check(manifest, file)
    return manifest


def _check(manifest: Manifest, file: Path) -> None:
    """Refuse what no writer writes."""
    known = {source.id for source in manifest.sources}
    wrong = [part.path for part in manifest.parts if not _sound(part, known)]
    wrong += [folder for source in manifest.sources for folder in source.partitions if partition_at(folder) is None]
    if len(manifest.paths) < len(manifest.parts) or known != set(range(len(manifest.sources))):
        wrong.append("a part or a source's number twice")
    if wrong:
        raise DamagedError(
            f"{file}: names {wrong[0]!r}, which no store writes; it was forged, do not use it.", file=file
        )


def _sound(part: PartEntry, known: set[int]) -> bool:
    partition = partition_of(part.path)
    if partition is None or _SHA256.fullmatch(part.sha256) is None:
        return False
    days = np.array([part.from_us // DAY_US, part.to_us // DAY_US])
    counts = part.sources.values()
    return (
        part.from_us <= part.to_us
        and bool(np.all(first_days(partition.dataset, days) == partition.first_day))
        and 0 < part.rows <= MAX_PART_ROWS
        and part.bytes > 0
        and sum(counts) == part.rows
        and min(counts) > 0
        and known.issuperset(part.sources)
        and {"ts", "ccy"} <= set(part.columns)
    )
