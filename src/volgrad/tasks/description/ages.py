"""Rows that carry a time of their own: how far it is from the stamp of their chain."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from volgrad.data.columns import stamp_us, text_codes
from volgrad.data.groups import Groups, number_column
from volgrad.data.read import Quotes
from volgrad.market.chain import Chain
from volgrad.tasks.description.panel import DELTA_LABELS, Panel, numbered

__all__ = ["Ages", "row_ages"]

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Ages:
    """Age of used quotes: their chain's stamp less their own time, in seconds; negative where a quote is younger than
    the stamp, as in a chain that takes minutes to collect.

    Attributes:
        rows: with a time of their own.
        quantiles: which, and `seconds`: the ages at them.
        deltas, by_delta: the same for each bucket of absolute delta.
        spread_seconds: median over chains of the distance between the ages' 5 % and 95 % quantiles: by how much a chain
            is no instant.
        why: a sentence where nothing can be said.
    """

    rows: int
    quantiles: tuple[float, ...]
    seconds: tuple[float, ...]
    deltas: tuple[str, ...]
    by_delta: tuple[tuple[float, ...], ...]
    spread_seconds: float
    why: str = ""


def row_ages(quotes: Quotes, chains: list[Chain], panel: Panel) -> Ages:
    """Ages of the quotes in `panel`, which is that of `chains`, which were built from `quotes`."""
    unknown = (math.nan,) * len(_QUANTILES)
    if "cycle" not in quotes.table.column_names or not len(quotes.table["cycle"].drop_null()):
        why = "Rows carry no time of their own beside their chain's stamp."
        return Ages(0, _QUANTILES, unknown, DELTA_LABELS, (unknown,) * len(DELTA_LABELS), math.nan, why)
    own_us = _own_times(quotes, chains, panel)
    known = np.flatnonzero(own_us != np.iinfo(np.int64).min)
    age = (panel.chain_stamp_us[panel.chain[known]] - own_us[known]) / 1e6
    bucket = panel.delta_bucket[known]
    return Ages(
        rows=len(known),
        quantiles=_QUANTILES,
        seconds=_quantiles(age),
        deltas=DELTA_LABELS,
        by_delta=tuple(_quantiles(age[bucket == one]) for one in range(len(DELTA_LABELS))),
        spread_seconds=_spread(age, panel.chain[known]),
    )


def _own_times(quotes: Quotes, chains: list[Chain], panel: Panel) -> Int[np.ndarray, " rows"]:
    """Own time of each row of the panel, found again in the table by chain and option; the latest where repeated."""
    groups = Groups.of(quotes)
    names = {(one.ts_us, one.ccy, one.split, one.settlement): number for number, one in enumerate(chains)}
    known = (groups.name_of(one) for one in range(groups.chains))
    keys = [(one["ts_us"], one["ccy"], one["split"], one["settlement"]) for one in known]
    of_group = np.array([*(names.get(key, -1) for key in keys), -1])
    chain = of_group[groups.chain]
    own = stamp_us(quotes.table["ts"])
    rows = np.flatnonzero((chain >= 0) & (groups.slot >= 0))
    rows = rows[np.argsort(own[rows], kind="stable")]
    columns = (
        (chain[rows], panel.chain),
        (groups.slot_expiry_us[groups.slot[rows]], panel.expiry_us),
        (np.nan_to_num(number_column(quotes.table, "strike")[rows], nan=-1.0), panel.strike_usd),
        (text_codes(quotes.table["cp"])[1][rows] == 0, panel.is_call),
    )
    option = numbered(*[np.concatenate(pair) for pair in columns])
    latest = np.full(int(option.max()) + 1, np.iinfo(np.int64).min)
    latest[option[: len(rows)]] = own[rows]  # in the order of time: the last one stays
    return latest[option[len(rows) :]]


def _quantiles(values: Float[np.ndarray, " rows"]) -> tuple[float, ...]:
    if not len(values):
        return (math.nan,) * len(_QUANTILES)
    return tuple(np.quantile(values, _QUANTILES).tolist())


def _spread(age: Float[np.ndarray, " rows"], chain: Int[np.ndarray, " rows"]) -> float:
    """Median over chains of the distance between the 5 % and 95 % quantiles."""
    if not len(age):
        return math.nan
    ordered = age[np.lexsort((age, chain))]
    _, first, count = np.unique(chain, return_index=True, return_counts=True)
    low, high = (_at(ordered, first + share * (count - 1)) for share in (_QUANTILES[0], _QUANTILES[-1]))
    return float(np.median(high - low))


def _at(values: Float[np.ndarray, " rows"], place: Float[np.ndarray, " places"]) -> Float[np.ndarray, " places"]:
    """Values at places between rows, linearly."""
    left = place.astype(np.int64)
    right = np.minimum(left + 1, len(values) - 1)
    share = place - left
    return np.where(share > 0.0, (1.0 - share) * values[left] + share * values[right], values[left])
