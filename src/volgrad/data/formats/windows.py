"""Judging the numbers of a stream: so many at a time, whatever blocks they come in."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from volgrad.errors import UnitsError

__all__ = ["ENOUGH", "FEW", "Windows", "check_premiums"]

#: Values judged together. Assumption: as `data.checks`, the median of 1,000 is within a few per cent of the whole's,
#: and a wrong unit is a factor of 100.
ENOUGH = 1000
#: Below so many values nothing is said of a unit. Assumption: a single trade far in the wings may be dealt at 600 %,
#: thirty of one source in the median are not.
FEW = 30
Judge = Callable[[Float[np.ndarray, " some"]], None]


class Windows:
    """Hands a stream's values to a judge, `ENOUGH` at a time; the rest at the end, if none were judged before.

    >>> windows = Windows(lambda values: print(len(values)), least=30)
    >>> windows.add(np.ones(2100))
    1000
    1000
    >>> windows.finish()
    """

    def __init__(self, judge: Judge, least: int) -> None:
        """Begin with no value.

        Args:
            judge: raises where the values cannot be right.
            least: fewer values than these in all are not judged.
        """
        self._judge, self._least = judge, least
        self._waiting = np.empty(0)
        self._judged = False

    def add(self, values: Float[np.ndarray, " some"]) -> None:
        """Take the next values; raises what the judge does."""
        waiting = np.concatenate([self._waiting, values])
        while len(waiting) >= ENOUGH:
            self._judge(waiting[:ENOUGH])
            self._judged, waiting = True, waiting[ENOUGH:]
        self._waiting = waiting.copy()

    def finish(self) -> None:
        """Judge what is left of a short stream; raises what the judge does."""
        if not self._judged and len(self._waiting) >= max(self._least, 1):
            self._judge(self._waiting)


def check_premiums(price_coin: Float[np.ndarray, " trades"], source: str) -> None:
    """Refuse dollars taken for coin: a call that is settled in the coin is worth at most one.

    Raises:
        UnitsError: ten times as many trades of calls lie at or above one coin as below.
    """
    above = int((price_coin >= 1.0).sum())
    if above > 10 * (len(price_coin) - above):
        raise UnitsError(
            f"{source}: {above} of {len(price_coin)} trades of calls cost one coin or more: their prices are dollars "
            "and their options are settled in the coin; divide the prices by the forward, or name the options as "
            "dollar-settled ones are (BTC_USDC-...).",
            file=source,
        )
