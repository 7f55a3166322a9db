"""Writing results: whole or not at all (a temporary file beside the target, then a rename)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float

from volgrad.data.query import QUERY_KEYS, Asked
from volgrad.errors import WorkError

__all__ = ["replacing", "write_grid", "write_predictions", "write_table"]


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes the place of `path` when the block ends well, and vanishes when it
    does not.

    Directories on the way are made. The content is on the disk before the rename.

    Raises:
        WorkError: the file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WorkError(
            f"{target}: could not be written ({error.strerror or error}); check free space and permissions."
        ) from error


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write a table as Parquet, with page checksums; raises as :func:`replacing`."""
    with replacing(path) as stream:
        pyarrow.parquet.write_table(_storable(table), stream, compression="zstd", write_page_checksum=True)


def write_predictions(path: str | Path, query: Asked, iv: Float[np.ndarray, " rows"]) -> None:
    """Write `predictions.parquet`: the query's key columns as they came, then `iv`.

    Args:
        path: the file.
        query: rows in their order; columns `split` (if given), `ts`, `ccy`, `expiry`, `strike`, `cp` are
            copied.
        iv: implied volatility of each row, a fraction; NaN where there is none.

    Raises:
        ValueError: `iv` has another number of rows.
        WorkError: the file cannot be written.
    """
    keys = [name for name in QUERY_KEYS if name in query.table.column_names]
    write_table(path, _with_iv(query.table.select(keys), iv))


def write_grid(path: str | Path, grid: Asked, iv: Float[np.ndarray, " rows"]) -> None:
    """Write `grid.parquet`: all columns of the grid as they came, `iv` (a fraction) filled or added as the
    last one.
    """
    write_table(path, _with_iv(grid.table, iv))


def _with_iv(table: pa.Table, iv: Float[np.ndarray, " rows"]) -> pa.Table:
    if len(iv) != table.num_rows:
        raise ValueError(f"iv has {len(iv)} rows, the table {table.num_rows}: give one volatility a row")
    column = pa.array(np.asarray(iv, np.float64))
    if "iv" in table.column_names:
        return table.set_column(table.column_names.index("iv"), "iv", column)
    return table.append_column("iv", column)


def _storable(table: pa.Table) -> pa.Table:
    """Parquet has no dictionaries of string views (Polars gives them for categories): make them large
    strings.
    """
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and pa.types.is_string_view(field.type.value_type):
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.large_string()))
                for chunk in table.column(index).chunks
            ]
            kind = pa.dictionary(field.type.index_type, pa.large_string())
            table = table.set_column(index, field.name, pa.chunked_array(chunks, kind))
    return table
