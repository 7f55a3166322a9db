"""Which generation of a store to use: the highest one with an undamaged manifest."""

from pathlib import Path

import msgspec

from volgrad.data.store.layout import manifest_generation, manifest_names
from volgrad.data.store.manifest import Manifest, manifest_files, unsealed
from volgrad.errors import DamagedError, InputError

__all__ = ["Current", "load"]

_READ_AGAIN = 5  # times, while writers replace generations under the reader's hands


class Current(msgspec.Struct, frozen=True):
    """The generation to use, and what was seen on the way to it.

    Attributes:
        manifest: the highest generation that is undamaged.
        previous: paths of the parts that the generation before refers to.
        files: names of all manifest files there.
        notes: sentences on what is damaged.
        highest: the highest generation that any file is named after.
        twin_missing: one of the current generation's two files is missing or damaged.
    """

    manifest: Manifest
    previous: frozenset[str]
    files: tuple[str, ...]
    notes: tuple[str, ...]
    highest: int
    twin_missing: bool


def load(root: Path) -> Current:
    """Read the highest generation of the store in `root` that is undamaged.

    Raises:
        InputError: no store is there.
        DamagedError: no generation is left undamaged, or a manifest was forged.
    """
    files = manifest_files(root)
    current = _newest(root, files)
    for _ in range(_READ_AGAIN):
        now = manifest_files(root)
        if set(files) <= set(now):
            break  # no writer has removed what was looked at
        files, current = now, _newest(root, now)
    if not files:
        raise InputError(f"{root}: no store is here (no manifest); `volgrad ingest SRC... --out {root}` makes one.")
    if current is None:
        raise DamagedError(
            f"{root}: every manifest of this store is damaged ({', '.join(files)}); "
            "ingest its sources again into a new store.",
            file=root / files[-1],
        )
    return current


def _newest(root: Path, files: list[str]) -> Current | None:
    numbers = sorted({n for name in files if (n := manifest_generation(name)) is not None}, reverse=True)
    notes: list[str] = []
    for position, generation in enumerate(numbers):
        manifest, said, whole = _generation(root, generation)
        notes += said
        if manifest is None:
            continue
        if position:
            notes.append(
                f"{root}: generation {numbers[0]} is damaged, generation {generation} is used; "
                "what was ingested since is not in it: ingest those sources again."
            )
        before = (_generation(root, older)[0] for older in numbers[position + 1 :])
        previous = next((older.paths for older in before if older is not None), set())
        return Current(manifest, frozenset(previous), tuple(files), tuple(notes), numbers[0], not whole)
    return None


def _generation(root: Path, generation: int) -> tuple[Manifest | None, list[str], bool]:
    """One generation from the first of its two files that is sound, what was wrong with them, and whether
    both are sound.
    """
    found, notes, whole = None, [], True
    for name in manifest_names(generation):
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            whole = False
            if found is None:  # a missing copy does no harm, and is no news while a writer is at work
                notes.append(f"{root / name}: {error.strerror or error}; its copy is used where that is sound.")
            continue
        manifest = unsealed(content, root / name)
        if manifest is None or manifest.generation != generation:
            whole = False
            notes.append(f"{root / name}: damaged, its SHA-256 does not hold; its twin is used where that is sound.")
            continue
        found = found or manifest
    return found, notes, whole
