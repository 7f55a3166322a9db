"""What of a quote is looked at for likeness within a snapshot: values that stand for what a gradient is made of.

Tails are cut where a loss is bounded: values in half-spreads at 2.5, where the loss of `volgrad fit` becomes linear
(`tasks/surface.py`), logarithms at five robust standard deviations (assumption). Uncut, a few quotes of dying wings
carry a large part of all variance, and correlations fall by up to a third (measured: docs/describe.md).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from volgrad.tasks.description.panel import Panel

__all__ = ["HALF_SPREADS", "Quantity", "gradient", "innovation", "level", "surprise"]

#: Half-spreads beyond which the loss of a quote is linear: its gradient grows no more.
HALF_SPREADS = 2.5
_DEVIATIONS = 5.0
_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
#: Knots of the average surface: standardised moneyness, and days to expiry (assumption: about as fine as it bends).
_FINE = (
    (-3.0, -2.0, -1.4, -0.9, -0.4, 0.0, 0.4, 0.9, 1.4, 2.0, 3.0),
    (0.5, 1.5, 4.0, 10.0, 25.0, 60.0, 140.0, 320.0),
)
#: Knots of the coarse surface whose gradient stands for a network's: level, skew and curvature at four tenors.
_COARSE = ((-2.0, -0.7, 0.0, 0.7, 2.0), (1.0, 7.0, 40.0, 200.0))
_RIDGE = 1e-9  # of the mean diagonal: functions without quotes keep the value 0


@dataclass(frozen=True, eq=False)
class Quantity:
    """Values for some rows of a panel.

    Attributes:
        name: one word.
        rows: the rows of the panel that have a value.
        values: of each of them; several for a vector.
    """

    name: str
    rows: Int[np.ndarray, " some"]
    values: Float[np.ndarray, "some quantities"]


def innovation(panel: Panel) -> Quantity:
    """Change of the logarithm of an option's implied volatility from the chain before."""
    rows = np.flatnonzero(panel.earlier >= 0)
    change = np.log(panel.mid_iv[rows] / panel.mid_iv[panel.earlier[rows]])
    return Quantity("innovation", rows, _cut(change)[:, None])


def surprise(panel: Panel) -> Quantity:
    """The same change in half-spreads: the residual that a model of the chain before meets."""
    rows = np.flatnonzero(panel.earlier >= 0)
    change = (panel.mid_iv[rows] - panel.mid_iv[panel.earlier[rows]]) / panel.half_spread_iv[rows]
    return Quantity("surprise", rows, np.clip(change, -HALF_SPREADS, HALF_SPREADS)[:, None])


def level(panel: Panel) -> Quantity:
    """Logarithm of implied volatility less the underlying's average surface: what a network sees that does not know
    the moment, such as one at the start of training.

    The average is a least-squares surface of tents over `k / sqrt(years)` and the logarithm of tenor.
    """
    values = np.log(panel.mid_iv)
    place, share, functions = _tents(panel, *_FINE)
    for underlying in range(len(panel.underlyings)):
        own = np.flatnonzero(panel.underlying == underlying)
        height = _least_squares(place[own], share[own], functions, values[own])
        values[own] -= (share[own] * height[place[own]]).sum(axis=1)
    return Quantity("level", np.arange(panel.rows), _cut(values)[:, None])


def gradient(panel: Panel, off: Quantity) -> Quantity:
    """Gradient of the squared error of a coarse surface of 20 tents, row by row, at the average surface: `off`, the
    `level` of the row, times the tents at its place.

    It stands for a network's: rows of one snapshot push the same parameters only as far as they lie near each other.
    """
    place, share, functions = _tents(panel, *_COARSE)
    push = off.values * share
    table = np.zeros((panel.rows, functions), np.float32)
    rows = np.arange(panel.rows)
    for corner in range(place.shape[1]):
        table[rows, place[:, corner]] = push[:, corner]
    return Quantity("gradient", rows, table)


def _cut(values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    if not len(values):
        return values
    middle = np.median(values)
    spread = _NORMAL_MAD * float(np.median(np.abs(values - middle))) or float(values.std())
    return np.clip(values, middle - _DEVIATIONS * spread, middle + _DEVIATIONS * spread)


def _tents(
    panel: Panel, moneyness: tuple[float, ...], days: tuple[float, ...]
) -> tuple[Int[np.ndarray, "rows 4"], Float[np.ndarray, "rows 4"], int]:
    """The four functions of a bilinear surface that are not 0 at each row, their values, and how many there are.

    Moneyness is measured in standard deviations at the underlying's median volatility: by the row's own it would follow
    the very shocks that are looked for, and the surface would take a part of them away.
    """
    usual = np.array([np.median(panel.mid_iv[panel.underlying == one]) for one in range(len(panel.underlyings))])
    deviation = usual[panel.underlying] * np.sqrt(panel.years)
    across = _between(np.arcsinh(panel.log_moneyness / deviation), np.arcsinh(moneyness))
    along = _between(np.log(365.0 * panel.years), np.log(days))
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    place = [(across[0] + i) * len(days) + along[0] + j for i, j in corners]
    share = [np.abs(1 - i - across[1]) * np.abs(1 - j - along[1]) for i, j in corners]
    return np.stack(place, axis=1), np.stack(share, axis=1), len(moneyness) * len(days)


def _between(
    at: Float[np.ndarray, " rows"], knots: Float[np.ndarray, " knots"]
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """The knot to the left of each row and the share of the way to the next; flat beyond the ends."""
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    return left, np.clip((at - knots[left]) / (knots[left + 1] - knots[left]), 0.0, 1.0)


def _least_squares(
    place: Int[np.ndarray, "rows 4"],
    share: Float[np.ndarray, "rows 4"],
    functions: int,
    values: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " functions"]:
    normal, right = np.zeros(functions**2), np.zeros(functions)
    for i in range(4):
        right += np.bincount(place[:, i], share[:, i] * values, functions)
        for j in range(4):
            normal += np.bincount(place[:, i] * functions + place[:, j], share[:, i] * share[:, j], functions**2)
    normal = normal.reshape(functions, functions)
    ridge = _RIDGE * np.trace(normal) / functions
    return np.linalg.solve(normal + ridge * np.eye(functions), right)
