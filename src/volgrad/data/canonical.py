"""One source's rows, of whatever kind, as canonical ones: the same names, types and units for all."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.blocks import BlockWork, check_premiums, check_rows, check_volatilities, take_contracts
from volgrad.data.checks import CellCheck, MedianCheck, PremiumCheck
from volgrad.data.contracts import Contracts
from volgrad.data.layouts import Layout, canonical_layout, recognise
from volgrad.data.piece import Piece
from volgrad.data.schema import CANONICAL, Dataset, SourceKind
from volgrad.errors import SchemaError

__all__ = ["Canonical", "Canonicaliser", "canonicalise", "piece_layout"]

_CONTRACT = ("ccy", "expiry", "strike", "cp")


@dataclass(frozen=True)
class Canonical:
    """Rows of a source in canonical columns: all of it, or a block of it.

    Attributes:
        table: canonical columns only; stamps us UTC, text dictionary-encoded, numbers float64, volatilities
            fractions. Of another dataset than quotes: that dataset's columns.
        reason: :class:`Reason` codes of what is wrong with a row already here (0: nothing).
        kind: how the source was recognised.
        extra: columns of the source that were ignored.
        notes: sentences on what had to be assumed.
        bad_values: column -> what -> values that are no volatility.
        dataset: what the rows are.
        malformed: lines, records or frames among these rows that could not be read, skipped.
    """

    table: pa.Table
    reason: Int[np.ndarray, " rows"]
    kind: SourceKind
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bad_values: dict[str, dict[str, int]] = field(default_factory=dict)
    dataset: Dataset = Dataset.QUOTES
    malformed: int = 0


def canonicalise(table: pa.Table | Piece, source: str, names: Sequence[str] | None = None) -> Canonical:
    """Bring one source's table, or a decoder's piece, into canonical columns.

    Args:
        table: rows of one source.
        source: its name, for messages.
        names: all column names of the source where `table` holds only those of use.

    Raises:
        SchemaError: a column is missing, renamed or of a type that cannot be read.
        ForeignError: the columns have little in common with quotes.
        UnitsError: volatilities cannot be in the unit of this kind of source.

    >>> from datetime import datetime, timezone
    >>> now, then = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 27, 8, tzinfo=timezone.utc)
    >>> quotes = pa.table({"ts": [now], "ccy": ["BTC"], "expiry": [then], "strike": [9e4], "cp": ["C"],
    ...                    "bid": [0.05], "ask": [0.0]})
    >>> canonicalise(quotes, "quotes").table["ask"].to_pylist()
    [None]
    """
    if isinstance(table, Piece):
        work = Canonicaliser(source, piece_layout(table, source), table.extra)
        done = work.add(table.table, table.malformed, table.notes)
    else:
        names = tuple(names or table.column_names)
        layout = recognise(names, source)
        work = Canonicaliser(source, layout, layout.unused(names))
        done = work.add(table)
    work.finish()
    return done


def piece_layout(piece: Piece, source: str) -> Layout:
    """Layout of a decoder's quotes: canonical names, the contract from `instrument` where columns lack.

    Raises:
        SchemaError: a column is missing.
    """
    layout = canonical_layout(piece.kind).of(piece.table.column_names)
    lacking = [name for name in layout.required if name not in layout.columns]
    if layout.instrument is not None:
        lacking = [name for name in lacking if name not in _CONTRACT]
    if lacking:
        raise SchemaError(f"{source}: {', '.join(lacking)} missing in what was decoded from it.", file=source)
    named = any(name not in layout.columns for name in _CONTRACT)
    return Layout(layout.kind, layout.what, layout.columns, layout.required, instrument=layout.instrument, named=named)


class Canonicaliser:
    """Brings the blocks of one source into canonical columns, one after the other.

    `finish` says whether the whole could be what it claims; until it has been called nothing of the source may
    be published.
    """

    def __init__(self, source: str, layout: Layout, extra: Sequence[str] = ()) -> None:
        self._source, self._layout, self._extra = source, layout, tuple(extra)
        self._contracts = Contracts()
        self._medians = MedianCheck(source, layout.kind)
        self._premiums = PremiumCheck(source)
        self._cells = CellCheck(source)
        self._rows = 0

    def add(self, table: pa.Table, malformed: int = 0, notes: Sequence[str] = ()) -> Canonical:
        """The next rows.

        Raises:
            SchemaError: a column is of a type that cannot be read.
            UnitsError: volatilities cannot be in the unit of this kind of source.
        """
        work = BlockWork(table, self._source, self._layout, self._cells, self._rows)
        for column in CANONICAL:
            if theirs := self._layout.columns.get(column.name):
                work.take(column, theirs)
        if self._layout.instrument is not None:
            take_contracts(work, self._contracts)
        check_rows(work)
        check_volatilities(work, self._medians)
        check_premiums(work, self._premiums)
        self._rows += table.num_rows
        assumed = [f"{self._source}: {self._layout.note}"] if self._layout.note else []
        return Canonical(
            table=pa.table({c.name: work.out[c.name] for c in CANONICAL if c.name in work.out}),
            reason=work.reason,
            kind=self._layout.kind,
            extra=self._extra,
            notes=tuple(dict.fromkeys([*notes, *work.notes, *assumed])),
            bad_values=work.bad,
            malformed=malformed,
        )

    def finish(self) -> None:
        """Judge what can only be judged over all rows.

        Raises:
            SchemaError: most cells of a number column are none.
            UnitsError: volatilities or premiums cannot be in the unit of this kind of source.
        """
        self._cells.finish()
        self._medians.finish()
        self._premiums.finish()
