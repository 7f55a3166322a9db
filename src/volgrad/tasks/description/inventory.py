"""What there is: rows, chains, times, and what was left out."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from volgrad.data.chains import Built
from volgrad.data.read import Quotes
from volgrad.tasks.description.panel import GAP, Panel

__all__ = ["Contents", "Gap", "Inventory", "Period", "inventory", "utc"]

_HOUR_US = 3.6e9
_SHORT_US = 3 * 24 * _HOUR_US
_MOST_GAPS = 20  # that are named; all are counted


@dataclass(frozen=True)
class Gap:
    """A time without chains: from the last before to the first after it, UTC, and hours between."""

    underlying: str
    begins: str
    ends: str
    hours: float


@dataclass(frozen=True)
class Contents:
    """Chains of one underlying.

    Attributes:
        underlying: its name.
        chains, quotes: used ones.
        refused: chains without a usable quote.
        first, last: stamps, UTC.
        cadence_hours: median distance of chains; NaN for one chain.
        gaps: distances more than three times as long.
        expiries, quotes_per_chain: least, median and most of a chain.
    """

    underlying: str
    chains: int
    quotes: int
    refused: int
    first: str
    last: str
    cadence_hours: float
    gaps: int
    expiries: tuple[int, float, int]
    quotes_per_chain: tuple[int, float, int]


@dataclass(frozen=True)
class Period:
    """A UTC day, or hour, of one underlying: when it begins, chains, and quotes used of them."""

    begins: str
    underlying: str
    chains: int
    quotes: int


@dataclass(frozen=True)
class Inventory:
    """Everything that was read.

    Attributes:
        rows: in the table; `used` of them are in a chain, `left_out` are counted by reason, most frequent first.
        rows_elsewhere: rows of the sources outside the asked time or underlying.
        sources: name, kind and rows of each.
        set_aside: files that could not be read, and why.
        underlyings: what there is of each.
        gaps: the longest ones, by length.
        period_hours: 24, or 1 where all is within three days.
        periods: one record a period and underlying, those without chains left out.
    """

    rows: int
    used: int
    left_out: dict[str, int]
    rows_elsewhere: int
    sources: tuple[dict[str, str | int], ...]
    set_aside: tuple[dict[str, str], ...]
    underlyings: tuple[Contents, ...]
    gaps: tuple[Gap, ...]
    period_hours: int
    periods: tuple[Period, ...]


def utc(stamp_us: int) -> str:
    """Text of a stamp to the second.

    >>> utc(1_767_259_115_173_000)
    '2026-01-01T09:18:35Z'
    """
    return f"{np.datetime64(int(stamp_us), 'us').astype('datetime64[s]')}Z"


def inventory(quotes: Quotes, built: Built, panel: Panel) -> Inventory:
    """Count what `quotes` hold and what `built` made of them; `panel` is that of its chains."""
    contents, gaps = [], []
    extent_us = int(np.ptp(panel.chain_stamp_us))
    period_hours = 1 if extent_us < _SHORT_US else 24
    refused = [one.ccy for one in built.refused]
    for number, name in enumerate(panel.underlyings):
        own = np.flatnonzero(panel.chain_underlying == number)
        stamps = np.unique(panel.chain_stamp_us[own])
        found = _gaps(name, stamps)
        gaps += found
        contents.append(_contents(panel, name, own, (refused.count(name.split(" ")[0]), len(found))))
    return Inventory(
        rows=quotes.rows,
        used=built.rejections.used,
        left_out=built.rejections.by_reason(),
        rows_elsewhere=sum(source.rows_filtered for source in quotes.sources),
        sources=tuple(
            {"source": source.name, "kind": source.kind.value, "rows": source.rows} for source in quotes.sources
        ),
        set_aside=tuple({"source": str(one.file), "why": one.why} for one in quotes.quarantined),
        underlyings=tuple(contents),
        gaps=tuple(sorted(gaps, key=lambda gap: -gap.hours)[:_MOST_GAPS]),
        period_hours=period_hours,
        periods=_periods(panel, period_hours * int(_HOUR_US)),
    )


def _contents(panel: Panel, name: str, own: Int[np.ndarray, " chains"], counts: tuple[int, int]) -> Contents:
    stamps = panel.chain_stamp_us[own]
    distinct = np.diff(np.unique(stamps))
    slots = np.unique(panel.slot * len(panel.chain_order) + panel.chain) % len(panel.chain_order)
    expiries = np.bincount(slots, minlength=len(panel.chain_order))[own]
    rows = np.bincount(panel.chain, minlength=len(panel.chain_order))[own]
    return Contents(
        underlying=name,
        chains=len(own),
        quotes=int(rows.sum()),
        refused=counts[0],
        first=utc(stamps.min()),
        last=utc(stamps.max()),
        cadence_hours=float(np.median(distinct)) / _HOUR_US if len(distinct) else math.nan,
        gaps=counts[1],
        expiries=_three(expiries),
        quotes_per_chain=_three(rows),
    )


def _three(values: Int[np.ndarray, " chains"]) -> tuple[int, float, int]:
    return int(values.min()), float(np.median(values)), int(values.max())


def _gaps(name: str, stamps: Int[np.ndarray, " stamps"]) -> list[Gap]:
    apart = np.diff(stamps)
    if not len(apart):
        return []
    wide = np.flatnonzero(apart > GAP * np.median(apart))
    return [Gap(name, utc(stamps[at]), utc(stamps[at + 1]), float(apart[at]) / _HOUR_US) for at in wide.tolist()]


def _periods(panel: Panel, width_us: int) -> tuple[Period, ...]:
    period = panel.chain_stamp_us // width_us
    first, kinds = int(period.min()), len(panel.underlyings)
    numbers, code = np.unique((period - first) * kinds + panel.chain_underlying, return_inverse=True)
    chains = np.bincount(code)
    quotes = np.bincount(code[panel.chain], minlength=len(numbers))
    return tuple(
        Period(
            utc((first + number // kinds) * width_us),
            panel.underlyings[number % kinds],
            int(chains[at]),
            int(quotes[at]),
        )
        for at, number in enumerate(numbers.tolist())
    )
