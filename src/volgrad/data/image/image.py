"""A training image as a reader sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from volgrad.data.image.features import Feature
from volgrad.data.image.layout import FILES, check_bytes, read_head
from volgrad.errors import DamagedError, EmptyInputError, InputError, SchemaError

__all__ = ["Image", "check_clusters", "check_features"]

_FEW = 1_000_000  # clusters whose offsets and stamps (24 MB) are hashed whenever an image is opened: some 20 ms


@dataclass(frozen=True, eq=False)
class Image:
    """Rows of fixed width in clusters, in the order of time.

    Attributes:
        rows: the numbers; a map of the file where the image is one on disk. Shape: (rows, features).
        first_row: where each cluster's rows begin, and the number of rows. Shape: (clusters + 1,).
        start_us: when all inputs of a cluster are known, microseconds since 1970 UTC, ascending. Shape: (clusters,).
        known_us: when its labels are known; not before `start_us`. Shape: (clusters,).
        features: the columns.
        digest: SHA-256 of what it was derived from, its columns and its bytes.
        equal_rows: rows of every cluster where all have as many, else None.
        provenance: what it was derived from.
        folder: where it lies, or None.

    >>> image = Image.of(np.zeros((3, 1), np.float32), [2, 1], [10, 20], [11, 21], [Feature("price", "usd")])
    >>> image.clusters, image.n_rows, image.position("price"), image.counts.tolist()
    (2, 3, 0, [2, 1])
    """

    rows: Float32[np.ndarray, "rows features"]
    first_row: Int64[np.ndarray, " clusters+1"]
    start_us: Int64[np.ndarray, " clusters"]
    known_us: Int64[np.ndarray, " clusters"]
    features: tuple[Feature, ...]
    digest: str
    equal_rows: int | None
    provenance: dict[str, Any]
    folder: Path | None = None

    @classmethod
    def of(
        cls,
        rows: Float32[np.ndarray, "rows features"],
        counts: Sequence[int] | Int64[np.ndarray, " clusters"],
        start_us: Sequence[int] | Int64[np.ndarray, " clusters"],
        known_us: Sequence[int] | Int64[np.ndarray, " clusters"],
        features: Sequence[Feature],
    ) -> "Image":
        """An image in memory.

        Raises:
            SchemaError: features that do not fit the rows, or two of one name.
            EmptyInputError: no cluster.
            InputError: counts or stamps that contradict each other.
        """
        import hashlib

        rows = np.ascontiguousarray(rows, np.float32)
        check_features(features, rows.shape[1], "the image")
        counts, start, known = (np.asarray(values, np.int64) for values in (counts, start_us, known_us))
        check_clusters(counts, start, known, len(rows))
        if not len(counts):
            raise EmptyInputError("the image: no cluster was given")
        digest = hashlib.sha256(repr(list(features)).encode())
        for values in (rows, counts, start, known):
            digest.update(values.reshape(-1).view(np.uint8).data)
        first_row = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        equal = int(counts[0]) if (counts == counts[0]).all() else None
        return cls(rows, first_row, start, known, tuple(features), digest.hexdigest(), equal, {})

    @classmethod
    def open(cls, folder: str | Path, *, features: Sequence[Feature] | None = None, verify: bool = False) -> "Image":
        """Map an image's files into memory.

        Always checked: the digest of `image.json`, and the sizes of all files; the bytes of offsets and stamps, too,
        where there are less than a million clusters. All other bytes are hashed with `verify` only, which takes a
        second a gigabyte or so.

        Args:
            folder: where it lies.
            features: what its columns must be; None: anything.
            verify: hash every file.

        Raises:
            ForeignError: no image, or one of a later format.
            DamagedError: files cut short, missing or changed.
            SchemaError: other features than those asked for.
        """
        folder = Path(folder)
        head = read_head(folder)
        if features is not None:
            _check_same(head.features, features, folder)
        arrays = {}
        for name, dtype in FILES.items():
            if verify or (head.clusters <= _FEW and name != "rows.f32"):
                check_bytes(folder, name, head)
            arrays[name] = np.memmap(folder / name, dtype, "r")
        rows = arrays["rows.f32"].reshape(head.rows, len(head.features))
        first_row, start, known = arrays["first_row.i64"], arrays["start_us.i64"], arrays["known_us.i64"]
        if first_row[0] != 0 or first_row[-1] != head.rows:
            raise DamagedError(
                f"{folder}: offsets end at {first_row[-1]}, not {head.rows}; derive it again.", file=folder
            )
        columns = tuple(head.features)
        return cls(rows, first_row, start, known, columns, head.digest, head.equal_rows, head.provenance, folder)

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(self.start_us)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def counts(self) -> Int64[np.ndarray, " clusters"]:
        """Rows of each cluster."""
        return np.diff(self.first_row)

    def position(self, name: str) -> int:
        """The column of a feature.

        Raises:
            SchemaError: no such feature; the message names those there are.
        """
        names = [feature.name for feature in self.features]
        if name not in names:
            where = self.folder or "the image"
            raise SchemaError(f"{where}: no feature {name!r}; it has {', '.join(names)}")
        return names.index(name)


def check_features(features: Sequence[Feature], columns: int, where: object) -> None:
    """Refuse features that do not name each of `columns` columns once.

    Raises:
        SchemaError: they do not.
    """
    names = [feature.name for feature in features]
    if len(names) != columns or not names:
        raise SchemaError(f"{where}: {len(names)} features for {columns} columns; declare one each")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SchemaError(f"{where}: feature {twice[0]!r} is declared twice; names must differ")


def check_clusters(
    counts: Int64[np.ndarray, " clusters"],
    start_us: Int64[np.ndarray, " clusters"],
    known_us: Int64[np.ndarray, " clusters"],
    rows: int,
) -> None:
    """Refuse clusters whose counts or stamps contradict each other.

    Raises:
        InputError: they do; the message names the first cluster at fault.
    """
    if not len(counts) == len(start_us) == len(known_us):
        raise InputError(f"{len(counts)} counts, {len(start_us)} starts, {len(known_us)} label times: give one each")
    if (empty := np.flatnonzero(counts < 1)).size:
        raise InputError(f"cluster {empty[0]} has {counts[empty[0]]} rows: leave clusters without rows out")
    if counts.sum() != rows:
        raise InputError(f"the counts add up to {counts.sum()} rows, there are {rows}")
    if (back := np.flatnonzero(np.diff(start_us) < 0)).size:
        raise InputError(f"cluster {back[0] + 1} starts before the one in front of it: sort clusters by time")
    if (early := np.flatnonzero(known_us < start_us)).size:
        raise InputError(f"cluster {early[0]}: its labels are known before its inputs; check known_us")


def _check_same(found: Sequence[Feature], wanted: Sequence[Feature], folder: Path) -> None:
    if tuple(found) == tuple(wanted):
        return
    for place, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            raise SchemaError(
                f"{folder}: column {place} is {one.name} [{one.unit}] version {one.version}, and not {other.name} "
                f"[{other.unit}] version {other.version}; derive the image again.",
                file=folder,
            )
    raise SchemaError(f"{folder}: it has {len(found)} columns, not {len(wanted)}; derive it again.", file=folder)
