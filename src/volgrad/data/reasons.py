"""Why a row of a quote table was not used: one named reason a row, counted by source.

The order of :class:`Reason` is the order of judgement: a row is counted under the first reason that holds.
What is wrong with the row itself comes first, then what is wrong with its expiry, then with its two prices;
that a healthy quote lies on the in-the-money side is asked almost last, so that ``below_intrinsic`` or
``crossed`` is never hidden behind ``itm``.
"""

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

__all__ = ["Reason", "Rejections", "advice"]


class Reason(enum.IntEnum):
    """Outcome of one quote row; ``USED`` rows are in a chain, all others are counted in ``Chain.left_out``.

    >>> Reason.BELOW_INTRINSIC.label
    'below_intrinsic'
    """

    USED = 0
    MALFORMED = 1
    BAD_NUMBER = 2
    BAD_TIMESTAMP = 3
    BAD_UNDERLYING = 4
    BAD_INSTRUMENT = 5
    NOT_AN_OPTION = 6
    BAD_SETTLEMENT = 7
    BAD_EXPIRY = 8
    BAD_STRIKE = 9
    BAD_TYPE = 10
    DUPLICATE = 11
    EXPIRED = 12
    TOO_SHORT = 13
    NO_FORWARD = 14
    BAD_PRICE = 15
    NO_QUOTE = 16
    ONE_SIDED = 17
    CROSSED = 18
    LOCKED = 19
    BELOW_INTRINSIC = 20
    ABOVE_BOUND = 21
    IV_CAP = 22
    BAD_IV = 23
    ITM = 24
    WIDE = 25
    NO_IV = 26
    CHAIN_REFUSED = 27

    @property
    def label(self) -> str:
        """The name used in ``left_out``, ``rejections.json`` and the summary."""
        return self.name.lower()


_ADVICE = {
    Reason.USED: "used",
    Reason.MALFORMED: "a line, record or frame that cannot be taken apart, skipped",
    Reason.BAD_NUMBER: "a cell that should hold a number holds other text",
    Reason.BAD_TIMESTAMP: "no time stamp: the row belongs to no chain",
    Reason.BAD_UNDERLYING: "no underlying (ccy): the row belongs to no chain",
    Reason.BAD_INSTRUMENT: "the instrument's name cannot be read, or contradicts the row's contract",
    Reason.NOT_AN_OPTION: "a future, perpetual or combo, not an option",
    Reason.BAD_SETTLEMENT: "settlement is neither 'inverse' nor 'linear'",
    Reason.BAD_EXPIRY: "no expiry",
    Reason.BAD_STRIKE: "strike missing, not a number, zero or negative",
    Reason.BAD_TYPE: "cp is neither 'C' nor 'P'",
    Reason.DUPLICATE: "the same option again in the same chain: the latest row is kept",
    Reason.EXPIRED: "at or past its expiry",
    Reason.TOO_SHORT: "too little time to expiry (2 hours by default)",
    Reason.NO_FORWARD: "no positive forward for this expiry, given or implied by put-call parity",
    Reason.BAD_PRICE: "a negative or infinite price",
    Reason.NO_QUOTE: "neither bid nor ask",
    Reason.ONE_SIDED: "bid or ask missing (null, NaN or 0)",
    Reason.CROSSED: "bid above ask",
    Reason.LOCKED: "bid equal to ask",
    Reason.BELOW_INTRINSIC: "bid at or below intrinsic value: no implied volatility exists",
    Reason.ABOVE_BOUND: "ask at or above the no-arbitrage bound",
    Reason.IV_CAP: "ask_iv is the exchange's cap of 999 %",
    Reason.BAD_IV: "bid_iv or ask_iv in the file is zero, negative or not a number beside two good prices",
    Reason.ITM: "in the money: the out-of-the-money side is used",
    Reason.WIDE: "bid and ask too far apart in volatility (40 points by default)",
    Reason.NO_IV: "no implied volatility could be found",
    Reason.CHAIN_REFUSED: "sound by itself, but its chain was refused as a whole",
}


def advice(label: str) -> str:
    """One plain sentence for a reason's label.

    Raises:
        KeyError: when `label` is no reason.

    >>> advice("locked")
    'bid equal to ask'
    """
    return _ADVICE[Reason[label.upper()]]


@dataclass(frozen=True)
class Rejections:
    """Rows not used, counted by source and reason. Shape of ``counts``: sources x reasons; ``sources`` names
    the rows.

    >>> r = Rejections.count(["a.csv"], np.array([0, 0, 0]), np.array([0, Reason.ITM, Reason.ITM], np.int8))
    >>> r.rows()
    [{'source': 'a.csv', 'reason': 'itm', 'count': 2}]
    """

    sources: tuple[str, ...]
    counts: Int[np.ndarray, "sources reasons"]

    @classmethod
    def count(
        cls, sources: list[str], source_index: Int[np.ndarray, " rows"], reason: Int[np.ndarray, " rows"]
    ) -> "Rejections":
        """Count `reason` by `source_index` (both one entry a row)."""
        width = len(Reason)
        flat = np.bincount(source_index.astype(np.int64) * width + reason, minlength=len(sources) * width)
        return cls(tuple(sources), flat.reshape(len(sources), width))

    @property
    def used(self) -> int:
        """Rows that are in a chain."""
        return int(self.counts[:, Reason.USED].sum())

    @property
    def total(self) -> int:
        """Rows that are in none."""
        return int(self.counts.sum()) - self.used

    def by_reason(self) -> dict[str, int]:
        """Reason -> rows over all sources, most frequent first."""
        return left_out(self.counts.sum(axis=0))

    def rows(self) -> list[dict[str, str | int]]:
        """The content of ``rejections.json``: one record a source and reason."""
        return [
            {"source": source, "reason": reason, "count": count}
            for source, row in zip(self.sources, self.counts, strict=True)
            for reason, count in left_out(row).items()
        ]


def left_out(counts: Int[np.ndarray, " reasons"]) -> dict[str, int]:
    """Counts by reason code -> counts by label, ``USED`` and zeros dropped, most frequent first."""
    order = np.argsort(-counts, kind="stable")
    return {Reason(code).label: int(counts[code]) for code in order.tolist() if code and counts[code]}
