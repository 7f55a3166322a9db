"""What a decoder gives: rows of one source under canonical names, in the source's own units and missing codes."""

from typing import NamedTuple

import pyarrow as pa

from volgrad.data.schema import Dataset, SourceKind

__all__ = ["Piece"]


class Piece(NamedTuple):
    """Rows of one source before they are checked and brought into canonical units.

    dataset: what the rows are.
    kind: kind of the source; it decides the unit of volatilities and what stands for a missing value.
    table: canonical column names (`schema.CANONICAL`, or those of `dataset`); text may be plain or dictionary, numbers
        any number or numeric text, stamps timestamps. A Deribit instrument's name may stand in `instrument` in place of
        `ccy`, `expiry`, `strike`, `cp` and `settlement`.
    extra: columns of the source that are not used.
    malformed: lines, records or frames just before or among these rows that could not be read, skipped.
    notes: sentences on what had to be assumed.
    """

    dataset: Dataset
    kind: SourceKind
    table: pa.Table
    extra: tuple[str, ...] = ()
    malformed: int = 0
    notes: tuple[str, ...] = ()
