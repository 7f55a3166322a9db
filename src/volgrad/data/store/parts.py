"""Parts: Parquet files that are parsed only from bytes whose SHA-256 is the manifest's.

Encoding [measured on one core of an EPYC with a day of 5-minute tickers, 18 columns: write ns / read ns / bytes a
row]: dictionaries for columns that repeat, byte streams split for those that do not, lz4: 260 / 69 / 21; all plain
263 / 84 / 39; all split 230 / 84 / 54; dictionaries for all 269 / 70 / 22, yet 742 / 88 / 106 on numbers that never
repeat, where this choice takes 179 / 66 / 73. zstd level 1 in place of lz4: 302 / 95 / 18;
row groups of 2^18 in place of 2^17 rows, measured beside each other: 236 / 67 / 20.4 in place of 258 / 71 / 21.1.
"""

import hashlib
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from volgrad.data.columns import stamp_us
from volgrad.data.filters import chain_stamps
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import MAX_PART_ROWS, PartEntry
from volgrad.data.store.rows import SOURCE, TYPES, in_order, kinds_of
from volgrad.errors import DamagedError

__all__ = ["Part", "check_part", "make_part", "read_part"]

_ROW_GROUP = 1 << 18
_FEW_ROWS = 1 << 16  # to share the reading of fewer between threads takes longer than to read them
_SAMPLES = 512, 4096  # rows looked at: a thirty-second of a part, within these
_REPEATS = 0.9  # a column whose sample has fewer distinct values than this share gets a dictionary


class Part(NamedTuple):
    """A part that is ready to be written: its entry and the file's content."""

    entry: PartEntry
    content: memoryview


def make_part(partition: Partition, table: pa.Table) -> Part:
    """Encode rows of one partition.

    Args:
        partition: theirs.
        table: columns of the three types, and `source`: the id of each row's source, int32.
    """
    assert 0 < table.num_rows <= MAX_PART_ROWS
    table = in_order(table).unify_dictionaries().combine_chunks()
    stamps = stamp_us(chain_stamps(table))
    content = _encode(table)
    digest = hashlib.sha256(content).hexdigest()
    entry = PartEntry(
        path=f"{partition.folder}/{digest[:16]}.parquet",
        sha256=digest,
        bytes=len(content),
        rows=table.num_rows,
        from_us=int(stamps.min()),
        to_us=int(stamps.max()),
        columns=kinds_of(table),
        sources=_rows_by_source(table),
    )
    return Part(entry, content)


def _encode(table: pa.Table) -> memoryview:
    repeating: list[str] = []
    encoding: dict[str, str] = {}
    size = min(table.num_rows, max(_SAMPLES[0], min(table.num_rows // 32, _SAMPLES[1])))
    sample = pa.array(np.linspace(0, table.num_rows - 1, size).astype(np.int64))
    for field in table.schema:
        text = pa.types.is_dictionary(field.type) or field.name == SOURCE
        if text or len(table[field.name].take(sample).unique()) < _REPEATS * len(sample):
            repeating.append(field.name)
        else:
            encoding[field.name] = "DELTA_BINARY_PACKED" if pa.types.is_timestamp(field.type) else "BYTE_STREAM_SPLIT"
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(
        table,
        sink,
        row_group_size=_ROW_GROUP,
        compression="lz4",
        use_dictionary=repeating,  # pyright: ignore[reportArgumentType]  (the stubs know no list)
        column_encoding=encoding,
        write_page_checksum=True,
        write_statistics=False,  # the manifest has what prunes
    )
    return memoryview(sink.getvalue())


def check_part(root: Path, entry: PartEntry) -> memoryview:
    """The bytes of a part's file, once they are known to be those that were written.

    Raises:
        DamagedError: the file is missing, is no plain file inside the store, or has other bytes.
    """
    file = root / entry.path
    try:
        status = file.lstat()
        inside = file.resolve().is_relative_to(root.resolve())
        if not stat.S_ISREG(status.st_mode) or not inside:
            raise _damaged(file, "no plain file inside the store")
        if status.st_size != entry.bytes:
            raise _damaged(file, f"{status.st_size} bytes in place of {entry.bytes}")
        content = file.read_bytes()
    except OSError as error:
        raise _damaged(file, str(error.strerror or error)) from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise _damaged(file, "its SHA-256 is not the manifest's")
    return memoryview(content)


def read_part(root: Path, entry: PartEntry, names: frozenset[str] | None = None) -> pa.Table:
    """The rows of a part: columns of the three types, and `source` (ids, int32).

    Args:
        root: the store.
        entry: the part.
        names: columns to read, besides `source` (None: all); those that the part does not have are left out.

    Raises:
        DamagedError: as `check_part`, or the file is not what its entry says.
    """
    content = check_part(root, entry)
    file = root / entry.path
    try:
        with pyarrow.parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as parquet:
            schema = {field.name: field.type for field in parquet.schema_arrow}
            expected = {name: TYPES[kind] for name, kind in entry.columns.items()} | {SOURCE: pa.int32()}
            if schema != expected or parquet.metadata.num_rows != entry.rows:
                raise _damaged(file, "rows or columns are not the manifest's")
            wanted = [name for name in schema if names is None or name in names or name == SOURCE]
            table = parquet.read(columns=wanted, use_threads=entry.rows > _FEW_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, str(error).splitlines()[0]) from error
    if table.num_rows != entry.rows or _rows_by_source(table) != entry.sources:
        raise _damaged(file, "its rows, by source, are not the manifest's")
    return table


def _rows_by_source(table: pa.Table) -> dict[int, int]:
    ids = table[SOURCE].fill_null(-1).to_numpy()
    if ids.min(initial=0) < 0:
        return {}
    counts = np.bincount(ids)
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}


def _damaged(file: Path, why: str) -> DamagedError:
    return DamagedError(f"{file}: damaged or missing ({why}); nothing of it is used.", file=file)
