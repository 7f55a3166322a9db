"""What the quotes of one expiry share: one forward, one time to expiry; and each row's log-moneyness against
them.

The forward of a slot (one expiry of one chain), by the first rule that gives one:

1. ``forward`` of the table, as it is (its median where rows differ);
2. where no row prints an ``underlying``: ``log_moneyness`` of the table, the median of strike * exp(-k);
3. :func:`volgrad.market.forward.expiry_forwards`: the median of ``underlying`` over all rows of the expiry,
   and put-call parity where no row prints one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.data.columns import text_codes
from volgrad.data.groups import Groups, grouped_median, number_column
from volgrad.data.read import Quotes
from volgrad.errors import InputError
from volgrad.market.forward import ForwardRule, QuoteRows, expiry_forwards
from volgrad.market.instruments import Settlement, expiry_years

__all__ = ["Terms", "terms_of"]

# A given log-moneyness further than this from ln(strike/forward) belongs to another forward than its
# expiry's.
_MONEYNESS_TOLERANCE = 5e-5
# Further than this in the median, it is something else altogether (a ratio, a delta, a log of base 10).
_MONEYNESS_NONSENSE = 1e-2


@dataclass(frozen=True)
class Terms:
    """Forward (USD; NaN: none) and ACT/365 years to expiry of each slot, log-moneyness of each row, and
    sentences on how they came about.
    """

    forward_usd: Float[np.ndarray, " slots"]
    expiry_years: Float[np.ndarray, " slots"]
    log_moneyness: Float[np.ndarray, " rows"]
    notes: tuple[str, ...]


def terms_of(quotes: Quotes, groups: Groups, usable: Bool[np.ndarray, " rows"]) -> Terms:
    """One forward and one time to expiry a slot, and log-moneyness of every row.

    Args:
        quotes, groups: the table and its numbering.
        usable: rows that may speak for their expiry (a contract that can be read, no duplicates).

    Raises:
        InputError: `log_moneyness` of the table is not ln(strike/forward) of the same table.
    """
    table = quotes.table
    slot = np.where(usable, groups.slot, -1)
    strike, given_k = number_column(table, "strike"), number_column(table, "log_moneyness")
    forward, notes = _forwards(quotes, groups, slot)
    given_years, _ = grouped_median(number_column(table, "tau_years"), slot, groups.slots)
    counted = expiry_years(groups.slot_expiry_us, groups.chain_stamp_us[groups.slot_chain])
    computed_k = np.log(strike / np.append(forward, np.nan)[groups.slot])
    off = np.abs(given_k - computed_k)
    _refuse_nonsense(quotes, given_k, computed_k, off)
    if astray := int((off > _MONEYNESS_TOLERANCE).sum()):
        notes.append(f"log_moneyness of {astray} rows belongs to another forward than their expiry's: computed anew")
    return Terms(
        forward_usd=forward,
        expiry_years=np.where(np.isnan(given_years), counted, given_years),
        log_moneyness=np.where(off <= _MONEYNESS_TOLERANCE, given_k, computed_k),
        notes=tuple(notes),
    )


def _forwards(
    quotes: Quotes, groups: Groups, slot: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " slots"], list[str]]:
    """Forward of each slot by the first rule that gives one, and what was done, in words."""
    table = quotes.table
    forward = np.full(groups.slots, np.nan)
    told: list[tuple[str, int]] = []
    given, range_of_given = grouped_median(number_column(table, "forward"), slot, groups.slots)
    implied, _ = grouped_median(_forward_of_moneyness(quotes), slot, groups.slots)
    for name, candidate in (("as given", given), ("from log_moneyness", implied)):
        take = np.isnan(forward) & (candidate > 0)
        forward[take] = candidate[take]
        told.append((name, int(take.sum())))
    apart_bp = 1e4 * range_of_given
    rules = np.zeros(groups.slots, np.int8)
    for settlement in Settlement:
        needed = np.isnan(forward) & (groups.chain_linear[groups.slot_chain] == (settlement is Settlement.LINEAR))
        if needed.any():
            found = expiry_forwards(_rows_of(quotes, slot, needed), settlement, groups=groups.slots)
            forward[needed], rules[needed] = found.forward_usd[needed], found.rule[needed]
            medians = needed & (found.rule == ForwardRule.MEDIAN)
            apart_bp[medians] = found.disagreement_bp[medians]
    told += [(f"{rule.name.lower()} rule", int((rules == rule).sum())) for rule in ForwardRule if rule]
    words = ", ".join(f"{name} in {count} expiries" for name, count in told if count)
    notes = [f"forward: {words}"] if words else []
    disagree = apart_bp > 0.1
    if disagree.any():
        notes.append(
            f"forward: rows of {int(disagree.sum())} of {groups.slots} expiries give more than one, up to "
            f"{np.max(apart_bp[disagree]):.1f} bp apart; their median is used for all rows of the expiry"
        )
    return forward, notes


def _forward_of_moneyness(quotes: Quotes) -> Float[np.ndarray, " rows"]:
    """Strike * exp(-log_moneyness), where the row prints no forward of its own."""
    table = quotes.table
    printed = number_column(table, "underlying") > 0
    implied = number_column(table, "strike") * np.exp(-number_column(table, "log_moneyness"))
    return np.where(printed, np.nan, implied)


def _rows_of(quotes: Quotes, slot: Int[np.ndarray, " rows"], needed: Bool[np.ndarray, " slots"]) -> QuoteRows:
    """The rows of the slots that are `needed`, as the forward's rule takes them."""
    table = quotes.table
    rows = np.flatnonzero(np.append(needed, False)[slot])
    strike, bid, ask, underlying = (number_column(table, name)[rows] for name in ("strike", "bid", "ask", "underlying"))
    return QuoteRows(slot[rows], strike, text_codes(table["cp"])[1][rows] == 0, bid, ask, underlying)


def _refuse_nonsense(
    quotes: Quotes,
    given: Float[np.ndarray, " rows"],
    computed: Float[np.ndarray, " rows"],
    off: Float[np.ndarray, " rows"],
) -> None:
    both = np.flatnonzero(np.isfinite(off))
    if len(both) and (middle := float(np.median(off[both]))) > _MONEYNESS_NONSENSE:
        row = int(both[np.argmax(off[both])])
        name = quotes.sources[quotes.source_index[row]].name
        raise InputError(
            f"{name}: log_moneyness is not ln(strike/forward): they differ by {middle:.3g} in the median, "
            f"in row {row} {given[row]:.6g} against {computed[row]:.6g}; "
            "correct one of them or leave log_moneyness out.",
            file=name,
        )
