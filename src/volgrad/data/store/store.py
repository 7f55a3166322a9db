"""A store of canonical tables, as a reader sees it: one generation, of which only undamaged parts are returned."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from volgrad.data.columns import stamp_us
from volgrad.data.filters import chain_stamps
from volgrad.data.lock import locked
from volgrad.data.schema import Dataset
from volgrad.data.store.current import load
from volgrad.data.store.disk import Disk
from volgrad.data.store.facts import Damaged, Extent, Scanned, SourceFacts, extents
from volgrad.data.store.layout import LOCK, is_leftover, manifest_names
from volgrad.data.store.manifest import Manifest, PartEntry, is_store, sealed
from volgrad.data.store.parts import check_part, read_part
from volgrad.data.store.rows import SOURCE
from volgrad.data.store.shelf import Limits
from volgrad.data.store.writer import Writer
from volgrad.errors import DamagedError, InputError, WorkError

__all__ = ["Store"]

_LOCKED = "the store", "is writing to this store"  # for the message of `locked`


class Store:
    """One generation of a store; open it again to see later ones.

    Attributes:
        path: its folder.
        notes: sentences on damaged manifests.
        damaged: parts that were found damaged since this object was made.

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> bars = pa.table({"ts": [datetime(2026, 1, 5, tzinfo=UTC)], "ccy": ["BTC"], "close": [90000.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Store.create(folder).writer() as writer:
    ...         writer.begin("bars.csv", "bars")
    ...         print(writer.add(Dataset.BARS, bars), writer.add(Dataset.BARS, bars))
    ...         writer.end()
    ...         writer.commit()
    ...     print([scanned.table["source"].to_pylist() for scanned in Store.open(folder).scan(Dataset.BARS)])
    Added(rows=1, duplicates=0) Added(rows=0, duplicates=1)
    [['bars.csv']]
    """

    def __init__(self, path: Path, manifest: Manifest, notes: tuple[str, ...], disk: Disk) -> None:
        self.path, self.notes = path, notes
        self.damaged: list[Damaged] = []
        self._manifest, self._disk = manifest, disk
        self._sources = {source.id: source for source in manifest.sources}
        self._folders: dict[str, list[PartEntry]] = {}
        for entry in manifest.parts:
            self._folders.setdefault(entry.path.rpartition("/")[0], []).append(entry)
        self._sound: set[str] = set()

    @classmethod
    def open(cls, path: str | Path, disk: Disk | None = None) -> "Store":
        """Open the store in a folder.

        Args:
            path: the folder.
            disk: how files are written (tests let it fail).

        Raises:
            InputError: no store is there, or one of a later format.
            DamagedError: no generation of it is undamaged; an empty store is never given in its place.
        """
        current = load(Path(path))
        return cls(Path(path), current.manifest, current.notes, disk or Disk())

    @classmethod
    def create(cls, path: str | Path, disk: Disk | None = None) -> "Store":
        """Make an empty store in a folder that is empty or not there yet.

        Raises:
            InputError: something is there already.
            WorkError: the folder cannot be written.
        """
        root, disk = Path(path), disk or Disk()
        if root.exists() and not root.is_dir():
            raise InputError(f"{root}: a file is here; name a folder for the store.", file=root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with locked(root, LOCK, *_LOCKED):
                if is_store(root):
                    raise InputError(f"{root}: a store is here already; open it.", file=root)
                if other := [file.name for file in root.iterdir() if file.name != LOCK and not is_leftover(file.name)]:
                    raise InputError(
                        f"{root}: the folder holds {min(other)!r} and is no store; name an empty or new folder.",
                        file=root,
                    )
                for name in manifest_names(0):
                    disk.put(root / name, sealed(Manifest.empty()), durable=True)
                disk.sync([], root)
        except OSError as error:
            raise WorkError(f"{root}: no store could be made ({error.strerror or error}).") from error
        return cls.open(root, disk)

    def remove_empty(self) -> None:
        """Take away a store that holds nothing, and its folder where nothing else is in it.

        Raises:
            ValueError: it holds rows.
        """
        if self._manifest.parts:
            raise ValueError(f"{self.path} holds rows: only an empty store can be removed")
        for name in (*manifest_names(self.generation), LOCK):
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    @property
    def generation(self) -> int:
        """Commits since the store was made."""
        return self._manifest.generation

    @contextlib.contextmanager
    def writer(self, limits: Limits | None = None) -> Iterator[Writer]:
        """The one writer of the store, from its newest generation on; what it has not committed at the end is gone.

        Raises:
            WorkError: another process is writing, or the disk fails.
            InputError, DamagedError: as `open`.
        """
        with locked(self.path, LOCK, *_LOCKED):
            writer = Writer(self.path, self._disk, limits or Limits())
            try:
                yield writer
            finally:
                writer.close()

    def scan(
        self,
        dataset: Dataset = Dataset.QUOTES,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        underlying: Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
    ) -> Iterator[Scanned]:
        """Read rows part by part, in order of day, underlying and time.

        Args:
            dataset: which rows.
            from_us, to_us: first and last stamp of their chains (`cycle` where given, else `ts`), both included.
            underlying: names as in the folders; None: all.
            columns: names to read; None: all. A part has those columns only that its sources had.

        Yields:
            The rows of a part that are within these bounds. A damaged part is never among them: it is named in
            `damaged`, for the caller to refuse or to tell.

        Raises:
            WorkError: writers replaced the parts while they were read.
        """
        window = (-np.inf if from_us is None else from_us, np.inf if to_us is None else to_us)
        names = None if columns is None else frozenset(columns)
        for entry in self._chosen(dataset, window, underlying):
            inside = window[0] <= entry.from_us and entry.to_us <= window[1]
            try:
                table = read_part(self.path, entry, names if inside or names is None else names | {"ts", "cycle"})
            except DamagedError as error:
                self._set_aside(entry, error)
                continue
            self._sound.add(entry.path)
            if not inside:
                stamps = stamp_us(chain_stamps(table))
                table = table.filter(pa.array((stamps >= window[0]) & (stamps <= window[1])))
            if table.num_rows:
                yield self._scanned(entry, table, names)

    def describe(self) -> tuple[Extent, ...]:
        """Rows, bytes and extent by dataset and underlying, from the manifest alone."""
        return extents(self._manifest.parts)

    @property
    def sources(self) -> tuple[SourceFacts, ...]:
        """All sources in the order in which they came."""
        rows = self._manifest.rows_by_source()
        return tuple(SourceFacts(s, rows[s.id], s.read - rows[s.id]) for s in self._manifest.sources)

    def verify(self) -> tuple[Damaged, ...]:
        """Check every byte of every part; the damaged ones, which are then in `damaged` too."""
        for entry in self._manifest.parts:
            self._is_sound(entry)
        return tuple(self.damaged)

    def has_source(self, sha256: str) -> bool:
        """Whether a source of this content is there, whole, and no part that may hold a row of it damaged."""
        return any(
            all(self._is_sound(entry) for folder in source.partitions for entry in self._folders.get(folder, ()))
            for source in self._manifest.sources
            if source.sha256 == sha256 and source.whole
        )

    def _chosen(
        self, dataset: Dataset, window: tuple[float, float], underlying: Iterable[str] | None
    ) -> list[PartEntry]:
        wanted = None if underlying is None else frozenset(underlying)
        chosen = [
            (entry.partition.first_day, entry.partition.underlying, entry.from_us, entry.path, entry)
            for entry in self._manifest.parts
            if entry.partition.dataset is dataset
            and (wanted is None or entry.partition.underlying in wanted)
            and entry.from_us <= window[1]
            and window[0] <= entry.to_us
        ]
        return [entry for *_, entry in sorted(chosen, key=lambda one: one[:4])]

    def _scanned(self, entry: PartEntry, table: pa.Table, names: frozenset[str] | None) -> Scanned:
        sources = tuple(self._sources[number] for number in entry.sources)
        position = np.full(max(entry.sources) + 1, -1, np.int32)
        position[list(entry.sources)] = np.arange(len(sources))
        codes = pa.array(position[table[SOURCE].to_numpy()])
        named = pa.DictionaryArray.from_arrays(codes, pa.array([source.name for source in sources], pa.string()))
        kept = [name for name in table.column_names if name != SOURCE and (names is None or name in names)]
        return Scanned(table.select(kept).append_column(SOURCE, named), entry.path, entry.partition, sources)

    def _is_sound(self, entry: PartEntry) -> bool:
        if entry.path not in self._sound:
            try:
                check_part(self.path, entry)
            except DamagedError as error:
                self._set_aside(entry, error)
                return False
            self._sound.add(entry.path)
        return True

    def _set_aside(self, entry: PartEntry, error: DamagedError) -> None:
        newest = load(self.path)
        if newest.manifest.generation > self.generation and entry.path not in newest.manifest.paths | newest.previous:
            raise WorkError(f"{self.path}: writers replaced what was being read; read it again.") from error
        names = tuple(self._sources[number].name for number in entry.sources)
        damaged = Damaged(entry.path, str(error), entry.rows, names)
        if damaged not in self.damaged:
            self.damaged.append(damaged)
