"""What is asked of a fitted surface: rows of a query or of a grid, matched to chains, as log-moneyness and
time to expiry.

The columns of the asking table stay as they came (value and type): predictions are joined back on them.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from volgrad.data import columns
from volgrad.data.chains import RefusedChain
from volgrad.data.files import expand, is_table, read_whole
from volgrad.data.matching import ChainFinder
from volgrad.data.schema import missing_columns
from volgrad.data.stamps import stamp
from volgrad.errors import EmptyInputError, InputError
from volgrad.market.chain import Chain
from volgrad.market.instruments import expiry_years

__all__ = ["Asked", "Located", "Unanswerable", "locate", "locate_grid", "read_grid", "read_query"]

QUERY_KEYS = ("split", "ts", "ccy", "expiry", "strike", "cp")
_QUERY_REQUIRED = QUERY_KEYS[1:]
_GRID_REQUIRED = ("ts", "ccy", "tau_years", "k")


class Unanswerable(enum.IntEnum):
    """Why a row of a query can have no volatility; ``NO`` where it can.

    >>> Unanswerable.NO_CHAIN.label
    'no_chain'
    """

    NO = 0
    NO_CHAIN = 1
    CHAIN_REFUSED = 2
    BAD_STRIKE = 3
    EXPIRED = 4
    NO_FORWARD = 5

    @property
    def label(self) -> str:
        """The name used in the summary."""
        return self.name.lower()


@dataclass(frozen=True)
class Asked:
    """A query or a grid as it came: the table with all its columns, and the source's name for messages."""

    table: pa.Table
    source: str

    @property
    def rows(self) -> int:
        """Rows asked for."""
        return self.table.num_rows


@dataclass(frozen=True)
class Located:
    """Where each row asked for lies.

    Attributes:
        chain: position in the list of chains, -1 where there is none (or a refused one) of this stamp and
            underlying.
        log_moneyness: ln(strike/forward), forward of the row's own expiry (NaN: unknown).
        expiry_years: ACT/365 time to expiry (NaN: unknown).
        unanswerable: :class:`Unanswerable` codes; 0 where a surface of the chain can be asked.
    """

    chain: Int[np.ndarray, " rows"]
    log_moneyness: Float[np.ndarray, " rows"]
    expiry_years: Float[np.ndarray, " rows"]
    unanswerable: Int[np.ndarray, " rows"]

    def reasons(self) -> dict[str, int]:
        """Rows that cannot be answered, by reason."""
        counts = np.bincount(self.unanswerable, minlength=len(Unanswerable))
        return {code.label: int(counts[code]) for code in Unanswerable if code and counts[code]}


def read_query(source: Any) -> Asked:
    """Read a query: `ts`, `ccy`, `expiry`, `strike`, `cp`, optionally `split`, `log_moneyness`, `tau_years`,
    `forward`.

    Args:
        source: a Parquet, Arrow IPC or CSV file, or anything with `__arrow_c_stream__`.

    Raises:
        InputError: no such file, or damaged.
        SchemaError: a column is missing.
        EmptyInputError: no row.
    """
    return _read(source, _QUERY_REQUIRED, "a query")


def read_grid(source: Any) -> Asked:
    """Read a grid: `ts`, `ccy`, `tau_years`, `k` (log-moneyness), optionally `split`; raises as
    :func:`read_query`.
    """
    return _read(source, _GRID_REQUIRED, "a grid")


def _read(source: Any, required: tuple[str, ...], what: str) -> Asked:
    if is_table(source):
        name, table = "table", pa.table(source)
    elif isinstance(source, str | Path):
        name = str(source)
        if Path(source).is_dir():
            raise InputError(f"{name}: is a directory; give the one file that holds {what}.", file=name)
        table = read_whole(expand(source)[0])
    else:
        raise InputError(f"{type(source).__name__} is neither a path nor a table with __arrow_c_stream__.")
    missing_columns(table.column_names, required, name, what)
    if not table.num_rows:
        raise EmptyInputError(f"{name}: {what} without a row; nothing is asked for.", file=name)
    return Asked(table, name)


def locate(asked: Asked, chains: Sequence[Chain], refused: Sequence[RefusedChain] = ()) -> Located:
    """Chain, log-moneyness and time to expiry of every row of a query.

    Rows match a chain by stamp (`cycle` where the query has it, else `ts`, whatever its unit), `ccy`, and
    `split` where the query has it; a chain without a split serves every split. `log_moneyness` and
    `tau_years` of the query are used as they are. Else log-moneyness is taken against the query's `forward`,
    else against the chain's own forward for the expiry; for an expiry that the chain lacks, ln(forward) is
    linear in time between its expiries and flat beyond.

    Raises:
        SchemaError: a column of a type that cannot be read.
    """
    stamp_us = _stamps(asked, "cycle" if "cycle" in asked.table.column_names else "ts")
    chain = _find(asked, chains, refused, stamp_us)
    strike, expiry_us = _numbers(asked, "strike"), _stamps(asked, "expiry")
    known = (expiry_us != columns.NO_STAMP) & (stamp_us != columns.NO_STAMP)
    counted = np.where(known, expiry_years(np.where(known, expiry_us, 0), np.where(known, stamp_us, 0)), np.nan)
    given_years = _numbers(asked, "tau_years")
    years = np.where(np.isfinite(given_years), given_years, counted)
    k = _numbers(asked, "log_moneyness")
    sound = (strike > 0) & np.isfinite(strike)
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.where(np.isfinite(k), k, np.log(strike / _numbers(asked, "forward")))
    in_chain = (chain >= 0) & (chain < len(chains))
    lacking = np.flatnonzero(~np.isfinite(k) & sound & in_chain & np.isfinite(years))
    k[lacking] = np.log(strike[lacking]) - _log_forwards(chains, chain[lacking], years[lacking])
    return _judged(chain, len(chains), k, years, sound | np.isfinite(k))


def locate_grid(asked: Asked, chains: Sequence[Chain], refused: Sequence[RefusedChain] = ()) -> Located:
    """Chain of every row of a grid; `k` and `tau_years` are used as they are.

    Without `split` in the grid, chains of the `interp` split are taken where chains are split.
    """
    chain = _find(asked, chains, refused, _stamps(asked, "ts"))
    k = _numbers(asked, "k")
    return _judged(chain, len(chains), k, _numbers(asked, "tau_years"), np.isfinite(k))


def _judged(
    chain: Int[np.ndarray, " rows"],
    chains: int,
    k: Float[np.ndarray, " rows"],
    years: Float[np.ndarray, " rows"],
    sound: Bool[np.ndarray, " rows"],
) -> Located:
    why = np.select(
        [chain < 0, chain >= chains, ~sound, ~(years > 0), ~np.isfinite(k)],
        [
            Unanswerable.NO_CHAIN,
            Unanswerable.CHAIN_REFUSED,
            Unanswerable.BAD_STRIKE,
            Unanswerable.EXPIRED,
            Unanswerable.NO_FORWARD,
        ],
        Unanswerable.NO,
    )
    return Located(np.where(chain < chains, chain, -1), k, years, why.astype(np.int8))


def _find(
    asked: Asked,
    chains: Sequence[Chain],
    refused: Sequence[RefusedChain],
    stamp_us: Int[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    texts = {
        name: columns.text_codes(columns.text(asked.table[name], name, asked.source))
        for name in ("ccy", "split", "settlement")
        if name in asked.table.column_names
    }
    return ChainFinder([*chains, *refused]).find(stamp_us, texts["ccy"], texts.get("split"), texts.get("settlement"))


def _log_forwards(
    chains: Sequence[Chain], chain: Int[np.ndarray, " rows"], years: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    out = np.full(len(chain), np.nan)
    if not len(chain):
        return out
    order = np.argsort(chain, kind="stable")
    numbers, start = np.unique(chain[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, start[1:]), strict=True):
        of = chains[number]
        out[rows] = np.interp(years[rows], of.expiry_years, np.log(of.forward_usd))
    return out


def _numbers(asked: Asked, name: str) -> Float[np.ndarray, " rows"]:
    if name not in asked.table.column_names:
        return np.full(asked.rows, np.nan)
    return columns.number(asked.table[name], name, asked.source)[0]


def _stamps(asked: Asked, name: str) -> Int[np.ndarray, " rows"]:
    return columns.stamp_us(stamp(asked.table[name], name, asked.source)[0])
