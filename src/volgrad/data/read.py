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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.feeds import from_source, from_store
from volgrad.data.files import Quarantined, expand, is_table
from volgrad.data.filters import When, Window
from volgrad.data.gather import Gathered, Source
from volgrad.data.reasons import Reason, Rejections
from volgrad.data.snapshots import Drawing
from volgrad.data.store import is_store
from volgrad.errors import EmptyInputError, InputError, SchemaError, UnitsError

__all__ = ["Quotes", "Source", "read_quotes"]


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
        """Count `reason` (one code a row) by source; skipped lines and records are added."""
        counted = Rejections.count([s.name for s in self.sources], self.source_index, reason)
        counted.counts[:, Reason.MALFORMED] += np.array([s.malformed_rows for s in self.sources])
        return counted


def read_quotes(
    sources: Any,
    *,
    from_: When = None,
    to: When = None,
    underlying: str | Iterable[str] | None = None,
    every: str = "5m",
) -> Quotes:
    """Read quotes from stores, files, directories of files, and Arrow tables.

    Args:
        sources: a path (a store, a file of any kind that `volgrad ingest` reads, or a directory of such files),
            anything with `__arrow_c_stream__` (pyarrow, Polars, pandas, DuckDB), or a sequence of these.
        from_: earliest chain stamp, included: ISO 8601 text or a datetime; UTC where it has no zone.
        to: latest chain stamp, included; a bare date means the whole of that day.
        underlying: `ccy` values to keep, a sequence or text with commas ("BTC,ETH"); upper or lower case.
        every: from one chain to the next where sources are streams of single updates (tickers, sessions, Tardis), such
            as "1m"; snapshots are chains as they are.

    Returns:
        The quotes; damaged and foreign files are listed in `quarantined`, not raised, as long as others are
        left.

    Raises:
        InputError: no such file, or nothing readable.
        SchemaError: a column is missing, renamed or of the wrong type.
        UnitsError: volatilities cannot be in the unit of their source.
        EmptyInputError: no row, or none in the asked window or underlying.
    """
    window, drawing = Window.of(from_, to, underlying), Drawing.of(every, "--every")
    quarantined: list[Quarantined] = []
    notes: list[str] = []
    gathered = Gathered(window, drawing)
    for item in _listed(sources, notes):
        name = str(item) if isinstance(item, Path) else "table"
        try:
            if isinstance(item, Path) and is_store(item):
                gathered.take(from_store(item, window, drawing, quarantined, notes))
            else:
                gathered.take(from_source(item, name))
        except InputError as error:
            if isinstance(error, SchemaError | UnitsError):  # quotes, and a mistake to mend
                raise
            if not isinstance(item, Path):  # handed over on purpose, and so meant as quotes
                raise SchemaError(str(error), file=name) from error
            quarantined.append(Quarantined.of(name, error))
    _refuse_empty(gathered.sources, quarantined, window.describe(), [str(extent) for extent in gathered.offered])
    table, reason, source_index = gathered.finish()
    return Quotes(
        table=table,
        reason=reason,
        source_index=source_index,
        sources=tuple(gathered.sources),
        quarantined=tuple(quarantined),
        notes=tuple(dict.fromkeys([*notes, *gathered.notes])),
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
        if lines := sum(source.malformed_rows for source in sources):
            why = f"{names}: none of {lines} lines has as many cells as the header; check the delimiter and the header."
            raise EmptyInputError(why, file=sources[0].name)
        raise EmptyInputError(f"{names}: a header but no row of quotes; nothing to fit.", file=sources[0].name)
    held = "; ".join(dict.fromkeys(offered))
    aside = f" Set aside: {quarantined[0].file}: {quarantined[0].why}" if quarantined else ""
    raise EmptyInputError(f"{names}: no row is left {asked}; there is {held}.{aside}", file=sources[0].name)
