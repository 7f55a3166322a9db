"""Reads the blocks of one table, of which the columns have told what it holds."""

from collections.abc import Callable

import pyarrow as pa

from volgrad.data.formats.build import told
from volgrad.data.formats.clocks import Clock
from volgrad.data.formats.polls import Polls
from volgrad.data.piece import Piece

__all__ = ["Decode", "TableReader"]

Decode = Callable[[pa.Table], Piece]


class TableReader:
    """Blocks in, pieces out.

    >>> from volgrad.data.schema import Dataset, SourceKind
    >>> reader = TableReader("bars.csv", lambda table: Piece(Dataset.BARS, SourceKind.CANONICAL, table))
    >>> reader.add(pa.table({"close": [1.5]})).table.num_rows, reader.finish()
    (1, [])
    """

    def __init__(self, source: str, decode: Decode, polls: Polls | None = None, *, named: bool = True) -> None:
        """Begin before the first block.

        Args:
            source: for messages.
            decode: what a block holds.
            polls: where its rows are polls: told apart by them, and given when they are over.
            named: whether `instrument`, by which polls are told apart, says the contract.
        """
        self._source, self._decode, self._polls, self._named = source, decode, polls, named
        self._clock = Clock(source)
        self._last: Piece | None = None

    def add(self, table: pa.Table) -> Piece:
        """The rows of a block, or the polls that it ends.

        Raises:
            SchemaError: a column is of a type that cannot be read.
            InputError: rows contradict what else is said of the source.
        """
        piece = self._decode(table)
        if self._polls is not None:
            piece = self._polled(piece, self._polls.add(piece.table))
        self._last = piece
        return self._clock.see(piece)

    def finish(self) -> list[Piece]:
        """What is left.

        Raises:
            InputError: nothing states a time.
        """
        pieces = []
        if self._polls is not None and self._last is not None:
            rest = self._polls.finish()
            if rest.num_rows:
                notes = told(self._source, self._polls.notes())
                pieces.append(self._polled(self._last._replace(malformed=0, notes=notes), rest))
                self._clock.see(pieces[-1])
        self._clock.finish()
        return pieces

    def _polled(self, piece: Piece, table: pa.Table) -> Piece:
        return piece._replace(table=table if self._named else table.drop_columns(["instrument"]))
