"""Where quotes come from: a file, a table, or a store, as blocks of rows that say which source each is from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.canonical import Canonical
from volgrad.data.columns import stamp_us, text_codes
from volgrad.data.files import Quarantined
from volgrad.data.filters import Extent, Window, chain_stamps
from volgrad.data.schema import Dataset, SourceKind
from volgrad.data.snapshots import Drawing
from volgrad.data.store import Scanned, Store
from volgrad.data.store.identity import KIND
from volgrad.data.stream import stream
from volgrad.errors import DamagedError, EmptyInputError, ForeignError

__all__ = ["Fed", "from_source", "from_store"]


class Fed(NamedTuple):
    """A block of quotes.

    block: the rows; all of one kind.
    names: sources, as the user called them.
    origin: position of each row's source in `names`.
    """

    block: Canonical
    names: list[str]
    origin: Int[np.ndarray, " rows"]


def from_source(item: Any, name: str) -> Iterator[Fed]:
    """The quotes of a file or table; series beside them are passed over.

    Raises:
        ForeignError: there are none in it.
        InputError: as `stream`.
    """
    found = False
    for block in stream(item, name=name):
        if block.dataset is Dataset.QUOTES:
            found = True
            yield Fed(block, [name], np.zeros(block.table.num_rows, np.int64))
    if not found:
        raise ForeignError(f"{name}: holds no quotes; give it to volgrad ingest, or leave it out.", file=name)


def from_store(
    path: Path, window: Window, drawing: Drawing, quarantined: list[Quarantined], notes: list[str]
) -> Iterator[Fed]:
    """The quotes of a store within a window, and of streams what is needed to draw its chains.

    Args:
        path: folder of the store.
        window: chains that are asked for.
        drawing: when chains are drawn from streams.
        quarantined: damaged parts are added, of which nothing is read.
        notes: sentences on damaged manifests are added.

    Raises:
        DamagedError: parts are damaged and no other has a row that is asked for.
        EmptyInputError: no row is asked for.
        InputError: as `Store.open`.
    """
    store = Store.open(path)
    notes += store.notes
    wide = drawing.of_kind(SourceKind.UPDATES).window(window)
    scan = store.scan(from_us=wide.from_us, to_us=wide.to_us, underlying=wide.underlying)
    found = False
    for table in _in_order(scan):
        found = True
        names, origin = text_codes(table["source"])
        kinds, kind = text_codes(table[KIND])
        rows = table.drop_columns(["source", KIND])
        for code, name in enumerate(kinds):
            mine = kind == code
            part = rows if mine.all() else rows.filter(pa.array(mine))
            yield Fed(Canonical(part, np.zeros(part.num_rows, np.int8), SourceKind(name)), names, origin[mine])
    if store.damaged and not found:
        raise DamagedError(f"{path}: {store.damaged[0]}", file=path)
    if not found:
        held = [one for one in store.describe() if one.dataset is Dataset.QUOTES]
        there = "; ".join(str(Extent(frozenset([one.underlying]), one.from_us, one.to_us)) for one in held)
        asked = f" is left {asked}" if (asked := window.describe()) else " is there"
        raise EmptyInputError(f"{path}: no row of quotes{asked}; there is {there or 'none at all'}.", file=path)
    for one in store.damaged:
        file = f"{path / one.part}"
        quarantined.append(Quarantined(file, str(one).removeprefix(f"{file}: "), DamagedError))


def _in_order(scan: Iterator[Scanned]) -> Iterator[pa.Table]:
    """Parts in order of time; those of a partition that overlap are sorted into one another."""
    waiting: list[Scanned] = []
    latest = 0
    for scanned in scan:
        stamps = stamp_us(chain_stamps(scanned.table))
        if waiting and (scanned.partition != waiting[0].partition or int(stamps.min()) >= latest):
            yield _sorted(waiting)
            waiting = []
        latest = int(stamps.max()) if not waiting else max(latest, int(stamps.max()))
        waiting.append(scanned)
    if waiting:
        yield _sorted(waiting)


def _sorted(parts: list[Scanned]) -> pa.Table:
    table = pa.concat_tables([one.table for one in parts], promote_options="default").unify_dictionaries()
    stamps = stamp_us(chain_stamps(table))
    if np.all(stamps[1:] >= stamps[:-1]):
        return table
    return table.take(pa.array(np.argsort(stamps, kind="stable")))
