"""Which quotes are used: every row gets one :class:`Reason`, `USED` only for a sound two-sided
out-of-the-money quote.

Used rows have bid and ask implied volatilities, both finite, ask above bid. Limits follow the public scoring
protocol of the surfaces (at least 2 hours to expiry, at most 40 volatility points between bid and ask).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.data.columns import text_codes
from volgrad.data.groups import Groups, duplicates, number_column
from volgrad.data.read import Quotes
from volgrad.data.reasons import Reason
from volgrad.data.terms import Terms, terms_of
from volgrad.data.units import IV_CAP
from volgrad.market.implied import implied_total_volatility
from volgrad.runtime import double_precision

__all__ = ["Limits", "Screened", "screen"]

HOUR_YEARS = 1.0 / (365 * 24)
# implied volatilities are computed in blocks of one of these sizes, so that two compiled programs serve every
# table
_BLOCKS = (1024, 16384)


@dataclass(frozen=True)
class Limits:
    """What a quote must keep to be used.

    Attributes:
        shortest_years: least time to expiry. Two hours: inside the last half hour the option is on an average
            (the delivery price), and a tick is worth many volatility points long before (assumption; the
            rule of the benchmark's held-out quotes).
        widest_spread: largest ask_iv - bid_iv, as a fraction (0.4 = 40 volatility points).
    """

    shortest_years: float = 2 * HOUR_YEARS
    widest_spread: float = 0.40


@dataclass(frozen=True)
class Screened:
    """Every row judged.

    Attributes:
        reason: :class:`Reason` codes, one a row.
        rows: the rows that are used, sorted by slot and strike; the arrays below belong to them.
        bid, ask: premium divided by the forward (the coin premium itself for inverse options).
        bid_iv, ask_iv: implied volatilities, fractions.
        is_call: side of each used row.
        terms: forwards, times, log-moneyness (of all slots and rows).
    """

    reason: Int[np.ndarray, " rows"]
    rows: Int[np.ndarray, " used"]
    bid: Float[np.ndarray, " used"]
    ask: Float[np.ndarray, " used"]
    bid_iv: Float[np.ndarray, " used"]
    ask_iv: Float[np.ndarray, " used"]
    is_call: Bool[np.ndarray, " used"]
    terms: Terms


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # absurd values become inf or NaN and are judged
def screen(quotes: Quotes, groups: Groups, limits: Limits) -> Screened:
    """Judge every row of `quotes`; see :class:`Reason` for the order."""
    judge = _Judge(quotes.reason)
    judge.flag(duplicates(quotes, groups), Reason.DUPLICATE)
    terms = terms_of(quotes, groups, judge.open)
    years = np.append(terms.expiry_years, np.nan)[groups.slot]
    forward = np.append(terms.forward_usd, np.nan)[groups.slot]
    judge.flag(~(years > 0), Reason.EXPIRED)
    judge.flag(years < limits.shortest_years, Reason.TOO_SHORT)
    judge.flag(~(forward > 0) | ~np.isfinite(terms.log_moneyness), Reason.NO_FORWARD)
    linear = np.append(groups.chain_linear, False)[groups.chain]
    unit = np.where(linear, forward, 1.0)
    bid, ask = (number_column(quotes.table, name) / unit for name in ("bid", "ask"))
    k, is_call = terms.log_moneyness, text_codes(quotes.table["cp"])[1] == 0
    _judge_prices(judge, bid, ask, k, is_call)
    _judge_volatilities_given(judge, quotes)
    judge.flag(np.where(is_call, k < 0, k >= 0), Reason.ITM)
    rows = np.flatnonzero(judge.open)
    rows = rows[np.lexsort((number_column(quotes.table, "strike")[rows], groups.slot[rows]))]
    both = _total_volatility(np.append(bid[rows], ask[rows]), np.tile(k[rows], 2), np.tile(is_call[rows], 2))
    bid_iv, ask_iv = both.reshape(2, -1) / np.sqrt(years[rows])
    judge.flag_rows(rows, ~(bid_iv > 0) | ~(ask_iv > bid_iv), Reason.NO_IV)
    judge.flag_rows(rows, ask_iv - bid_iv > limits.widest_spread, Reason.WIDE)
    used = judge.open[rows]
    rows = rows[used]
    return Screened(judge.reason, rows, bid[rows], ask[rows], bid_iv[used], ask_iv[used], is_call[rows], terms)


class _Judge:
    """Reasons while they are given: the first that holds stays."""

    def __init__(self, reason: Int[np.ndarray, " rows"]) -> None:
        self.reason = reason.copy()

    @property
    def open(self) -> Bool[np.ndarray, " rows"]:
        """Rows without a reason so far."""
        return self.reason == 0

    def flag(self, mask: Bool[np.ndarray, " rows"], reason: Reason) -> None:
        np.copyto(self.reason, np.int8(reason), where=self.open & mask)

    def flag_rows(self, rows: Int[np.ndarray, " some"], mask: Bool[np.ndarray, " some"], reason: Reason) -> None:
        chosen = rows[mask]
        self.reason[chosen] = np.where(self.reason[chosen] == 0, np.int8(reason), self.reason[chosen])


def _judge_prices(
    judge: _Judge,
    bid: Float[np.ndarray, " rows"],
    ask: Float[np.ndarray, " rows"],
    k: Float[np.ndarray, " rows"],
    is_call: Bool[np.ndarray, " rows"],
) -> None:
    """Bounds of a normalised premium: (1 - e^k)+ to 1 for a call, (e^k - 1)+ to e^k for a put
    (no-arbitrage, Merton 1973).
    """
    judge.flag((bid < 0) | (ask < 0) | np.isinf(bid) | np.isinf(ask), Reason.BAD_PRICE)
    judge.flag(np.isnan(bid) & np.isnan(ask), Reason.NO_QUOTE)
    judge.flag(np.isnan(bid) | np.isnan(ask), Reason.ONE_SIDED)
    judge.flag(bid > ask, Reason.CROSSED)
    judge.flag(bid == ask, Reason.LOCKED)
    ratio = np.exp(k)
    intrinsic = np.maximum(np.where(is_call, 1.0 - ratio, ratio - 1.0), 0.0)
    judge.flag(bid <= intrinsic, Reason.BELOW_INTRINSIC)
    judge.flag(ask >= np.where(is_call, 1.0, ratio), Reason.ABOVE_BOUND)


def _judge_volatilities_given(judge: _Judge, quotes: Quotes) -> None:
    """A volatility that cannot stand beside two good prices (0, negative, NaN, the cap): the record is not
    trusted.
    """
    for name in ("ask_iv", "bid_iv"):
        if name in quotes.table.column_names:
            given = number_column(quotes.table, name)
            present = quotes.table[name].is_valid().to_numpy()
            judge.flag(present & (given >= IV_CAP), Reason.IV_CAP)
            judge.flag(present & ~(given > 0), Reason.BAD_IV)


def _total_volatility(
    premium: Float[np.ndarray, " rows"], k: Float[np.ndarray, " rows"], is_call: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Implied total volatility, NaN where there is none, in blocks of fixed size (one compiled program for
    each).
    """
    rows = len(premium)
    block = _BLOCKS[0] if rows <= 4 * _BLOCKS[0] else _BLOCKS[1]
    padded = -(-rows // block) * block
    # an at-the-money call of 10 % total volatility fills the last block
    filled = [np.full(padded, 0.0398), np.zeros(padded), np.ones(padded, bool)]
    for whole, part in zip(filled, (premium, k, is_call), strict=True):
        whole[:rows] = part
    out = np.full(padded, np.nan)
    with double_precision():
        for start in range(0, padded, block):
            piece = slice(start, start + block)
            volatility, _ = implied_total_volatility(*(whole[piece] for whole in filled))
            out[piece] = np.asarray(volatility)
    return np.where(np.isfinite(out[:rows]), out[:rows], np.nan)
