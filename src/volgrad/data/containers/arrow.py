"""Parquet and Arrow IPC files, and tables in memory, as blocks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from volgrad.data.containers.block import Block, Container, Pick, checked
from volgrad.data.containers.claims import claimed_bytes
from volgrad.data.containers.packed import LARGEST_RATIO, UNBOUNDED
from volgrad.errors import DamagedError

__all__ = ["open_ipc_file", "open_ipc_stream", "open_parquet", "open_table"]

_MAGIC = 8  # bytes before the first message of an IPC file
_FEW = 8  # batches of a block that are not worth a copy
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def open_parquet(file: pyarrow.parquet.ParquetFile, path: Path) -> Container:
    """The rows of an open Parquet file, page by page, checksums verified where pages have them.

    The metadata of single columns is never looked at: pyarrow ends the process over a damaged one.
    """
    schema = file.schema_arrow
    empty = schema.empty_table()
    _ = checked(empty)
    claimed = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
    _refuse_swelling(max(claimed, file.metadata.num_rows), path)

    def read(pick: Pick) -> Iterator[Block]:
        given = 0
        for batch in file.iter_batches(pick.rows, columns=pick.of(schema.names), use_threads=False):
            given += batch.num_rows
            yield Block(checked(pa.Table.from_batches([batch])))
        if given != file.metadata.num_rows:  # a damaged page header may end a column early
            raise pa.ArrowInvalid(f"{given:,} rows where {file.metadata.num_rows:,} are claimed")

    return Container(tuple(schema.names), read, empty)


def _refuse_swelling(claimed: int, path: Path) -> None:
    size = path.stat().st_size
    if claimed > UNBOUNDED + LARGEST_RATIO * size:
        raise DamagedError(
            f"{path}: claims to hold {claimed:,} bytes or rows in {size:,} bytes; no file of quotes does: "
            "leave it out or fetch it again.",
            file=path,
        )


def open_ipc_file(mapped: pa.MemoryMappedFile, path: Path) -> Container:
    """The record batches of an Arrow IPC file."""
    _refuse_swelling(claimed_bytes(pa.BufferReader(mapped.read_buffer().slice(_MAGIC))), path)
    schema = pyarrow.ipc.open_file(mapped).schema

    def read(pick: Pick) -> Iterator[Block]:
        included = [schema.names.index(name) for name in pick.of(schema.names)]
        options = pyarrow.ipc.IpcReadOptions(included_fields=included, use_threads=False)
        with pyarrow.ipc.open_file(mapped, options=options) as reader:
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield from _sliced(batches, pick.rows)

    return Container(tuple(schema.names), read, checked(schema.empty_table()))


def open_ipc_stream(stream: BinaryIO, path: Path, packed: bool) -> Container:
    """The record batches of an Arrow IPC stream; one without its end mark was cut."""
    if not packed:
        with pa.memory_map(str(path)) as mapped:
            content = mapped.read_buffer()
            if content.slice(max(content.size - len(_END_OF_STREAM), 0)).to_pybytes() != _END_OF_STREAM:
                raise pa.ArrowInvalid("the Arrow stream has no end mark")
            _refuse_swelling(claimed_bytes(pa.BufferReader(content)), path)
    return _of_reader(pyarrow.ipc.open_stream(stream), trusted=False)


def open_table(table: Any) -> Container:
    """The rows of anything with `__arrow_c_stream__`, taken as they come."""
    return _of_reader(pa.RecordBatchReader.from_stream(table), trusted=True)


def _of_reader(reader: pa.RecordBatchReader, *, trusted: bool) -> Container:
    def read(pick: Pick) -> Iterator[Block]:
        columns = pick.of(reader.schema.names)
        yield from _sliced((batch.select(columns) for batch in reader), pick.rows, trusted=trusted)

    return Container(tuple(reader.schema.names), read, checked(reader.schema.empty_table()))


def _sliced(batches: Iterator[pa.RecordBatch], rows: int, *, trusted: bool = False) -> Iterator[Block]:
    """Blocks of `rows` rows at most: small batches together, large ones in parts, without copies."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += batch.num_rows
        if held >= rows:
            yield from _blocks(waiting, rows, trusted)
            waiting, held = [], 0
    if waiting:
        yield from _blocks(waiting, rows, trusted)


def _blocks(batches: list[pa.RecordBatch], rows: int, trusted: bool) -> Iterator[Block]:
    table = pa.Table.from_batches(batches)
    if not trusted:
        checked(table)
    if len(batches) > _FEW:
        table = table.combine_chunks()
    for start in range(0, max(table.num_rows, 1), rows):
        yield Block(table.slice(start, rows))
