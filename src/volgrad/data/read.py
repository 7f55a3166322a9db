"""Quote files, directories and Arrow tables -> one canonical table of quotes, with a count of everything that
was not read.

>>> import pyarrow as pa
>>> from datetime import datetime, timezone
>>> now, then = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 27, 8, tzinfo=timezone.utc)
>>> table = pa.table({"ts": [now], "ccy": ["BTC"], "expiry": [then], "strike": [9e4], "cp": ["C"],
...                   "bid": [0.05], "ask": [0.0], "colour": ["red"]})
>>> quotes = read_quotes(table)
>>> quotes.rows, quotes.sources[0].kind.value, quotes.sources[0].extra_columns
(1, 'canonical', ('colour',))
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.canonical import Canonical, canonicalise, wanted_columns
from volgrad.data.files import Opened, Quarantined, expand, is_table, open_file
from volgrad.data.filters import When, Window, extent
from volgrad.data.reasons import Reason, Rejections
from volgrad.data.schema import SourceKind, looks_foreign
from volgrad.errors import EmptyInputError, InputError, SchemaError

__all__ = ["Quotes", "Source", "read_quotes"]


@dataclass(frozen=True)
class Source:
    """One source that was read.

    Attributes:
        name: path of the file, or `table` for an Arrow table.
        kind: how it was recognised; the kind decides names and units.
        rows: rows in it.
        rows_filtered: rows outside the asked time window or underlying (not rejections: they were not
            wanted).
        malformed_rows: lines of a CSV file with the wrong number of cells, skipped.
        extra_columns: columns that were ignored.
        bad_values: column -> what (nan, negative, zero, cap) -> volatilities in it that are none.
    """

    name: str
    kind: SourceKind
    rows: int
    rows_filtered: int = 0
    malformed_rows: int = 0
    extra_columns: tuple[str, ...] = ()
    bad_values: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Quotes:
    """Quotes in canonical columns.

    Attributes:
        table: the rows; stamps `timestamp[us, UTC]`, text dictionary-encoded, prices float64 (null =
            missing), volatilities as fractions.
        reason: codes of :class:`Reason` for what is wrong with a row by itself (0: nothing); `build_chains`
            goes on.
        source_index: position of each row's source in `sources`.
        sources: what was read.
        quarantined: files that were set aside, and why.
        notes: sentences on what had to be assumed.
    """

    table: pa.Table
    reason: Int[np.ndarray, " rows"]
    source_index: Int[np.ndarray, " rows"]
    sources: tuple[Source, ...]
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the table."""
        return self.table.num_rows

    @property
    def rejections(self) -> Rejections:
        """Rows rejected while reading, by source and reason (`build` gives the count after screening)."""
        return self.count(self.reason)

    def count(self, reason: Int[np.ndarray, " rows"]) -> Rejections:
        """Count `reason` (one code a row) by source; skipped lines of CSV files are added."""
        counted = Rejections.count([s.name for s in self.sources], self.source_index, reason)
        counted.counts[:, Reason.MALFORMED] += np.array([s.malformed_rows for s in self.sources])
        return counted


def read_quotes(
    sources: Any, *, from_: When = None, to: When = None, underlying: str | Iterable[str] | None = None
) -> Quotes:
    """Read quotes from files, directories of files, and Arrow tables.

    Args:
        sources: a path (Parquet, Arrow IPC or CSV; or a directory of them), anything with
            `__arrow_c_stream__` (pyarrow, Polars, pandas, DuckDB), or a sequence of these.
        from_: earliest chain stamp, included: ISO 8601 text or a datetime; UTC where it has no zone.
        to: latest chain stamp, included; a bare date means the whole of that day.
        underlying: `ccy` values to keep, a sequence or text with commas ("BTC,ETH"); upper or lower case.

    Returns:
        The quotes; damaged and foreign files are listed in `quarantined`, not raised, as long as others are
        left.

    Raises:
        InputError: no such file, or nothing readable.
        SchemaError: a column is missing, renamed or of the wrong type.
        UnitsError: volatilities cannot be in the unit of their source.
        EmptyInputError: no row, or none in the asked window or underlying.
    """
    window = Window.of(from_, to, underlying)
    quarantined: list[Quarantined] = []
    parts: list[tuple[Source, Canonical]] = []
    notes: list[str] = []
    offered: list[str] = []
    for item in _listed(sources, notes):
        name = str(item) if isinstance(item, Path) else "table"
        opened = open_file(item, wanted_columns()) if isinstance(item, Path) else _opened(item)
        if isinstance(opened, Quarantined):
            quarantined.append(opened)
            continue
        try:
            part = canonicalise(opened.table, name, opened.names)
        except SchemaError as error:
            if not looks_foreign(opened.names):
                raise
            quarantined.append(Quarantined(name, str(error).removeprefix(f"{name}: "), SchemaError))
            continue
        kept = window.keep(part)
        if kept.table.num_rows:  # what was assumed about rows that nobody asked for is noise
            notes += part.notes
        lost = part.table.num_rows - kept.table.num_rows
        if lost and not kept.table.num_rows:
            offered.append(extent(part.table))
        source = Source(name, part.kind, part.table.num_rows, lost, opened.malformed_rows, part.extra, part.bad_values)
        parts.append((source, kept))
    _refuse_empty([source for source, _ in parts], quarantined, window.describe(), offered)
    return Quotes(
        table=pa.concat_tables([part.table for _, part in parts], promote_options="default").unify_dictionaries(),
        reason=np.concatenate([part.reason for _, part in parts]),
        source_index=np.repeat(np.arange(len(parts)), [part.table.num_rows for _, part in parts]),
        sources=tuple(source for source, _ in parts),
        quarantined=tuple(quarantined),
        notes=tuple(dict.fromkeys(notes)),
    )


def _listed(sources: Any, notes: list[str]) -> list[Any]:
    """Paths (directories opened up, each file once) and tables, in the order given."""
    if isinstance(sources, str | Path) or is_table(sources) or not isinstance(sources, Iterable):
        sources = [sources]
    listed: list[Any] = []
    seen: set[Path] = set()
    for source in sources:
        if is_table(source):
            listed.append(source)
            continue
        if not isinstance(source, str | Path):
            raise InputError(
                f"quotes: {type(source).__name__} is neither a path nor a table with __arrow_c_stream__ "
                "(pyarrow, Polars, pandas and DuckDB have it)."
            )
        for path in expand(source):
            if path.resolve() in seen:
                notes.append(f"{path}: given more than once, read once")
                continue
            seen.add(path.resolve())
            listed.append(path)
    if not listed:
        raise EmptyInputError("quotes: no source was given; name at least one file, directory or table.")
    return listed


def _opened(table: Any) -> Opened:
    taken = pa.table(table)
    return Opened(taken, tuple(taken.column_names))


def _refuse_empty(sources: list[Source], quarantined: list[Quarantined], asked: str, offered: list[str]) -> None:
    """Raise where nothing readable, no row, or no row of those asked for is left."""
    if not sources:
        first = quarantined[0]
        more = f" Nor can {len(quarantined) - 1} more be read: nothing is left." if len(quarantined) > 1 else ""
        raise first.error(f"{first.file}: {first.why}{more}", file=first.file)
    if any(source.rows > source.rows_filtered for source in sources):
        return
    names = ", ".join(source.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
    if not any(source.rows for source in sources):
        raise EmptyInputError(f"{names}: a header but no row of quotes; nothing to fit.", file=sources[0].name)
    held = "; ".join(dict.fromkeys(offered))
    raise EmptyInputError(f"{names}: no row is left {asked}; there is {held}.", file=sources[0].name)
