"""Quotes as numpy columns, each row with the number of its chain and of its (chain, expiry) slot.

Numbers follow from the values alone (chain stamp, underlying, split, settlement; then expiry), never from the
order of rows
or files, nor from how text was encoded: the same quotes give the same chains.
"""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from volgrad.data.columns import NO_STAMP, stamp_us, text_codes
from volgrad.data.filters import chain_stamps
from volgrad.data.read import Quotes
from volgrad.market.instruments import Settlement

__all__ = ["Groups", "duplicates", "grouped_median", "number_column"]


class ChainName(TypedDict):
    """What tells one chain from another."""

    ts_us: int
    ccy: str
    split: str | None
    settlement: Settlement


@dataclass(frozen=True)
class Groups:
    """Chains and slots of a table. A chain is one (stamp, ccy, split, settlement); a slot one expiry of one
    chain.

    Attributes:
        chain: chain of each row, -1 where it has no stamp or no underlying.
        slot: slot of each row, -1 where it has no chain or no expiry.
        chain_stamp_us, chain_ccy, chain_split, chain_linear: of each chain, ascending in this order.
        slot_chain, slot_expiry_us: of each slot, ascending in this order.
        ccys, splits: text of the codes (`chain_split` -1: no split).
    """

    chain: Int[np.ndarray, " rows"]
    slot: Int[np.ndarray, " rows"]
    chain_stamp_us: Int[np.ndarray, " chains"]
    chain_ccy: Int[np.ndarray, " chains"]
    chain_split: Int[np.ndarray, " chains"]
    chain_linear: Bool[np.ndarray, " chains"]
    slot_chain: Int[np.ndarray, " slots"]
    slot_expiry_us: Int[np.ndarray, " slots"]
    ccys: list[str]
    splits: list[str]

    @classmethod
    def of(cls, quotes: Quotes) -> "Groups":
        """Number the chains and slots of `quotes`."""
        table = quotes.table
        stamps, stamp = np.unique(stamp_us(chain_stamps(table)), return_inverse=True)
        ccys, ccy = text_codes(table["ccy"])
        splits, split = _optional_codes(table, "split")
        settlements, settlement = _optional_codes(table, "settlement")
        linear = np.array([s == "linear" for s in settlements] + [False])[settlement]
        shape = (len(stamps), max(len(ccys), 1), len(splits) + 1, 2)
        key = np.ravel_multi_index((stamp, np.maximum(ccy, 0), split + 1, linear.astype(np.int64)), shape)
        lost = (ccy < 0) | (stamps[stamp] == NO_STAMP)
        chains, chain = _number(key, lost)
        of_stamp, of_ccy, of_split, of_linear = np.unravel_index(chains, shape)
        expiries, expiry = np.unique(stamp_us(table["expiry"]), return_inverse=True)
        no_slot = lost | (expiries[expiry] == NO_STAMP)
        slots, slot = _number(np.maximum(chain, 0) * len(expiries) + expiry, no_slot)
        return cls(
            chain=chain,
            slot=slot,
            chain_stamp_us=stamps[of_stamp],
            chain_ccy=of_ccy,
            chain_split=of_split - 1,
            chain_linear=of_linear.astype(bool),
            slot_chain=slots // max(len(expiries), 1),
            slot_expiry_us=expiries[slots % max(len(expiries), 1)],
            ccys=ccys,
            splits=splits,
        )

    @property
    def chains(self) -> int:
        """Number of chains."""
        return len(self.chain_stamp_us)

    def name_of(self, chain: int) -> "ChainName":
        """What tells the chain from the others."""
        split = int(self.chain_split[chain])
        return {
            "ts_us": int(self.chain_stamp_us[chain]),
            "ccy": self.ccys[self.chain_ccy[chain]],
            "split": None if split < 0 else self.splits[split],
            "settlement": Settlement.LINEAR if self.chain_linear[chain] else Settlement.INVERSE,
        }

    @property
    def slots(self) -> int:
        """Number of (chain, expiry) slots."""
        return len(self.slot_chain)


def _optional_codes(table: pa.Table, name: str) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    if name in table.column_names:
        return text_codes(table[name])
    return [], np.full(table.num_rows, -1, np.int64)


def _number(
    key: Int[np.ndarray, " rows"], lost: Bool[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " groups"], Int[np.ndarray, " rows"]]:
    """Distinct keys in order, and each row's position among them (-1 for lost rows)."""
    distinct, number = np.unique(key[~lost], return_inverse=True)
    numbers = np.full(len(key), -1, np.int64)
    numbers[~lost] = number
    return distinct, numbers


def number_column(table: pa.Table, name: str) -> Float[np.ndarray, " rows"]:
    """A number column of a canonical table, NaN where null; all NaN where the table has no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return table[name].to_numpy()


def duplicates(quotes: Quotes, groups: Groups) -> Bool[np.ndarray, " rows"]:
    """Rows that repeat an option inside a chain: all but the latest by the row's own time.

    Rows of equal time are told apart by their prices, so that the choice does not depend on the order of
    rows. Rows that are rejected already take no part.
    """
    table = quotes.table
    rows = np.flatnonzero((quotes.reason == 0) & (groups.slot >= 0))
    strikes, strike = np.unique(number_column(table, "strike")[rows].astype(np.float32), return_inverse=True)
    _, side = text_codes(table["cp"])
    option = (groups.slot[rows] * len(strikes) + strike) * 2 + side[rows]
    repeated = np.zeros(table.num_rows, bool)
    distinct, position, count = np.unique(option, return_inverse=True, return_counts=True)
    if len(distinct) == len(rows):
        return repeated
    some = np.flatnonzero(count[position] > 1)
    prices = [np.nan_to_num(number_column(table, name)[rows[some]], nan=-1.0) for name in ("ask", "bid")]
    order = np.lexsort((*prices, stamp_us(table["ts"])[rows[some]], option[some]))
    chosen = some[order]
    last = np.append(option[chosen][1:] != option[chosen][:-1], True)
    repeated[rows[chosen[~last]]] = True
    return repeated


def grouped_median(
    values: Float[np.ndarray, " rows"], group: Int[np.ndarray, " rows"], groups: int
) -> tuple[Float[np.ndarray, " groups"], Float[np.ndarray, " groups"]]:
    """Median and relative range (max/min - 1) of the finite positive values of each group; NaN where there
    are none.

    >>> middle, spread = grouped_median(np.array([3.0, 1.0, 2.0, np.nan]), np.array([0, 0, 0, 1]), 2)
    >>> middle.tolist(), spread.tolist()
    ([2.0, nan], [2.0, nan])
    """
    valid = np.flatnonzero((group >= 0) & (values > 0) & np.isfinite(values))
    order = valid[np.lexsort((values[valid], group[valid]))]
    sorted_values = values[order]
    start = np.searchsorted(group[order], np.arange(groups + 1))
    first, count = start[:-1], np.diff(start)
    some = count > 0
    middle, spread = np.full(groups, np.nan), np.full(groups, np.nan)
    lower = sorted_values[(first + (count - 1) // 2)[some]]
    upper = sorted_values[(first + count // 2)[some]]
    middle[some] = 0.5 * (lower + upper)
    spread[some] = sorted_values[(first + count - 1)[some]] / sorted_values[first[some]] - 1
    return middle, spread
