"""Small stores with known rows, and ways to break them."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from volgrad.data.schema import Dataset
from volgrad.data.store import Disk, Limits, Store

DAY_US = 86_400_000_000
FIRST_DAY = 20_458  # 2026-01-05
STAMP = pa.timestamp("us", tz="UTC")
EXPIRY = datetime(2026, 3, 27, 8, tzinfo=UTC)
TINY = Limits(buffer_rows=7, part_rows=5, parts=2, cache_bytes=200)


class Killed(BaseException):
    """What a killed process does next: nothing."""


def killer(after):
    """A disk that dies at its operation number `after`, and stays dead."""
    done = []

    def before(operation, path):
        done.append(operation)
        if len(done) > after:
            raise Killed

    return Disk(before), done


def full(after, *, again=False):
    """A disk that is full from its operation number `after` on (only then, where `again`); removing still works."""
    done = []

    def before(operation, path):
        done.append(operation)
        hit = len(done) == after + 1 if again else len(done) > after
        if hit and operation != "remove":
            raise OSError(28, "No space left on device", str(path))

    return Disk(before), done


def quotes(days=(0,), minutes=(0, 300), strikes=(80_000.0, 90_000.0), ccys=("BTC", "ETH"), **changes):
    """A chain of every day, minute and underlying; each row differs from all others."""
    keys = [(d, m, c, k) for d in days for m in minutes for c in ccys for k in strikes]
    stamps = [(FIRST_DAY + d) * DAY_US + m * 60_000_000 for d, m, _, _ in keys]
    table = {
        "ts": pa.array(stamps, pa.int64()).cast(STAMP),
        "ccy": pa.array([c for _, _, c, _ in keys]).dictionary_encode(),
        "expiry": pa.array([EXPIRY] * len(keys), STAMP),
        "strike": pa.array([k for _, _, _, k in keys]),
        "cp": pa.array(["C"] * len(keys)).dictionary_encode(),
        "bid": pa.array([None if m % 2 else 0.01 + d + m / 1e4 for d, m, _, _ in keys], pa.float64()),
        "ask": pa.array([0.02 + d + m / 1e4 for d, m, _, _ in keys]),
        "mark_iv": pa.array([0.5] * len(keys)),
    }
    return pa.table(table | changes)


def sha(name):
    """A SHA-256 for a source of this name."""
    return hashlib.sha256(name.encode()).hexdigest()


def ingest(writer, name, table, dataset=Dataset.QUOTES, block=None):
    """One source, whole, in blocks."""
    writer.begin(name, "canonical", sha(name))
    block = block or max(1, table.num_rows)
    added = [writer.add(dataset, table.slice(start, block)) for start in range(0, table.num_rows, block)]
    writer.end()
    return sum(one.rows for one in added), sum(one.duplicates for one in added)


def store_of(path, *sources, limits=None):
    """A store of sources (name, table), each committed on its own."""
    store = Store.create(path)
    with store.writer(limits) as writer:
        for name, table in sources:
            ingest(writer, name, table)
            writer.commit()
    return Store.open(path)


def plain(table):
    """Rows as tuples that compare as the store does: no column is as good as a null one; stamps as integers."""
    columns = []
    for name in sorted(set(table.column_names) - {"source"}):
        column = table[name]
        values = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        columns.append([(name, value) for value in values.to_pylist()])
    return [tuple(cell for cell in row if cell[1] is not None) for row in zip(*columns, strict=True)]


def rows_in(store, dataset=Dataset.QUOTES, **window):
    """All rows of a scan, in an order that depends on the values only."""
    return rows_of(*(one.table for one in store.scan(dataset, **window)))


def rows_of(*tables):
    """The same of tables."""
    return sorted((row for table in tables for row in plain(table)), key=repr)


def distinct(rows):
    """Each row once."""
    return sorted(set(rows), key=repr)


def shuffled(table, seed):
    """The rows in another order."""
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


def files_of(root):
    """Every file of a store."""
    return sorted(path for path in root.rglob("*") if path.is_file())
