"""What a smooth smile leaves of its quotes, and how alike neighbours are in it."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from volgrad.tasks.description.panel import Panel
from volgrad.tasks.description.quantities import HALF_SPREADS, Quantity

__all__ = ["SmileResiduals", "smile_residuals"]

_PARAMETERS = 5  # a quartic in asinh(k / deviation): level, skew, curvature and the two wings (assumption)
_LEAST_QUOTES = 8  # of an expiry: fewer leave a quartic nothing to be judged by
_ROUNDS = 4
_FLOOR = 0.002  # added to half-spreads in the weights: no quote is better than .2 vol points (assumption)
_RIDGE = 1e-10


class SmileResiduals(NamedTuple):
    """Residuals of one smile an expiry, and the correlation of neighbours in strike.

    quantity: middle less smile, in half-spreads, cut as the loss is.
    expiries: smiles that were fitted.
    neighbour: correlation of the residuals of neighbouring strikes; NaN without smiles.
    by_chance: what it would be if quotes erred independently: fitting makes residuals of neighbours unlike.
    """

    quantity: Quantity
    expiries: int
    neighbour: float
    by_chance: float


def smile_residuals(panel: Panel) -> SmileResiduals:
    """Fit a quartic to the implied volatilities of each expiry of each chain, weighted by spread, wild quotes less."""
    rows = np.flatnonzero(np.bincount(panel.slot)[panel.slot] >= _LEAST_QUOTES)
    if not len(rows):
        return SmileResiduals(Quantity("residual", rows, np.zeros((0, 1))), 0, math.nan, math.nan)
    slot = np.unique(panel.slot[rows], return_inverse=True)[1]  # rows of a slot stand together, by strike
    columns = _columns(panel, rows, slot)
    spread, vol = panel.half_spread_iv[rows], panel.mid_iv[rows]
    weight = 1.0 / (spread + _FLOOR)
    miss, weighted, normal = _fit(columns, vol, weight, slot)
    for _ in range(_ROUNDS - 1):
        trust = np.sqrt(1.0 / np.maximum(1.0, np.abs(miss / spread) / HALF_SPREADS))  # Huber's weights
        miss, weighted, normal = _fit(columns, vol, weight * trust, slot)
    values = np.clip(miss / spread, -HALF_SPREADS, HALF_SPREADS)
    neighbours = slot[1:] == slot[:-1]
    pull = np.einsum("ri,rij->rj", weighted, np.linalg.inv(normal)[slot])
    leverage, shared = (pull * weighted).sum(axis=1), (pull[1:] * weighted[:-1]).sum(axis=1)
    return SmileResiduals(
        quantity=Quantity("residual", rows, values[:, None]),
        expiries=int(slot[-1]) + 1,
        neighbour=_ratio((values[1:] * values[:-1])[neighbours].mean(), (values**2).mean()),
        by_chance=_ratio(-shared[neighbours].mean(), 1.0 - leverage.mean()),
    )


def _fit(
    columns: Float[np.ndarray, "rows parameters"],
    vol: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"],
    slot: Int[np.ndarray, " rows"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares in every slot: what is missed, the weighted columns, and their normal matrices."""
    weighted = columns * weight[:, None]
    normal = _by_slot(weighted, weighted, slot)
    normal += _RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(_PARAMETERS)
    found = np.linalg.solve(normal, _by_slot(weighted, (vol * weight)[:, None], slot))[:, :, 0]
    return vol - (columns * found[slot]).sum(axis=1), weighted, normal


def _columns(
    panel: Panel, rows: Int[np.ndarray, " rows"], slot: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows parameters"]:
    """Powers of moneyness in units of the expiry's outermost quote."""
    k = panel.log_moneyness[rows]
    first = np.searchsorted(slot, np.arange(slot[-1] + 1))
    nearest = np.lexsort((np.abs(k), slot))[first]
    deviation = (panel.mid_iv[rows] * np.sqrt(panel.years[rows]))[nearest]
    place = np.arcsinh(k / deviation[slot])
    reach = np.maximum.reduceat(np.abs(place), first)
    return (place / reach[slot])[:, None] ** np.arange(_PARAMETERS)


def _by_slot(left: np.ndarray, right: np.ndarray, slot: np.ndarray) -> Float[np.ndarray, "slots a b"]:
    sums = [[np.bincount(slot, weights=one * other) for other in right.T] for one in left.T]
    return np.moveaxis(np.array(sums), 2, 0)


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0.0 else math.nan
