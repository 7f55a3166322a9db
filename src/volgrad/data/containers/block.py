"""What every container gives: column names, then blocks of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

__all__ = ["Block", "Container", "Pick", "checked"]


class Block(NamedTuple):
    """Some rows of a container, and the lines among them that could not be taken apart."""

    table: pa.Table
    malformed: int = 0


@dataclass(frozen=True)
class Pick:
    """What to read of a container.

    Attributes:
        columns: names to read (None: all).
        types: name -> type of the cells of a text container; other cells stay text. None: all rows are read at once
            and types guessed from them, as a person would.
        rows: rows of a block at most.
    """

    columns: Sequence[str] | None = None
    types: Mapping[str, pa.DataType] | None = field(default_factory=dict)
    rows: int = 262_144

    def of(self, names: Sequence[str]) -> list[str]:
        """The names to read of a container that has `names`, in its order."""
        return list(names) if self.columns is None else [name for name in names if name in set(self.columns)]


@dataclass(frozen=True)
class Container:
    """A source of rows.

    Attributes:
        names: its columns.
        read: gives the blocks; may be called once.
        empty: a table of all columns without a row.
        notes: doubts about the container, complete once it is read.
    """

    names: tuple[str, ...]
    read: Callable[[Pick], Iterator[Block]]
    empty: pa.Table
    notes: list[str] = field(default_factory=list)


def checked(table: pa.Table) -> pa.Table:
    """The table, once offsets, dictionary indices and UTF-8 are known to be sound (a flipped byte may load).

    Raises:
        pyarrow.ArrowInvalid: they are not.
        UnicodeDecodeError: nor are the names.
    """
    table.validate(full=True)
    for column in table.schema:
        _ = column.name, getattr(column.type, "tz", None)  # text, too
    return table
