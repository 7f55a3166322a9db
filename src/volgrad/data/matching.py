"""Finding the chain of a row by its stamp, underlying, split and settlement, all rows at once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int

from volgrad.market.instruments import Settlement

__all__ = ["ChainFinder"]

Codes = tuple[list[str], Int[np.ndarray, " rows"]]
# which split serves a question that names none: never the one that saw the held-out quotes while another is
# there
_PREFERRED = ("interp", "wing", "expiry", "full")


class Findable(Protocol):
    """What a chain is found by."""

    @property
    def ts_us(self) -> int:
        """Stamp, us UTC."""
        ...

    @property
    def ccy(self) -> str:
        """Underlying."""
        ...

    @property
    def split(self) -> str | None:
        """The split, if the chains have any."""
        ...

    @property
    def settlement(self) -> Settlement:
        """What the options are settled in."""
        ...


class ChainFinder:
    """An index over chains.

    >>> from types import SimpleNamespace
    >>> chain = SimpleNamespace(ts_us=5, ccy="BTC", split=None, settlement=Settlement.INVERSE)
    >>> ChainFinder([chain]).find(np.array([5, 6]), (["BTC"], np.array([0, 0]))).tolist()
    [0, -1]
    """

    def __init__(self, chains: Sequence[Findable]) -> None:
        self._stamps = np.unique(np.array([c.ts_us for c in chains], np.int64))
        self._ccys = sorted({c.ccy for c in chains})
        named = {c.split for c in chains if c.split is not None}
        self._splits = [s for s in _PREFERRED if s in named] + sorted(named - set(_PREFERRED))
        # the last entry along stamp and ccy stays -1 and stands for "none such"
        shape = (len(self._stamps) + 1, len(self._ccys) + 1, len(self._splits) + 1, 2)
        index = np.full(shape, -1, np.int64)
        for number, c in enumerate(chains):
            stamp = int(np.searchsorted(self._stamps, c.ts_us))
            split = len(self._splits) if c.split is None else self._splits.index(c.split)
            index[stamp, self._ccys.index(c.ccy), split, int(c.settlement is Settlement.LINEAR)] = number
        self._answers = _resolve(index)

    def find(
        self,
        stamp_us: Int[np.ndarray, " rows"],
        ccy: Codes,
        split: Codes | None = None,
        settlement: Codes | None = None,
    ) -> Int[np.ndarray, " rows"]:
        """Position of each row's chain, -1 where there is none.

        Args:
            stamp_us: chain stamps, us UTC.
            ccy, split, settlement: text columns as (values, codes), code -1 where null. Without a split
                column chains without a split are taken, else the first of interp, wing, expiry, full that
                exists; a chain without a split serves every split. Without a settlement inverse goes before
                linear.
        """
        if not len(self._stamps):
            return np.full(len(stamp_us), -1, np.int64)
        position = np.minimum(np.searchsorted(self._stamps, stamp_us), len(self._stamps) - 1)
        stamp = np.where(self._stamps[position] == stamp_us, position, len(self._stamps))
        none_such = len(self._splits)
        return self._answers[
            stamp,
            _translate(ccy, self._ccys, len(self._ccys)),
            none_such + 1 if split is None else _translate(split, self._splits, none_such),
            2 if settlement is None else _translate(settlement, ["inverse", "linear"], 2),
        ]


def _resolve(index: Int[np.ndarray, "stamps ccys splits 2"]) -> Int[np.ndarray, "stamps ccys asked 3"]:
    """The chain for every way of asking: split named, unknown, not asked for; settlement named or not."""
    inverse, linear = index[..., 0], index[..., 1]
    found = np.stack([inverse, linear, np.where(inverse >= 0, inverse, linear)], axis=-1)
    plain = found[:, :, -1:]
    named = np.where(found >= 0, found, plain)
    preferred = np.concatenate([plain, found[:, :, :-1]], axis=2)
    first = np.argmax(preferred >= 0, axis=2)[:, :, None]
    return np.concatenate([named, np.take_along_axis(preferred, first, axis=2)], axis=2)


def _translate(codes: Codes, known: list[str], missing: int) -> Int[np.ndarray, " rows"]:
    """Codes into `known` instead of into the column's own values; `missing` for null and unknown ones."""
    values, code = codes
    rank = {value: index for index, value in enumerate(known)}
    return np.array([rank.get(value, missing) for value in values] + [missing], np.int64)[code]
