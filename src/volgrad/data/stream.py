"""Any source of quotes as a stream of canonical blocks; memory holds a few blocks, whatever the size of the source.

>>> from datetime import datetime, timezone
>>> import pyarrow as pa
>>> now, then = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 27, 8, tzinfo=timezone.utc)
>>> quotes = pa.table({"ts": [now] * 3, "ccy": ["BTC"] * 3, "expiry": [then] * 3, "strike": [8e4, 9e4, 0.0],
...                    "cp": ["P", "C", "C"], "bid": [0.03, 0.05, 0.1], "ask": [0.04, 0.06, 0.2]})
>>> for block in stream(quotes, block_rows=2):
...     print(block.table.num_rows, block.kind.value, block.reason.tolist())
2 canonical [0, 0]
1 canonical [9]
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from volgrad.data import formats
from volgrad.data.canonical import Canonical, Canonicaliser, piece_layout
from volgrad.data.containers import Container, Opened, Pick, in_memory, open_container
from volgrad.data.damage import damage
from volgrad.data.formats.side import SideCanonicaliser
from volgrad.data.layouts import recognise
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import EmptyInputError, ForeignError, InputError, SchemaError

__all__ = ["BLOCK_ROWS", "stream"]

BLOCK_ROWS = 262_144


def stream(
    item: str | Path | Any,
    *,
    name: str | None = None,
    block_rows: int = BLOCK_ROWS,
    wanted: Collection[str] | None = None,
    kind: SourceKind | None = None,
    underlying: str | None = None,
) -> Iterator[Canonical]:
    """Canonical blocks of one source, with what is wrong with each row.

    A source is whole or nothing: whoever collects the blocks drops them all where an exception ends the stream,
    for damage and wrong units may show at the very end.

    Args:
        item: an existing file in any format, or a table with `__arrow_c_stream__`.
        name: what to call it in messages (default: the path, or "table").
        block_rows: rows of a block at most.
        wanted: canonical columns of use beside those that a quote must have (None: all).
        kind: what a table of canonical names is said to be (None: told by its columns).
        underlying: the underlying of a source that does not say it.

    Yields:
        At least one block, if only an empty one.

    Raises:
        DamagedError: the file is cut short, corrupt, or swells beyond bounds.
        ForeignError: it holds something else.
        SchemaError: a column is missing, renamed or of the wrong type.
        UnitsError: volatilities cannot be in the unit of this kind of source.
        EmptyInputError: a file without a byte or a record.
    """
    if block_rows < 1:
        raise ValueError(f"block_rows is {block_rows}: give 1 or more")
    if not isinstance(item, str | Path):
        source = name or "table"
        yield from _tabular(in_memory(item), source, Pick(rows=block_rows), (wanted, kind, underlying))
        return
    source = name or str(item)
    with damage(source), open_container(Path(item)) as opened:
        if opened.container is not None:
            yield from _tabular(opened.container, source, Pick(rows=block_rows), (wanted, kind, underlying))
        else:
            yield from _decoded(opened, source, underlying)


def _tabular(
    container: Container,
    source: str,
    pick: Pick,
    options: tuple[Collection[str] | None, SourceKind | None, str | None],
) -> Iterator[Canonical]:
    """The blocks of a container: quotes by their layout, else what `formats` makes of the columns."""
    wanted, kind, underlying = options
    try:
        whole = recognise(container.names, source, kind)
    except (SchemaError, ForeignError):
        reader = _reader(container, source, underlying)
        if reader is None:
            raise
        yield from _pieces(_decoded_tables(container, reader, pick), source)
        return
    layout = whole.only(wanted)
    work = Canonicaliser(source, layout, whole.unused(container.names))
    read = 0
    for block in container.read(Pick(layout.names, layout.cell_types, pick.rows)):
        read += 1
        yield work.add(block.table, block.malformed)
    work.finish()
    if container.notes or not read:
        yield work.add(container.empty.select(layout.names), notes=container.notes)


def _reader(container: Container, source: str, underlying: str | None) -> formats.TableReader | None:
    try:
        return formats.tabular(container.names, source, underlying)
    except InputError as error:  # it cannot be told what the table is of: certainly not quotes
        raise ForeignError(str(error), file=source) from error


def _decoded_tables(container: Container, reader: formats.TableReader, pick: Pick) -> Iterator[Piece]:
    for block in container.read(Pick(None, {}, pick.rows)):
        piece = reader.add(block.table)
        yield piece._replace(malformed=piece.malformed + block.malformed)
    yield from reader.finish()


def _decoded(opened: Opened, source: str, underlying: str | None) -> Iterator[Canonical]:
    assert opened.stream is not None
    yield from _pieces(formats.decode(opened.head, opened.stream, source, underlying), source)


def _pieces(pieces: Iterator[Piece], source: str) -> Iterator[Canonical]:
    """Decoded pieces as canonical blocks; one source may hold several datasets and kinds."""
    works: dict[tuple[SourceKind, tuple[str, ...]], Canonicaliser] = {}
    side = SideCanonicaliser(source)
    read = 0
    for piece in pieces:
        read += 1
        if piece.dataset is not Dataset.QUOTES:
            yield side.add(piece)
            continue
        key = (piece.kind, tuple(piece.table.column_names))
        if key not in works:
            works[key] = Canonicaliser(source, piece_layout(piece, source))
        yield replace(works[key].add(piece.table, piece.malformed, piece.notes), extra=piece.extra)
    for work in (*works.values(), side):
        work.finish()
    if not read:
        raise EmptyInputError(f"{source}: no record in it; nothing to read.", file=source)
