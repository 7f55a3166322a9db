"""How alike the quotes of a snapshot are, and how many independent ones a store is worth."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from volgrad.learning.batching.autocorrelation import AutocorrelationTime, autocorrelation_time
from volgrad.learning.batching.clusters import (
    ClusterSums,
    correlation_interval,
    design_effect,
    intraclass,
)
from volgrad.tasks.description.panel import Panel
from volgrad.tasks.description.quantities import Quantity

__all__ = ["Likeness", "likeness"]

_LAGS_KEPT = 400  # of the autocorrelation, for the picture
_HOUR_US = 3.6e9


@dataclass(frozen=True)
class Likeness:
    """One quantity of one underlying (or of all): likeness within a snapshot, memory from one to the next, and worth.

    Numbers are NaN where nothing can be said; `why` says why. Intervals are of 95 %.

    Attributes:
        quantity: "innovation", "surprise", "level", "gradient" or "residual".
        underlying: None for all together: a snapshot is then all chains of one moment.
        rows, clusters: with a value.
        rows_per_cluster: `sum n^2 / sum n`.
        correlation, correlation_low, correlation_high: intraclass correlation within a snapshot.
        across_expiries: correlation of two rows of one snapshot in different expiries (nested model).
        within_expiry: ... in the same expiry.
        design_effect, design_effect_low, design_effect_high: `1 + (m - 1) rho`.
        rows_within: rows over the design effect: what they are worth if snapshots were independent.
        autocorrelation_time, autocorrelation_low, autocorrelation_high: of snapshot means, in chains.
        autocorrelation_hours: the same in hours.
        step_hours: to which lags are rounded.
        autocorrelation: by lag; lag 0 first.
        window: last lag that is summed.
        resolved: whether the store is long enough for the autocorrelation time to be an estimate.
        clusters_effective, clusters_effective_low, clusters_effective_high: independent snapshots.
        rows_effective, rows_effective_low, rows_effective_high: independent rows, both effects together.
        why: sentences on what could not be said.
    """

    quantity: str
    underlying: str | None
    rows: int
    clusters: int
    rows_per_cluster: float = math.nan
    correlation: float = math.nan
    correlation_low: float = math.nan
    correlation_high: float = math.nan
    across_expiries: float = math.nan
    within_expiry: float = math.nan
    design_effect: float = math.nan
    design_effect_low: float = math.nan
    design_effect_high: float = math.nan
    rows_within: float = math.nan
    autocorrelation_time: float = math.nan
    autocorrelation_low: float = math.nan
    autocorrelation_high: float = math.nan
    autocorrelation_hours: float = math.nan
    step_hours: float = math.nan
    autocorrelation: tuple[float, ...] = ()
    window: int = 0
    resolved: bool = False
    clusters_effective: float = math.nan
    clusters_effective_low: float = math.nan
    clusters_effective_high: float = math.nan
    rows_effective: float = math.nan
    rows_effective_low: float = math.nan
    rows_effective_high: float = math.nan
    why: str = ""


def likeness(panel: Panel, quantity: Quantity, underlying: int | None, *, seed: int = 0) -> Likeness:
    """Estimate one quantity of one underlying; of all underlyings where that is None.

    The interval of the correlation accounts for the memory of snapshots; that of the worth joins both errors as if they
    were independent (assumption).
    """
    of_rows = np.arange(len(quantity.rows))
    if underlying is not None:
        of_rows = np.flatnonzero(panel.underlying[quantity.rows] == underlying)
    rows = quantity.rows[of_rows]
    values = quantity.values[of_rows]
    name = None if underlying is None else panel.underlyings[underlying]
    stamps, moment = _moments(panel, rows)
    if len(stamps) < 2:
        return Likeness(quantity.name, name, len(rows), len(stamps), why=_why_none(quantity, len(rows)))
    sums = ClusterSums.of(values, moment, panel.slot[rows])
    one, nested = intraclass(sums), intraclass(sums, nested=True)
    fits = quantity.name == "residual"  # a smile takes the mean of its own snapshot away: no series is left
    series = slice(0) if fits else slice(None)
    memory = autocorrelation_time(sums.means[series], stamps[series] / _HOUR_US)
    times = (memory.time, memory.variance_time) if math.isfinite(memory.time) else (1.0, 1.0)
    low, high = correlation_interval(sums, time=times[0], variance_time=times[1], seed=seed)
    effect, lowest, highest = (design_effect(rho, one.rows_per_cluster) for rho in (one.correlation, low, high))
    return Likeness(
        quantity=quantity.name,
        underlying=name,
        rows=len(rows),
        clusters=len(stamps),
        rows_per_cluster=one.rows_per_cluster,
        correlation=one.correlation,
        correlation_low=low,
        correlation_high=high,
        across_expiries=nested.correlation,
        within_expiry=nested.group_correlation,
        design_effect=effect,
        design_effect_low=lowest,
        design_effect_high=highest,
        rows_within=len(rows) / effect,
        **_memory(memory),
        **_worth(len(rows), (effect, lowest, highest), memory),
        why=_why(one.correlation, low, len(stamps), memory, fits),
    )


def _moments(panel: Panel, rows: Int[np.ndarray, " rows"]) -> tuple[np.ndarray, Int[np.ndarray, " rows"]]:
    """Stamps at which there are values, ascending, and the number of each row's."""
    stamps, moment = np.unique(panel.chain_stamp_us[panel.chain[rows]], return_inverse=True)
    return stamps.astype(np.float64) - float(panel.chain_stamp_us.min()), moment


def _memory(memory: AutocorrelationTime) -> dict[str, Any]:
    return {
        "autocorrelation_time": memory.time,
        "autocorrelation_low": memory.low,
        "autocorrelation_high": memory.high,
        "autocorrelation_hours": memory.time * memory.step,
        "step_hours": memory.step,
        "autocorrelation": tuple(memory.correlation[:_LAGS_KEPT].tolist()),
        "window": memory.window,
        "resolved": memory.resolved,
        "clusters_effective": memory.effective,
        "clusters_effective_low": memory.effective_low,
        "clusters_effective_high": memory.effective_high,
    }


def _worth(rows: int, effects: tuple[float, float, float], memory: AutocorrelationTime) -> dict[str, Any]:
    effect, lowest, highest = effects
    worth = rows / effect * memory.effective / memory.values if memory.values else math.nan
    spread = math.hypot(
        math.log(highest / lowest) / 2.0, math.log(memory.effective_high / max(memory.effective_low, 1e-300)) / 2.0
    )
    return {
        "rows_effective": worth,
        "rows_effective_low": max(worth * math.exp(-spread), 1.0) if math.isfinite(spread) else math.nan,
        "rows_effective_high": min(worth * math.exp(spread), max(worth, float(rows)))
        if math.isfinite(spread)
        else math.nan,
    }


def _why_none(quantity: Quantity, rows: int) -> str:
    if rows:
        return "All values are of one snapshot: there is nothing to compare it with."
    if quantity.name in ("innovation", "surprise"):
        return "No option is quoted in two chains in a row."
    return "No quote has a value."


def _why(correlation: float, low: float, clusters: int, memory: AutocorrelationTime, fits: bool) -> str:
    told = []
    if not math.isfinite(correlation):
        told.append("All values are equal, or no snapshot has two of them: likeness has no meaning.")
    elif not math.isfinite(low):
        told.append(f"{clusters} snapshots are too few for an interval of the correlation.")
    if fits:
        told.append("A smile takes the mean of its own snapshot away: below 0 by construction, and no series is left.")
    elif not math.isfinite(memory.time):
        told.append("Fewer than four snapshots, or all of one mean: nothing can be said of their memory.")
    elif not memory.resolved:
        told.append(
            f"The series is {memory.values / memory.time:.0f} times as long as its autocorrelation time: under 20, "
            "that time is a lower bound, the worth an upper one, and intervals are too short."
        )
    return " ".join(told)
