"""Rows on their way into a store: three types of columns, each row with its partition and its hash."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data import columns
from volgrad.data.columns import NO_STAMP, stamp_us, text_codes
from volgrad.data.filters import chain_stamps
from volgrad.data.schema import CANONICAL, ColumnKind, Dataset
from volgrad.data.store.identity import Lanes, row_hashes
from volgrad.data.store.layout import DAY_US, Partition, first_days, is_underlying
from volgrad.errors import SchemaError

__all__ = ["SOURCE", "Piece", "canonical_types", "in_order", "kinds_of", "partitioned"]

SOURCE = "source"
TYPES = {
    ColumnKind.STAMP: columns.STAMP_TYPE,
    ColumnKind.TEXT: columns.TEXT_TYPE,
    ColumnKind.NUMBER: pa.float64(),
}
_KINDS = {dtype: kind for kind, dtype in TYPES.items()}
_CANONICAL = {column.name: column.kind for column in CANONICAL}
_SHORT_RUN = 512  # rows of one partition in a row; below, gathering all is faster [measured, 18 columns]
_DAYS = (-719_162, 2_932_896)  # of the years 1 to 9999, which a folder's name can say


class Piece(NamedTuple):
    """Rows of one partition, in their order, with their hashes and their chains' stamps."""

    partition: Partition
    table: pa.Table
    hashes: Lanes
    stamp_us: Int[np.ndarray, " rows"]


def canonical_types(table: pa.Table, what: str) -> pa.Table:
    """The table with stamps `timestamp[us, UTC]`, text dictionary-encoded and numbers float64.

    Args:
        table: columns of whatever encoding; stamps without a time zone are UTC, ns are cut to us.
        what: the source's name, for messages.

    Raises:
        SchemaError: a column is neither stamps, text nor numbers, or is called `source`.
    """
    taken: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        if name == SOURCE or name in taken:
            raise SchemaError(f"{what}: the column {name!r} cannot be stored under this name; rename it.", file=what)
        column, dtype = table[name], table[name].type
        if _KINDS.get(dtype) in (ColumnKind.STAMP, ColumnKind.NUMBER):
            taken[name] = column
        elif pa.types.is_null(dtype):
            if name in _CANONICAL:
                taken[name] = column.cast(TYPES[_CANONICAL[name]])
        elif pa.types.is_timestamp(dtype):
            micros = column.cast(pa.timestamp("us", tz=dtype.tz), safe=False)
            taken[name] = micros.cast(pa.int64()).cast(columns.STAMP_TYPE)
        elif pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
            taken[name] = column.cast(pa.float64())
        else:
            taken[name] = columns.text(column, name, what)
    return pa.table(taken)


def kinds_of(table: pa.Table) -> dict[str, ColumnKind]:
    """What each column holds; `source` is left out."""
    return {field.name: _KINDS[field.type] for field in table.schema if field.name != SOURCE}


def in_order(table: pa.Table) -> pa.Table:
    """Canonical columns in the canonical order, then the others."""
    names = [name for name in _CANONICAL if name in table.column_names]
    return table.select(names + [name for name in table.column_names if name not in _CANONICAL])


def partitioned(dataset: Dataset, table: pa.Table, what: str) -> Iterator[Piece]:
    """The rows of `table` by partition; their order within one is kept.

    Raises:
        SchemaError: a row has no stamp or no underlying, or its underlying cannot name a folder.
    """
    if not table.num_rows:
        return
    if missing := [name for name in ("ts", "ccy") if name not in table.column_names]:
        raise SchemaError(f"{what}: {dataset.value} need the columns ts and ccy; {missing[0]} is missing.", file=what)
    stamp = stamp_us(chain_stamps(table))
    names, codes = text_codes(table["ccy"])
    day = first_days(dataset, stamp // DAY_US)
    _refuse(names, codes, stamp, what)
    hashes = row_hashes(dataset, table)
    key = (day - day.min()) * len(names) + codes
    starts = _run_starts(key)
    if len(starts) * _SHORT_RUN > len(key):  # to put many short runs together takes longer than to gather rows once
        order = np.argsort(key.astype(np.uint16) if key.max() < 1 << 16 else key, kind="stable")
        table, hashes, stamp, key = table.take(pa.array(order)), hashes.take(order), stamp[order], key[order]
        starts = _run_starts(key)
    runs: dict[int, list[tuple[int, int]]] = {}
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(key)], strict=True):
        runs.setdefault(int(key[start]), []).append((start, end))
    for number, several in runs.items():
        days, code = divmod(number, len(names))
        partition = Partition(dataset, names[code], int(day.min()) + days)
        rows = slice(*several[0]) if len(several) == 1 else np.concatenate([np.arange(*run) for run in several])
        together = pa.concat_tables([table.slice(start, end - start) for start, end in several])
        yield Piece(partition, together, hashes.take(rows), stamp[rows])


def _run_starts(key: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " runs"]:
    return np.flatnonzero(np.diff(key, prepend=-1))


def _refuse(names: list[str], codes: np.ndarray, stamp: np.ndarray, what: str) -> None:
    bad = next((name for name in names if not is_underlying(name)), None)
    if bad is not None:
        raise SchemaError(
            f"{what}: the underlying {bad!r} in row {int(np.argmax(codes == names.index(bad)))} of a block cannot "
            "name a folder of the store; expected 1 to 24 of A-Z, 0-9 and _.",
            file=what,
        )
    wrong = (codes < 0) | (stamp == NO_STAMP) | (stamp // DAY_US < _DAYS[0]) | (stamp // DAY_US > _DAYS[1])
    if wrong.any():
        raise SchemaError(
            f"{what}: row {int(np.argmax(wrong))} of a block has no underlying, or no stamp in the years 1 to 9999; "
            "leave such rows out.",
            file=what,
        )
