"""Which files a path names, and reading one whole; what cannot be read is set aside by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from volgrad.data.containers import Pick, is_table, open_container
from volgrad.data.damage import damage
from volgrad.data.store.manifest import is_store
from volgrad.errors import DamagedError, InputError, SchemaError

__all__ = ["Quarantined", "expand", "is_table", "read_whole"]

_SUFFIXES = (
    *(".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv"),
    *(".json", ".jsonl", ".ndjson", ".txt", ".log"),  # recorded sessions are often called .txt
)
_PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
SUFFIXES = tuple(name + packed for name in _SUFFIXES for packed in _PACKED)


@dataclass(frozen=True)
class Quarantined:
    """A file that was set aside, and why; the others are read. `error` is what to raise where none is
    left.
    """

    file: str
    why: str
    error: type[InputError] = InputError

    @classmethod
    def of(cls, name: str, error: InputError) -> "Quarantined":
        """The file that `error` is about."""
        return cls(name, str(error).removeprefix(f"{name}: "), type(error))


def expand(path: str | Path) -> list[Path]:
    """A file or a store as it is; another directory as its data files (at any depth, in order of name; hidden and
    temporary ones not).

    Raises:
        InputError: nothing there, or a directory without a data file.

    >>> expand("no/such/file.parquet")
    Traceback (most recent call last):
    ...
    volgrad.errors.InputError: no/such/file.parquet: no such file or directory; check the path.
    """
    where = Path(path)
    if not where.exists():
        raise InputError(f"{where}: no such file or directory; check the path.", file=str(where))
    if not where.is_dir() and not where.is_file():
        raise InputError(f"{where}: a pipe or device; a source is read more than once: save it as a file.", file=where)
    if where.is_file() or is_store(where):
        return [where]
    inside = list(_inside(where))
    files = [p for p in inside if p.is_dir() or (p.name.lower().endswith(SUFFIXES) and not _is_truth(p))]
    if not files:
        raise InputError(
            f"{where}: no data file in this directory ({len(inside)} files, none of {', '.join(_SUFFIXES)}).",
            file=str(where),
        )
    return files


def _is_truth(file: Path) -> bool:
    """Whether it stands beside simulated quotes, and is none."""
    return file.name in ("truth.parquet", "market.json") and (file.parent / "market.json").exists()


def _inside(folder: Path) -> Iterator[Path]:
    """Files at any depth in order of name, and stores as they are; hidden and temporary ones not."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir() and not is_store(path):
            yield from _inside(path)
        elif path.is_dir() or path.is_file():
            yield path


def read_whole(path: Path) -> pa.Table:
    """All rows and columns of a Parquet, Arrow IPC or CSV file, in the types that the file has.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    name = str(path)
    with damage(name), open_container(path, plain_text=True) as opened:
        if opened.container is None:
            raise InputError(
                f"{name}: no file of quotes: it starts with {opened.head[:8]!r}; give Parquet, Arrow IPC or CSV.",
                file=name,
            )
        container = opened.container
        for twice in {n for n in container.names if container.names.count(n) > 1}:
            raise SchemaError(f"{name}: the column {twice} is there {container.names.count(twice)} times.", file=name)
        blocks = list(container.read(Pick(types=None)))
        if lines := sum(block.malformed for block in blocks):
            raise DamagedError(f"{name}: {lines} lines cannot be taken apart; mend or remove them.", file=name)
        return pa.concat_tables([block.table for block in blocks] or [container.empty], promote_options="permissive")
