"""Whether a source says at what time its quotes were asked for: without one, none of them can be of use."""

from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset
from volgrad.errors import InputError

__all__ = ["Clock"]


class Clock:
    """Looks at the pieces of one source as they pass."""

    def __init__(self, source: str) -> None:
        """Begin before the first piece."""
        self._source = source
        self._rows = 0
        self._timed = False

    def see(self, piece: Piece) -> Piece:
        """Take note of a piece, and give it back."""
        if piece.dataset is Dataset.QUOTES:
            self._rows += piece.table.num_rows
            timed = (name for name in ("ts", "cycle") if name in piece.table.column_names)
            self._timed = self._timed or any(piece.table[name].null_count < piece.table.num_rows for name in timed)
        return piece

    def finish(self) -> None:
        """Judge the whole.

        Raises:
            InputError: there are quotes, and none of them has a time.
        """
        if self._rows and not self._timed:
            raise InputError(
                f"{self._source}: nothing states a time for its {self._rows} quotes. Give the exchange's whole answer "
                '(with its `time`, `ts` or `usOut`), put {"ts": MILLISECONDS, "data": ...} around it, or, in a table, '
                "add a column timestamp.",
                file=self._source,
            )
