"""The local-volatility surface: a Gaussian prior on log local variance, and what it makes of a chain's expiries.

Between one expiry and the next the local variance is `theta_growth / dT * exp(shape(x))`: the growth of at-the-money
total variance, which the chain's own quotes tell roughly (`levels`), times a shape in `x = k / sqrt(theta)`,
log-moneyness in standard deviations. In that coordinate the shapes of a two-hour and of a one-year expiry are nearly
the same curve [measured], and that is the prior: one mean curve; deviations that all expiries share; deviations
that neighbours in `ln` clock time share; and each expiry's own. The further from the money, the larger they may be.
What one expiry's quotes do not reach (its wings), the other expiries' quotes then say.

The variables of the fit are the independent standard normal coordinates of that prior: descent in them is well
conditioned, the prior is `|u|^2 / 2`, and a Gauss-Newton step needs one column of the Jacobian for each.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64

from volgrad.models.dupire import time_values
from volgrad.models.grid import NODES, interpolate, spline_curvature
from volgrad.models.tangents import log_tangents

__all__ = ["Frame", "Prior", "frame", "slice_tangents", "slice_time_values", "variables_from_shape", "whole_shape"]


class Prior(NamedTuple):
    """Constants of the prior. Grades: measured on January, March and May 2026 unless it says assumption.

    The standard deviation of log local variance around its mean is `spread_centre + spread_slope |x|` (levelling
    off at `spread_reach`), times `shared`, `smooth` and `own` for the three kinds of deviation.
    """

    spread_centre: float = 0.5
    spread_slope: float = 0.2
    spread_reach: float = 6.0
    width: float = 1.2  # correlation length in x (Matern 5/2)
    shared: float = 0.5
    smooth: float = 1.2
    smooth_length: float = 3.0  # in ln clock time (Matern 5/2)
    own: float = 0.5
    level: float = 0.5  # each expiry's own level, beside its shape
    mean_slope: float = 0.5  # of the wings of the mean shape, in log variance per standard deviation
    mean_bend: float = 2.0
    mean_tenor: float = 0.07  # shorter expiries have steeper wings
    modes_per_expiry: int = 12  # the likeliest directions; the rest is left at its mean
    diffused: float = 0.2  # share of the first expiry's variance that has diffused before the first step


_KNOT_COUNT, _KNOT_REACH, _KNOT_STRETCH = 15, 7.0, 2.0
KNOTS = _KNOT_REACH * np.sinh(_KNOT_STRETCH * np.linspace(-1.0, 1.0, _KNOT_COUNT)) / np.sinh(_KNOT_STRETCH)


class Frame(NamedTuple):
    """What the fit of one chain needs beside its quotes; padded expiries have a `factor` of 0.

    log_step: `ln` of half the at-the-money variance of one implicit step (one an interval). Shape: (expiries,).
    basis: knots to nodes. Shape: (expiries, nodes, knots).
    mean: mean shape at the knots. Shape: (expiries, knots).
    factor: prior's standard coordinates to deviations at the knots. Shape: (expiries, knots, variables).
    start: time values before the first step. Shape: (nodes,).
    """

    log_step: Float64[Array | np.ndarray, " expiries"]
    basis: Float64[Array | np.ndarray, "expiries nodes knots"]
    mean: Float64[Array | np.ndarray, "expiries knots"]
    factor: Float64[Array | np.ndarray, "expiries knots variables"]
    start: Float64[Array | np.ndarray, " nodes"]


def _matern52(distance: np.ndarray) -> np.ndarray:
    scaled = np.sqrt(5.0) * np.abs(distance)
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)


def _shape_modes(prior: Prior) -> Float64[np.ndarray, "knots modes"]:
    """Scaled eigenvectors of the shape's covariance over the knots, the largest first."""
    spread = prior.spread_centre + prior.spread_slope * np.abs(KNOTS) / np.hypot(1.0, KNOTS / prior.spread_reach)
    gap = (KNOTS[:, None] - KNOTS[None, :]) / prior.width
    value, vector = np.linalg.eigh(spread[:, None] * spread[None, :] * _matern52(gap))
    return vector[:, ::-1] * np.sqrt(np.maximum(value[::-1], 0.0))


def _time_modes(clock_years: Float64[np.ndarray, " expiries"], prior: Prior) -> np.ndarray:
    """Scaled eigenvectors of the covariance between expiries, the largest first."""
    log_clock = np.log(clock_years)
    gap = (log_clock[:, None] - log_clock[None, :]) / prior.smooth_length
    count = clock_years.size
    covariance = prior.shared**2 + prior.smooth**2 * _matern52(gap) + prior.own**2 * np.eye(count)
    value, vector = np.linalg.eigh(covariance)
    return vector[:, ::-1] * np.sqrt(np.maximum(value[::-1], 0.0))


def _mean_shape(clock_years: Float64[np.ndarray, " expiries"], prior: Prior) -> Float64[np.ndarray, "expiries knots"]:
    steeper = np.clip(1.0 - prior.mean_tenor * np.log(clock_years * 365.0 / 30.0), 0.6, 1.8)
    bend = np.hypot(prior.mean_bend, KNOTS) - prior.mean_bend
    return prior.mean_slope * steeper[:, None] * bend[None, :]


_TABLE_STEP = 0.005


def _basis_table() -> Float64[np.ndarray, "points knots"]:
    """Cardinal natural splines on a fine even grid between the outer knots (for straight-line look-up)."""
    x = np.arange(-_KNOT_REACH, _KNOT_REACH + 2 * _TABLE_STEP, _TABLE_STEP)
    cardinal = np.eye(_KNOT_COUNT)
    curvature = spline_curvature(cardinal, KNOTS)
    columns = [interpolate(cardinal, curvature, np.full(x.size, knot), x, KNOTS) for knot in range(_KNOT_COUNT)]
    return np.stack(columns, axis=1)


_TABLE = _basis_table()


def _basis(theta: Float64[np.ndarray, " expiries"]) -> Float64[np.ndarray, "expiries nodes knots"]:
    """Spline through the knots at the nodes of each expiry; flat beyond the outer knots."""
    x = np.clip(NODES[None, :] / np.sqrt(theta)[:, None], -_KNOT_REACH, _KNOT_REACH)
    place = (x + _KNOT_REACH) / _TABLE_STEP
    left = np.minimum(place.astype(np.int64), _TABLE.shape[0] - 2)
    part = (place - left)[:, :, None]
    return (1.0 - part) * _TABLE[left] + part * _TABLE[left + 1]


def frame(
    clock_years: Float64[np.ndarray, " expiries"],
    theta: Float64[np.ndarray, " expiries"],
    start: Float64[np.ndarray, " nodes"],
    size: int,
    prior: Prior,
) -> Frame:
    """Frame of one chain, padded to `size` expiries.

    Args:
        clock_years: expiries in the variance clock, ascending, > 0.
        theta: at-the-money total variance at each, strictly ascending.
        start: time values of the variance that has diffused before the first step (`diffused * theta[0]`).
    """
    count = clock_years.size
    extra = 1.0 + 0.05 * np.arange(1, size - count + 1)
    theta = np.concatenate([theta, theta[-1] * extra])
    growth = np.diff(theta, prepend=prior.diffused * theta[0])
    shape_modes, time_modes = _shape_modes(prior), _time_modes(clock_years, prior)
    weight = (time_modes**2).sum(0)[:, None] * (shape_modes**2).sum(0)[None, :]
    chosen = np.argsort(-weight.ravel(), kind="stable")[: prior.modes_per_expiry * count]
    modes = prior.modes_per_expiry * size
    time_index, shape_index = np.divmod(chosen, shape_modes.shape[1])
    factor = np.zeros((size, _KNOT_COUNT, modes + size))
    factor[:count, :, : chosen.size] = time_modes[:, None, time_index] * shape_modes[None, :, shape_index]
    factor[np.arange(count), :, modes + np.arange(count)] = prior.level
    mean = np.concatenate([_mean_shape(clock_years, prior), np.zeros((size - count, _KNOT_COUNT))])
    log_step = np.log(0.5 * growth)
    return Frame(log_step, _basis(theta), mean, factor, start)


def whole_shape(frame: Frame, variables: Float64[Array, " variables"]) -> Float64[Array, "expiries knots"]:
    """Log local variance at the knots, relative to the level of each expiry's interval."""
    return jnp.asarray(frame.mean) + jnp.einsum("ekv,v->ek", frame.factor, variables)


def _log_step(frame: Frame, variables: Float64[Array, " variables"]) -> Float64[Array, "expiries nodes"]:
    level = jnp.asarray(frame.log_step)[:, None]
    return level + jnp.einsum("enk,ek->en", frame.basis, whole_shape(frame, variables))


def slice_time_values(frame: Frame, variables: Float64[Array, " variables"]) -> Float64[Array, "expiries nodes"]:
    """Time values at every expiry's nodes: free of butterfly and calendar arbitrage for any variables."""
    return time_values(_log_step(frame, variables), jnp.asarray(frame.start))


def slice_tangents(
    frame: Frame, variables: Float64[Array, " variables"]
) -> tuple[Float64[Array, "expiries nodes"], Float32[Array, "expiries nodes variables"]]:
    """`slice_time_values`, and the derivatives of their logarithms by every variable, in float32."""
    log_step, start = _log_step(frame, variables), jnp.asarray(frame.start)
    values = time_values(log_step, start)
    single = jnp.float32
    direction = jnp.einsum("enk,ekv->env", jnp.asarray(frame.basis, single), jnp.asarray(frame.factor, single))
    return values, log_tangents(log_step, start, values, direction)


def variables_from_shape(frame: Frame, shape: Float64[np.ndarray, "expiries knots"]) -> np.ndarray:
    """The prior's coordinates nearest to given shapes (a warm start from another chain's expiries)."""
    size, knots, count = frame.factor.shape
    factor = np.asarray(frame.factor).reshape(size * knots, count)
    deviation = (shape - np.asarray(frame.mean)).ravel()
    # ridge: of all coordinates that give nearly this shape, the likeliest
    return factor.T @ np.linalg.solve(factor @ factor.T + 1e-4 * np.eye(size * knots), deviation)
