"""How old quotes are: their own times, how long they stand unchanged, and how far the market went meanwhile."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.market.black import price
from volgrad.runtime import double_precision
from volgrad.tasks.description.panel import DELTA_LABELS, TENOR_LABELS, Panel

__all__ = ["Staleness", "Survival", "staleness"]

_EQUAL = 1e-9  # relative: premiums are divided by the forward and multiplied again
_LEAST_AT_RISK = 10  # quotes that a point of a survival curve rests on, at least (assumption)
_MOST_CHAINS = 500  # that a curve is followed
_LAGS = tuple(2**power for power in range(11))
_LEAST_BLOCK = 1024  # prices are computed in blocks of a power of two, so that few shapes are compiled


@dataclass(frozen=True)
class Survival:
    """Share of quotes still unchanged after 1, 2, ... chains, by Kaplan and Meier.

    Attributes:
        bucket: of time to expiry when the quote was made; "all" for all.
        quotes: whose beginning was seen.
        share: after 1, 2, ... chains, as far as ten quotes were at risk.
        median_chains: the first count of chains after which half of them or fewer stand; NaN where more do at the end
            of the curve.
    """

    bucket: str
    quotes: int
    share: tuple[float, ...]
    median_chains: float


@dataclass(frozen=True)
class Staleness:
    """Staleness of used quotes. Tables are by time to expiry (rows) and absolute delta (columns); NaN where empty.

    Attributes:
        tenors, deltas: names of the rows and columns.
        pairs: quotes whose option was used in the chain before, on the same side.
        unchanged: share of them whose bid and ask are both what they were.
        stale: share of them that stand unchanged although the forward moved the option's value by more than the whole
            spread since the quote was made (or first seen), at the volatility it had then.
        table_pairs, table_unchanged, table_stale: the same by bucket.
        lags: counts of chains, and `unchanged_after`: share of quotes with the same prices that many chains later.
        survival: how long a quote stands: all, and by time to expiry.
        why: sentences on what could not be said.
    """

    tenors: tuple[str, ...]
    deltas: tuple[str, ...]
    pairs: int
    unchanged: float
    stale: float
    table_pairs: tuple[tuple[int, ...], ...]
    table_unchanged: tuple[tuple[float, ...], ...]
    table_stale: tuple[tuple[float, ...], ...]
    lags: tuple[int, ...]
    unchanged_after: tuple[float, ...]
    survival: tuple[Survival, ...]
    why: str = ""


@dataclass(frozen=True, eq=False)
class _Spells:
    """How long each row's quote has stood: `age` chains, since row `start`; `seen`: whether its beginning was seen."""

    paired: Bool[np.ndarray, " rows"]
    unchanged: Bool[np.ndarray, " rows"]
    age: Int[np.ndarray, " rows"]
    start: Int[np.ndarray, " rows"]
    seen: Bool[np.ndarray, " rows"]


def staleness(panel: Panel) -> Staleness:
    """Count standing quotes from chain to chain; chains beyond a gap are not compared.

    How long a quote stands is estimated from quotes whose beginning was seen, so that long ones are not met more often
    than short ones; a quote that is lost from sight (end of the store, a gap, expiry, in the money, one side missing)
    counts as long as it was seen: Kaplan and Meier (1958), JASA 53 [paper].
    """
    spells = _spells(panel)
    stale = spells.unchanged & _outrun(panel, spells)
    pairs = int(spells.paired.sum())
    counts = _table(panel, spells.paired)
    why = []
    if not pairs:
        why.append("No option is quoted on the same side in two chains in a row: nothing stands or moves.")
    elif not (spells.paired & ~spells.unchanged).any():
        why.append("Every quote stands unchanged throughout: how long one stands cannot be said.")
    lags, after = _after(panel)
    return Staleness(
        tenors=TENOR_LABELS,
        deltas=DELTA_LABELS,
        pairs=pairs,
        unchanged=_share(float(spells.unchanged.sum()), pairs),
        stale=_share(float(stale.sum()), pairs),
        table_pairs=tuple(tuple(row) for row in counts.tolist()),
        table_unchanged=_shares(_table(panel, spells.unchanged), counts),
        table_stale=_shares(_table(panel, stale), counts),
        lags=lags,
        unchanged_after=after,
        survival=_survivals(panel, spells),
        why=" ".join(why),
    )


def _same(panel: Panel, rows: Int[np.ndarray, " some"], before: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " some"]:
    """Whether bid and ask are equal, in the unit in which they are quoted."""
    unit = np.where(panel.linear, panel.forward_usd, 1.0)
    same = np.ones(len(rows), bool)
    for side in (panel.bid, panel.ask):
        now, then = side[rows] * unit[rows], side[before] * unit[before]
        same &= np.abs(now - then) <= _EQUAL * np.abs(then)
    return same


def _paired(panel: Panel, before: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    return (before >= 0) & (panel.is_call == panel.is_call[before])


def _spells(panel: Panel) -> _Spells:
    before = panel.earlier
    paired = _paired(panel, before)
    unchanged = np.zeros(panel.rows, bool)
    rows = np.flatnonzero(paired)
    unchanged[rows] = _same(panel, rows, before[rows])
    age, start, seen = np.zeros(panel.rows, np.int64), np.arange(panel.rows), paired & ~unchanged
    bounds = np.searchsorted(panel.chain, np.arange(len(panel.chain_order) + 1)).tolist()
    for chain in np.argsort(panel.chain_order, kind="stable").tolist():  # a chain rests on the one before
        own = np.arange(bounds[chain], bounds[chain + 1])
        own = own[unchanged[own]]
        age[own], start[own], seen[own] = age[before[own]] + 1, start[before[own]], seen[before[own]]
    return _Spells(paired, unchanged, age, start, seen)


def _outrun(panel: Panel, spells: _Spells) -> Bool[np.ndarray, " rows"]:
    """Whether the forward has moved the option's value by more than the spread since the quote was made.

    Black's value at the volatility and the time to expiry of then, at the forward of now less at that of then: exact
    in the forward, and nothing else moves.
    """
    outrun = np.zeros(panel.rows, bool)
    rows = np.flatnonzero(spells.unchanged)
    if not len(rows):
        return outrun
    start = spells.start[rows]
    deviation = panel.mid_iv[start] * np.sqrt(panel.years[start])
    then, now = (_prices(panel.log_moneyness[one], deviation, panel.is_call[rows]) for one in (start, rows))
    linear = panel.linear[rows]
    then, now = (np.where(linear, value * panel.forward_usd[one], value) for value, one in ((then, start), (now, rows)))
    spread = (panel.ask - panel.bid)[rows] * np.where(linear, panel.forward_usd[rows], 1.0)
    outrun[rows] = np.abs(now - then) > spread
    return outrun


def _prices(
    log_moneyness: Float[np.ndarray, " rows"], deviation: Float[np.ndarray, " rows"], is_call: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    rows = len(deviation)
    size = max(_LEAST_BLOCK, 1 << (rows - 1).bit_length())
    padded = [np.resize(column, size) for column in (log_moneyness, deviation, is_call)]
    with double_precision():
        return np.asarray(price(*padded))[:rows]


def _after(panel: Panel) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Share of quotes with equal prices some chains later, for 1, 2, 4, ... chains."""
    lags, shares = [], []
    for lag in _LAGS:
        if lag > int(panel.chain_order.max()):
            break
        before = panel.behind(lag)
        rows = np.flatnonzero(_paired(panel, before))
        if len(rows) < _LEAST_AT_RISK:
            break
        lags.append(lag)
        shares.append(_share(_same(panel, rows, before[rows]).sum(), len(rows)))
    return tuple(lags), tuple(shares)


def _survivals(panel: Panel, spells: _Spells) -> tuple[Survival, ...]:
    rows = np.flatnonzero(spells.paired)
    before = panel.earlier[rows]
    known = spells.seen[before]
    rows, before = rows[known], before[known]
    tenor = panel.tenor_bucket[spells.start[before]]
    curves = [_survival("all", spells, rows, before)]
    for bucket, label in enumerate(TENOR_LABELS):
        own = tenor == bucket
        if own.any():
            curves.append(_survival(label, spells, rows[own], before[own]))
    return tuple(curves)


def _survival(
    bucket: str, spells: _Spells, rows: Int[np.ndarray, " some"], before: Int[np.ndarray, " some"]
) -> Survival:
    """From each comparison of a quote with the one before: at risk with the age it had, changed or not."""
    age = np.minimum(spells.age[before], _MOST_CHAINS)
    at_risk = np.bincount(age, minlength=1)[:_MOST_CHAINS]
    changed = np.bincount(age, weights=~spells.unchanged[rows], minlength=1)[:_MOST_CHAINS]
    enough = np.flatnonzero(at_risk < _LEAST_AT_RISK)
    length = int(enough[0]) if enough.size else len(at_risk)
    share = np.cumprod(1.0 - changed[:length] / at_risk[:length])
    half = np.flatnonzero(share <= 0.5)
    return Survival(
        bucket=bucket,
        quotes=int((age == 0).sum()),
        share=tuple(share.tolist()),
        median_chains=float(half[0] + 1) if half.size else math.nan,
    )


def _table(panel: Panel, chosen: Bool[np.ndarray, " rows"]) -> Int[np.ndarray, "tenors deltas"]:
    width = len(DELTA_LABELS)
    code = panel.tenor_bucket[chosen] * width + panel.delta_bucket[chosen]
    return np.bincount(code, minlength=len(TENOR_LABELS) * width).reshape(-1, width)


def _shares(part: np.ndarray, whole: np.ndarray) -> tuple[tuple[float, ...], ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole > 0, part / whole, math.nan)
    return tuple(tuple(row) for row in shares.tolist())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
