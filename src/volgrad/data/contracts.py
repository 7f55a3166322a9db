"""Contracts by their exchange's names, each distinct name of a source parsed once."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from volgrad.data.columns import text_entries
from volgrad.market.instruments import InstrumentKind, OptionColumns, parse_options

__all__ = ["ContractRows", "Contracts"]

# Names remembered at most: a year of one exchange's options is about 30,000; a file that makes up a new name in
# each row must not fill the memory
_REMEMBERED = 200_000


class Contracts:
    """What names mean, remembered from block to block.

    >>> names = pa.chunked_array([pa.array(["BTC-26JUN26-100000-C", "BTC-PERPETUAL", None]).dictionary_encode()])
    >>> rows = Contracts().of(names)
    >>> rows.is_option.tolist(), rows.take("strike_usd").tolist()
    ([True, False, False], [100000.0, nan, nan])
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._position: dict[str, int] = {}
        self._known = parse_options([])
        self._bases: dict[str, int] = {}
        self._base = np.empty(0, np.int32)

    def of(self, column: pa.ChunkedArray) -> "ContractRows":
        """The contracts of a text column (see `columns.text`)."""
        entries, codes = text_entries(column)
        entries = [entry or "" for entry in entries] + [""]  # the last stands for a missing name, code -1
        if len(self._position) > _REMEMBERED:
            self._forget()
        fresh = list(dict.fromkeys(entry for entry in entries if entry not in self._position))
        if fresh:
            self._position.update(zip(fresh, range(len(self._position), len(self._position) + len(fresh)), strict=True))
            parts = zip(self._known, parse_options(fresh), strict=True)
            self._known = OptionColumns(*(np.concatenate(pair) for pair in parts))
            bases = [self._bases.setdefault(_base(name), len(self._bases)) for name in fresh]
            self._base = np.append(self._base, np.array(bases, np.int32))
        places = np.fromiter((self._position[entry] for entry in entries), np.int64, len(entries))
        return ContractRows(self._known.take(places), codes, list(self._bases), self._base[places])


def _base(name: str) -> str:
    return name.partition("-")[0].partition("_")[0]


class ContractRows:
    """Contracts of the distinct names of a block, and each row's position among them."""

    def __init__(
        self,
        known: OptionColumns,
        codes: Int[np.ndarray, " rows"],
        bases: Sequence[str],
        base: Int[np.ndarray, " entries"],
    ) -> None:
        self._known, self._codes, self._bases, self._base = known, codes, bases, base

    def take(self, field: str) -> np.ndarray:
        """A column of :class:`OptionColumns`, a value a row."""
        return getattr(self._known, field)[self._codes]

    @property
    def is_option(self) -> Bool[np.ndarray, " rows"]:
        """Rows whose name is an option's."""
        return (self._known.kind == InstrumentKind.OPTION)[self._codes]

    @property
    def unreadable(self) -> Bool[np.ndarray, " rows"]:
        """Rows whose name says nothing, or that have none."""
        return (self._known.kind == InstrumentKind.UNKNOWN)[self._codes]

    @property
    def underlyings(self) -> pa.DictionaryArray:
        """What stands before the first dash and underscore, of options and others."""
        codes = self._base[self._codes]
        nameless = np.array([not base for base in self._bases])[codes]
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int32(), mask=nameless), pa.array(self._bases, pa.string())
        )
