"""What can only be judged over many rows of a source, while it streams: units, and columns that hold no numbers."""

import numpy as np
from jaxtyping import Bool, Float

from volgrad.data.columns import refuse_cell
from volgrad.data.schema import SourceKind
from volgrad.data.units import check_median, check_premiums, check_ratios, usable_volatility

__all__ = ["CellCheck", "MedianCheck", "PremiumCheck"]

# Liquid rows before a median is judged. Assumption: the median of 1,000 is within a few per cent of the whole's,
# and a wrong unit is a factor of 100.
_ENOUGH = 1000
# Of a block's rows at most so many are looked at: a median of more says no more
_SAMPLE = 8192


class MedianCheck:
    """Refuses volatilities in another unit than their kind of source has, as soon as enough liquid rows are known
    and then again with every as many more.
    """

    def __init__(self, source: str, kind: SourceKind) -> None:
        self._source, self._kind = source, kind
        self._liquid: dict[str, list[Float[np.ndarray, " some"]]] = {}
        self._any: dict[str, Float[np.ndarray, " some"]] = {}
        self._judged: set[str] = set()

    def add(self, column: str, fraction: Float[np.ndarray, " rows"], liquid: Bool[np.ndarray, " rows"]) -> None:
        """Take a block's volatilities; `liquid` marks rows with a bid and an ask above it.

        Raises:
            UnitsError: their median lies outside [0.03, 5].
        """
        usable = usable_volatility(fraction, self._kind)
        chosen = _some(fraction[usable & liquid])
        waiting = self._liquid.setdefault(column, [])
        if len(chosen):
            waiting.append(chosen)
        elif column not in self._judged and not waiting and len(self._any.get(column, ())) < _ENOUGH:
            self._any[column] = np.append(self._any.get(column, np.empty(0)), _some(fraction[usable]))
        if sum(map(len, waiting)) >= _ENOUGH:
            self._judge(column, np.concatenate(waiting))
            waiting.clear()

    def finish(self) -> None:
        """Judge the columns that never had enough liquid rows, by those there are, else by all.

        Raises:
            UnitsError: as :meth:`add`.
        """
        for column, waiting in self._liquid.items():
            if column not in self._judged:
                self._judge(column, np.concatenate(waiting) if waiting else self._any.get(column, np.empty(0)))

    def _judge(self, column: str, chosen: Float[np.ndarray, " some"]) -> None:
        self._judged.add(column)
        if len(chosen):
            check_median(chosen, column, self._source, self._kind)


def _some(values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " some"]:
    return values[:: -(-len(values) // _SAMPLE)] if len(values) > _SAMPLE else values


class PremiumCheck:
    """Refuses premiums in the other settlement's unit: coin as soon as enough are known, dollars at the end.

    A call is worth at most one coin, and an option within 2 % of the forward more than a ten-thousandth of it
    (`units.check_premiums`). `build` judges again, with the forwards of whole chains.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._above = self._below = 0
        self._near = 0.0
        self._ratios: list[Float[np.ndarray, " some"]] = []

    def add_inverse(self, ask_coin: Float[np.ndarray, " some"]) -> None:
        """Take asks of two-sided calls of inverse options.

        Raises:
            UnitsError: nearly all of a thousand cost more than one coin.
        """
        above = int((ask_coin >= 1.0).sum())
        self._above += above
        self._below += len(ask_coin) - above
        if self._above + self._below >= _ENOUGH:
            self.finish()
            self._above = self._below = 0

    def add_linear(self, ask: Float[np.ndarray, " some"]) -> None:
        """Take asks of linear options near the forward with a week or more to live, as fractions of the forward."""
        self._near = max(self._near, float(ask.max(initial=0.0)))

    def add_ratios(self, ratio: Float[np.ndarray, " some"]) -> None:
        """Take strikes over the printed forwards.

        Raises:
            UnitsError: their median over a thousand cannot be.
        """
        self._ratios.append(ratio[np.isfinite(ratio)])
        if sum(map(len, self._ratios)) >= _ENOUGH:
            check_ratios(self._source, np.concatenate(self._ratios))
            self._ratios.clear()

    def finish(self) -> None:
        """Judge what there is.

        Raises:
            UnitsError: as the others; or linear options at the money cost next to nothing.
        """
        near = np.array([self._near] if self._near else [])
        if self._ratios:
            check_ratios(self._source, np.concatenate(self._ratios))
        check_premiums(self._source, above_bound=self._above, used=self._below, near_linear=near)


class CellCheck:
    """Counts cells that do not hold what their column should: a few are rejected rows, most of a column an error."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._given: dict[str, int] = {}
        self._bad: dict[str, int] = {}
        self._first: dict[str, tuple[int, str, str]] = {}

    def add(
        self, column: str, given: int, bad: Bool[np.ndarray, " rows"] | None, start: int, told: tuple[str, str]
    ) -> None:
        """Take a block's column: `given` cells that are not empty, those of them that are `bad`, the number of the
        block's first row, and the first bad cell with what was expected.

        Raises:
            SchemaError: more than half of a thousand cells or more are bad.
        """
        self._given[column] = self._given.get(column, 0) + given
        if bad is not None and bad.any():
            self._bad[column] = self._bad.get(column, 0) + int(bad.sum())
            self._first.setdefault(column, (start + int(np.argmax(bad)), *told))
        if self._given[column] >= _ENOUGH:
            self._judge(column)

    def finish(self) -> None:
        """Judge short columns.

        Raises:
            SchemaError: more than half of a column's cells are bad.
        """
        for column in self._bad:
            self._judge(column)

    def _judge(self, column: str) -> None:
        if 2 * self._bad.get(column, 0) > self._given[column]:
            row, value, expected = self._first[column]
            raise refuse_cell(self._source, column, row, value, expected)
