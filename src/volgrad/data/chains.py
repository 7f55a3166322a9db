"""Quotes -> chains: the quotes of one underlying at one instant, screened, each expiry with its one forward.

>>> import pyarrow as pa
>>> from datetime import datetime, timezone
>>> from volgrad.data.read import read_quotes
>>> now, then = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 27, 8, tzinfo=timezone.utc)
>>> quotes = read_quotes(pa.table({"ts": [now] * 3, "ccy": ["BTC"] * 3, "expiry": [then] * 3,
...     "strike": [8e4, 9e4, 1e5], "cp": ["P", "C", "C"], "bid": [0.030, 0.090, 0.050],
...     "ask": [0.032, 0.094, None], "underlying": [88_000.0] * 3}))
>>> chain = build_chains(quotes)[0]
>>> chain.strike_usd.tolist(), chain.left_out
([80000.0, 90000.0], {'one_sided': 1})
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from volgrad.data.groups import Groups, number_column
from volgrad.data.read import Quotes
from volgrad.data.reasons import Reason, Rejections, advice, left_out
from volgrad.data.schema import VOLATILITIES
from volgrad.data.screen import Limits, Screened, screen
from volgrad.data.units import check_against_prices, check_premiums
from volgrad.errors import EmptyInputError, InputError
from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement

__all__ = ["Built", "LeftOutExpiry", "Limits", "RefusedChain", "build", "build_chains"]


@dataclass(frozen=True)
class LeftOutExpiry:
    """An expiry of a chain of which no quote is used: `left_out` says why (reason -> rows)."""

    ts_us: int
    ccy: str
    split: str | None
    settlement: Settlement
    expiry_us: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class RefusedChain:
    """A chain that cannot be fitted: no usable quote, or columns that contradict each other. `why` is a
    sentence.
    """

    ts_us: int
    ccy: str
    split: str | None
    settlement: Settlement
    left_out: dict[str, int]
    why: str


@dataclass(frozen=True)
class Built:
    """Chains, and an account of every row that is in none.

    Attributes:
        chains: ordered by stamp, underlying, split (text order; no split first), settlement.
        refused: chains without a usable quote, or that contradict themselves, in the same order.
        rejections: all rows by source and reason, what reading rejected included.
        left_out_expiries: expiries of which no quote is used.
        notes: sentences: what reading assumed, the forward's rule, doubts about units.
    """

    chains: list[Chain]
    refused: tuple[RefusedChain, ...]
    rejections: Rejections
    left_out_expiries: tuple[LeftOutExpiry, ...]
    notes: tuple[str, ...]


def build_chains(quotes: Quotes, limits: Limits | None = None) -> list[Chain]:
    """The chains of `quotes`; :func:`build` also accounts for the rows that are in none.

    Raises:
        UnitsError: volatilities or premiums cannot be in the unit of their source.
        InputError: `log_moneyness` of the table contradicts its strikes and forwards.
    """
    return build(quotes, limits).chains


def build(quotes: Quotes, limits: Limits | None = None) -> Built:
    """Screen `quotes` and group them into chains; in each, used + left out = rows read.

    Args:
        quotes: what `read_quotes` gave.
        limits: least time to expiry and widest spread (None: the defaults of :class:`Limits`).

    Raises:
        UnitsError: volatilities or premiums cannot be in the unit of their source.
        EmptyInputError: no row has both a time stamp and an underlying.
        InputError: `log_moneyness` of the table contradicts its strikes and forwards.
    """
    groups = Groups.of(quotes)
    if not groups.chains:
        name = quotes.sources[0].name
        raise EmptyInputError(
            f"{name}: none of {quotes.rows} rows has both a time stamp (ts) and an underlying (ccy).",
            file=name,
        )
    screened = screen(quotes, groups, limits or Limits())
    doubts = _check_units(quotes, groups, screened)
    chains, refused, reason = _assemble(quotes, groups, screened)
    return Built(
        chains=chains,
        refused=tuple(refused),
        rejections=quotes.count(reason),
        left_out_expiries=_left_out_expiries(groups, reason),
        notes=(*quotes.notes, *screened.terms.notes, *doubts),
    )


def _assemble(
    quotes: Quotes, groups: Groups, screened: Screened
) -> tuple[list[Chain], list[RefusedChain], Int[np.ndarray, " rows"]]:
    """Slice the used rows, sorted by slot and strike, into chains; also the final reason of every row."""
    terms, rows = screened.terms, screened.rows
    slots, slot_rank = np.unique(groups.slot[rows], return_inverse=True)
    bounds = np.arange(groups.chains + 1)
    first_slot = np.searchsorted(groups.slot_chain[slots], bounds)
    first_row = np.searchsorted(groups.chain[rows], bounds)
    slot_columns = {
        "expiry_us": groups.slot_expiry_us[slots],
        "expiry_years": terms.expiry_years[slots],
        "forward_usd": terms.forward_usd[slots],
    }
    row_columns = {
        "expiry_index": (slot_rank - first_slot[groups.chain[rows]]).astype(np.int32),
        "strike_usd": number_column(quotes.table, "strike")[rows],
        "log_moneyness": terms.log_moneyness[rows],
        "is_call": screened.is_call,
        "bid": screened.bid,
        "ask": screened.ask,
        "bid_iv": screened.bid_iv,
        "ask_iv": screened.ask_iv,
    }
    reason = screened.reason.copy()
    counts = _counts(groups.chain, reason, groups.chains)
    chains, refused = [], []
    for index in range(groups.chains):
        of_slots = slice(first_slot[index], first_slot[index + 1])
        of_rows = slice(first_row[index], first_row[index + 1])
        name = groups.name_of(index)
        try:
            chains.append(
                Chain(
                    **name,
                    **{column: values[of_slots] for column, values in slot_columns.items()},
                    **{column: values[of_rows] for column, values in row_columns.items()},
                    left_out=left_out(counts[index]),
                )
            )
        except InputError as error:
            used = rows[of_rows]
            reason[used] = Reason.CHAIN_REFUSED
            counts[index, Reason.CHAIN_REFUSED], counts[index, Reason.USED] = len(used), 0
            why = str(error) if len(used) else _why_empty(counts[index])
            refused.append(RefusedChain(**name, left_out=left_out(counts[index]), why=why))
    return chains, refused, reason


def _why_empty(counts: Int[np.ndarray, " reasons"]) -> str:
    reasons = list(left_out(counts).items())
    listed = ", ".join(f"{count} {reason} ({advice(reason)})" for reason, count in reasons[:3])
    more = f" and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    return f"none of {int(counts.sum())} quotes is usable: {listed}{more}"


def _counts(
    group: Int[np.ndarray, " rows"], reason: Int[np.ndarray, " rows"], groups: int
) -> Int[np.ndarray, "groups reasons"]:
    width = len(Reason)
    grouped = group >= 0
    flat = np.bincount(group[grouped] * width + reason[grouped], minlength=groups * width)
    return flat.reshape(groups, width)


def _left_out_expiries(groups: Groups, reason: Int[np.ndarray, " rows"]) -> tuple[LeftOutExpiry, ...]:
    counts = _counts(groups.slot, reason, groups.slots)
    records = []
    for slot in np.flatnonzero(counts[:, Reason.USED] == 0).tolist():
        name = groups.name_of(int(groups.slot_chain[slot]))
        records.append(
            LeftOutExpiry(**name, expiry_us=int(groups.slot_expiry_us[slot]), left_out=left_out(counts[slot]))
        )
    return tuple(records)


def _check_units(quotes: Quotes, groups: Groups, screened: Screened) -> list[str]:
    """Volatilities and premiums of each source against each other; returns doubts short of a refusal."""
    doubts = []
    rows, terms = screened.rows, screened.terms
    years = terms.expiry_years[groups.slot[rows]]
    implied = {
        "bid_iv": screened.bid_iv,
        "ask_iv": screened.ask_iv,
        "mark_iv": 0.5 * (screened.bid_iv + screened.ask_iv),
    }
    linear = np.append(groups.chain_linear, False)[groups.chain]
    for index, source in enumerate(quotes.sources):
        of_used = quotes.source_index[rows] == index
        for name in VOLATILITIES:
            given = number_column(quotes.table, name)[rows[of_used]]
            ratio = check_against_prices(given, implied[name][of_used], name, source.name, source.kind)
            if ratio is not None and not 0.8 < ratio < 1.25:
                doubts.append(
                    f"{source.name}: {name} is {ratio:.3g} times the volatility of its price in the median; "
                    "check forward and time to expiry"
                )
        near = of_used & (np.abs(terms.log_moneyness[rows]) < 0.02) & (years >= 7 / 365)
        of_source = quotes.source_index == index
        check_premiums(
            source.name,
            above_bound=int((screened.reason[of_source & ~linear] == Reason.ABOVE_BOUND).sum()),
            used=int((of_used & ~linear[rows]).sum()),
            near_linear=screened.ask[near & linear[rows]],
        )
    return doubts
