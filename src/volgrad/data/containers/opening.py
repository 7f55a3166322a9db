"""Which container a file is, by its first bytes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from volgrad.data.containers.arrow import open_ipc_file, open_ipc_stream, open_parquet, open_table
from volgrad.data.containers.block import Container
from volgrad.data.containers.cells import looks_like_cells, open_cells
from volgrad.data.containers.packed import packing, unpacked
from volgrad.errors import EmptyInputError, ForeignError

__all__ = ["Opened", "in_memory", "is_table", "open_container"]

_HEAD = 1 << 16
_BUFFER = 1 << 20  # of each column: without it a column of a row group is held whole
_TABLES = (".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv")
_MESSAGES = re.compile(rb"(\xef\xbb\xbf)?\s*([{\[]|wss?:|https?:|\d)")  # JSON, or a recording of it


@dataclass(frozen=True)
class Opened:
    """A source as found: rows in a `container`, or (None) text of another kind in `stream`, from its start.

    Attributes:
        container: the rows.
        head: the first bytes of the content, unpacked; at most 64 KiB.
        stream: the content, unpacked.
        packed: what the file is compressed with.
    """

    container: Container | None
    head: bytes = b""
    stream: BinaryIO | None = None
    packed: str | None = None


def is_table(source: object) -> bool:
    """Whether `source` offers the Arrow stream interface (pyarrow, Polars, pandas, DuckDB).

    >>> is_table(pa.table({"a": [1]})), is_table("quotes.parquet")
    (True, False)
    """
    return hasattr(source, "__arrow_c_stream__")


def in_memory(table: Any) -> Container:
    """A table's rows."""
    return open_table(table)


@contextmanager
def open_container(path: Path, *, plain_text: bool = False) -> Iterator[Opened]:
    """Open a file; it is closed when the block ends.

    Args:
        path: an existing file.
        plain_text: leave text as the file's schema has it; else a Parquet file gives it as dictionaries, which is
            how it holds it.

    Raises (then and while it is read):
        EmptyInputError: no byte.
        ForeignError: binary, and none of the formats that are read.
        DamagedError: it swells beyond bounds.
        OSError, EOFError, ValueError, pyarrow.ArrowException: it is damaged.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if not magic:
        raise EmptyInputError(f"{path}: the file is empty (0 bytes): nothing to read.", file=path)
    if magic[:4] == b"PAR1":
        texts = [] if plain_text else _texts(path)
        options = {"page_checksum_verification": True, "buffer_size": _BUFFER, "read_dictionary": texts}
        with pyarrow.parquet.ParquetFile(path, **options) as parquet:
            yield Opened(open_parquet(parquet, path))
        return
    if magic[:6] == b"ARROW1":
        with pa.memory_map(str(path)) as mapped:
            yield Opened(open_ipc_file(mapped, path))
        return
    packed = packing(magic)
    if packed == "zip":
        raise ForeignError(
            f"{path}: no file of quotes: it is compressed (zip); unpack it and give the files in it.", file=path
        )
    with unpacked(path, packed) as stream:
        yield _told(path, stream, packed)


def _texts(path: Path) -> list[str]:
    """Columns of plain text, which are then read as the dictionaries that the file holds."""
    schema = pyarrow.parquet.read_schema(path)
    return [
        column.name for column in schema if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ]


def _told(path: Path, stream: BinaryIO, packed: str | None) -> Opened:
    head = stream.peek(_HEAD)[:_HEAD]  # type: ignore[attr-defined] # a buffered reader
    if not head:
        raise EmptyInputError(f"{path}: unpacks to nothing (0 bytes).", file=path)
    if head[:4] == b"\xff\xff\xff\xff":
        return Opened(open_ipc_stream(stream, path, packed is not None), head, stream, packed)
    if head[:4] == b"PAR1" or head[:6] == b"ARROW1" or packing(head):
        what = "Parquet" if head[:4] == b"PAR1" else "Arrow IPC" if head[:5] == b"ARROW" else packing(head)
        raise ForeignError(f"{path}: {what} inside {packed}; unpack it once and try again.", file=path)
    if looks_like_cells(head):
        return Opened(open_cells(stream, str(path)), head, stream, packed)
    promised = next((name for name in _TABLES if path.name.lower().endswith(name)), None)
    if promised and head.startswith(b"#"):
        raise ForeignError(
            f"{path}: begins with a line of comment ({head.splitlines()[0][:40]!r}); the header must come first: "
            "remove what stands before it.",
            file=path,
        )
    if b"\0" in head or not _is_text(head) or (promised and not _MESSAGES.match(head)):
        said = f"its name says {promised} but" if promised else "no file of quotes:"
        inside = f" inside {packed}" if packed else ""
        raise ForeignError(
            f"{path}: {said} it starts with {head[:8]!r}{inside}; give Parquet, Arrow IPC, CSV or JSON.", file=path
        )
    return Opened(None, head, stream, packed)


def _is_text(head: bytes) -> bool:
    """Whether it reads as UTF-8, but for a letter cut at the end."""
    try:
        head[: max(len(head) - 3, 1)].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8 and len(head) > 8
    return True
