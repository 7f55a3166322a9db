"""A store's parts and sources under a writer's hands: what is damaged leaves, what is new comes, all is sealed."""

import contextlib
import os
from pathlib import Path

import msgspec

from volgrad.data.schema import Dataset
from volgrad.data.store.current import load
from volgrad.data.store.disk import Disk
from volgrad.data.store.facts import listed
from volgrad.data.store.layout import Partition, is_leftover, manifest_names, partition_at
from volgrad.data.store.manifest import PartEntry, SourceEntry, sealed
from volgrad.data.store.parts import check_part
from volgrad.errors import DamagedError

__all__ = ["Ledger"]


class Ledger:
    """Parts and sources of the next generation; the store's lock must be held.

    Opening it mends what can be mended without the sources: it removes the files that a killed writer left, writes a
    lost copy of the manifest again, and takes parts that are gone or of another size out of the next generation.

    Attributes:
        root: the store's folder.
        parts: parts by partition.
        sources: sources by their id.
        notes: sentences on what was damaged and what to do about it.
    """

    def __init__(self, root: Path, disk: Disk) -> None:
        current = load(root)
        self.root, self._disk = root, disk
        self.notes = list(current.notes)
        self.parts: dict[Partition, list[PartEntry]] = {}
        for entry in current.manifest.parts:
            self.parts.setdefault(entry.partition, []).append(entry)
        self.sources: dict[int, SourceEntry] = {}
        self._numbers: dict[tuple[str, str, str | None], int] = {}
        self._by_content: dict[str, set[int]] = {}
        for source in current.manifest.sources:
            self.enter(source)
        self._manifest, self._previous = current.manifest, current.previous
        self._highest, self._files = current.highest, set(current.files)
        self._sound: set[str] = set()
        self._remove_leftovers()
        if current.twin_missing:
            for name in manifest_names(self.generation):
                disk.put(root / name, sealed(self._manifest), durable=True)
                self._files.add(name)
            disk.sync([], root)
        for entry in current.manifest.parts:
            self._glance(entry)

    @property
    def generation(self) -> int:
        """The generation that readers see."""
        return self._manifest.generation

    def holds(self, sha256: str) -> bool:
        """Whether a source with this content is in the store, whole, and every part that may hold a row of it sound."""
        return any(self._is_whole(self.sources[number]) for number in self._by_content.get(sha256, ()))

    def _is_whole(self, source: SourceEntry) -> bool:
        """Every part of the partitions that the source has touched is looked at: rows that it did not bring, because
        they were there already, may be in any of them.
        """
        touched = (partition_at(folder) for folder in source.partitions)
        entries = [entry for partition in touched if partition for entry in self.parts.get(partition, ())]
        sound = [self._is_sound(entry) for entry in entries]  # all of them: what is damaged is to be told
        return source.whole and all(sound)

    def number(self, name: str, kind: str, sha256: str | None) -> int:
        """The id of a source: the one it had when it came before, or the next."""
        return self._numbers.get((name, kind, sha256), max(self.sources, default=-1) + 1)

    def enter(self, source: SourceEntry) -> None:
        """Let a source into the next generation."""
        self.sources[source.id] = source
        self._numbers[source.name, source.kind, source.sha256] = source.id
        if source.sha256 is not None:
            self._by_content.setdefault(source.sha256, set()).add(source.id)

    def lose(self, entry: PartEntry, why: str) -> None:
        """Take a damaged part out of the next generation; its sources are no longer whole."""
        self.parts[entry.partition].remove(entry)
        folder = entry.partition.folder
        for source in self.sources.values():
            if folder in source.partitions:
                self.sources[source.id] = msgspec.structs.replace(source, whole=False)
        names = [self.sources[number].name for number in entry.sources]
        self.notes.append(
            f"{why} Its {entry.rows} rows leave the store with the next commit; ingest again: {listed(names)}."
        )

    def commit(self, parts: dict[Partition, list[PartEntry]], unsynced: list[PartEntry]) -> None:
        """Make these parts, and the sources, the next generation.

        Args:
            parts: all parts of the next generation by partition.
            unsynced: those among them that were written since the last commit.

        Raises:
            OSError: it could not be written; the generation before stays.
        """
        generation = self._highest + 1
        entries = tuple(entry for several in parts.values() for entry in several)
        manifest = self._manifest.following(generation, entries, tuple(self.sources.values()))
        content = sealed(manifest)
        self._disk.sync((self.root / entry.path for entry in unsynced), self.root)
        first, second = manifest_names(generation)
        try:
            self._disk.put(self.root / first, content, durable=True)  # from here on readers see it
            self._disk.sync([], self.root)
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.remove(self.root / first)
            raise
        before = self._manifest
        outdated = (self._previous | before.paths) - before.paths - manifest.paths
        self._manifest, self._previous, self._highest = manifest, frozenset(before.paths), generation
        self.parts = {partition: list(several) for partition, several in parts.items()}
        with contextlib.suppress(OSError):  # the copy and the cleaning may fail: the next writer sees to it
            self._disk.put(self.root / second, content, durable=True)
            self._disk.sync([], self.root)
            kept = {*manifest_names(generation), *manifest_names(before.generation)}
            for name in sorted(self._files - kept):
                self._disk.remove(self.root / name)
            self._files = kept
            for path in sorted(outdated):
                self._disk.remove(self.root / path)

    def changed(self) -> bool:
        """Whether parts or sources differ from the generation that readers see."""
        parts = sorted(entry.path for several in self.parts.values() for entry in several)
        return parts != sorted(self._manifest.paths) or tuple(self.sources.values()) != self._manifest.sources

    def _glance(self, entry: PartEntry) -> None:
        """Lose a part whose file is gone or of another size: a look at each that costs no reading."""
        file = self.root / entry.path
        try:
            size = file.stat().st_size
        except OSError as error:
            self.lose(entry, f"{file}: {error.strerror or error}.")
            return
        if size != entry.bytes:
            self.lose(entry, f"{file}: {size} bytes in place of {entry.bytes}.")

    def _is_sound(self, entry: PartEntry) -> bool:
        if entry.path not in self._sound:
            try:
                check_part(self.root, entry)
            except DamagedError as error:
                self.lose(entry, str(error))
                return False
            self._sound.add(entry.path)
        return True

    def _remove_leftovers(self) -> None:
        """Remove the files that a killed writer left: those of a store's names that no kept generation refers to."""
        kept = self._manifest.paths | self._previous
        for file in (entry for entry in self.root.iterdir() if is_leftover(entry.name)):
            self._disk.remove(file)
        for dataset in Dataset:
            for folder, inside, names in os.walk(self.root / dataset.value, followlinks=False):
                inside.sort()
                for name in sorted(names):
                    file = Path(folder, name)
                    if is_leftover(name) and file.relative_to(self.root).as_posix() not in kept:
                        self._disk.remove(file)
