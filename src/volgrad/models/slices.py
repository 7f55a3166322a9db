"""A surface made of slices: what a fit says at the listed expiries, and how it is read at every other time.

At a listed expiry the surface is the fitted slice. Between two expiries it is *carried* (`market.clock`): at-the-money
volatility and normalised smile are smooth in the logarithm of the variance clock, over all expiries of the chain. What
is carried so is not free of arbitrage by construction, so it is blended, in each interval by itself and from the wings
inwards, into total variance linear in the clock at fixed log-moneyness, only as far as the certificate demands.
Before the first expiry the first slice is scaled; after the last one variance is added evenly.
"""

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float64, Int64

from volgrad.market.black import price
from volgrad.market.clock import carried_level, carried_smile, clock_years, smile_error
from volgrad.market.implied import total_volatility_from_time_value
from volgrad.market.instruments import YEAR_US
from volgrad.models.grid import NODES, cardinal, interpolate, spline_curvature
from volgrad.models.surface import ListedSurface
from volgrad.runtime import double_precision

__all__ = ["CARRIED", "LINEAR", "MIXED", "PUBLISHED", "SlicedSurface", "extended", "slice_variance"]

_REACH = 3.0
#: Which nodes a slice publishes; the outer ones feel the end of the grid.
PUBLISHED = np.abs(NODES) <= _REACH
_K = NODES[PUBLISHED]
_X_PLACE = np.arange(-3.75, 3.751, 0.125)  # asinh of the normalised log-moneyness on which smiles are carried
_X = np.sinh(_X_PLACE)

#: `reach` of an interval: carried everywhere; linear in total variance everywhere; linear in premium, which mixes two
#: densities and so is free of arbitrage whatever the slices.
CARRIED, LINEAR, MIXED = np.inf, 0.0, -1.0


def slice_variance(time_value: Float64[Array, "expiries nodes"]) -> Float64[Array, "expiries published"]:
    """Total variance at the published nodes from time values at all nodes (solved in log price; inside `jit`).

    NaN where a time value has underflowed; see `extended`.
    """
    inner = time_value[:, PUBLISHED]
    return total_volatility_from_time_value(inner, jnp.broadcast_to(jnp.asarray(_K), inner.shape)) ** 2


def extended(
    variance: Float64[np.ndarray, "expiries published"],
) -> Float64[np.ndarray, "expiries published"]:
    """The same, with nodes that have no value going on in a straight line from the last two that have one."""
    variance = variance.copy()
    for index in np.flatnonzero(~np.isfinite(variance).all(1)):
        row = variance[index]
        known = np.flatnonzero(np.isfinite(row))
        if known.size < 4:
            continue
        for last, before, missing in (
            (known[-1], known[-2], np.arange(known[-1] + 1, row.size)),
            (known[0], known[1], np.arange(known[0])),
        ):
            slope = (row[last] - row[before]) / (_K[last] - _K[before])
            row[missing] = row[last] + slope * (_K[missing] - _K[last])
    return variance


@dataclass(frozen=True, eq=False)
class SlicedSurface(ListedSurface):
    """Total variance on the published nodes of each listed expiry, and how to join them.

    Attributes:
        ts_us: time of the surface, microseconds since 1970 UTC.
        expiry_years: ACT/365, ascending, > 0. Shape: (expiries,).
        forward_usd: of each expiry, dollars. Shape: (expiries,).
        variance: total variance at the published nodes. Shape: (expiries, published).
        quoted: outermost log-moneyness that was quoted: low, high. Shape: (expiries, 2).
        reach: in each interval, how many standard deviations from the money the carried surface is used before
            it gives way to the linear one; infinite = everywhere, -1 = linear in premium. Shape: (expiries - 1,).
    """

    ts_us: int
    expiry_years: Float64[np.ndarray, " expiries"]
    forward_usd: Float64[np.ndarray, " expiries"]
    variance: Float64[np.ndarray, "expiries published"]
    quoted: Float64[np.ndarray, "expiries 2"]
    reach: Float64[np.ndarray, " intervals"] = field(default_factory=lambda: np.empty(0))

    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Total variance at any log-moneyness and any time after the surface's own; NaN at or before it."""
        k, tau = np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64)
        if k.ndim == 2 and k.shape[0] == 1 and tau.ndim == 2 and tau.shape[1] == 1:
            return self._table(k[0], tau[:, 0])
        k, tau = np.broadcast_arrays(k, tau)
        times, which = np.unique(tau.ravel(), return_inverse=True)
        nodal, share = self._nodal(times)
        # before the first expiry its slice is read at the scaled place: the nodes would not resolve a smile of minutes
        place = k.ravel() / np.sqrt(share[which])
        found = share[which] * interpolate(nodal, spline_curvature(nodal, _K), which, place, _K)
        return found.reshape(k.shape)

    def _table(
        self, k: Float64[np.ndarray, " points"], times: Float64[np.ndarray, " times"]
    ) -> Float64[np.ndarray, "times points"]:
        """Total variance at every point of every time: the spline through the nodes is one matrix product."""
        nodal, share = self._nodal(times)
        found = nodal @ cardinal(k, _K)
        for row in np.flatnonzero(share != 1.0):
            first = np.zeros(k.size, np.int64)
            found[row] = share[row] * interpolate(self.variance, self._curvature, first, k / np.sqrt(share[row]), _K)
        return found

    def _nodal(
        self, times: Float64[np.ndarray, " times"]
    ) -> tuple[Float64[np.ndarray, "times published"], Float64[np.ndarray, " times"]]:
        """What `_at_times` says; NaN at times that are not after the surface's own."""
        alive = times > 0.0  # False for NaN
        nodal, share = np.full((times.size, _K.size), np.nan), np.ones(times.size)
        nodal[alive], share[alive] = self._at_times(times[alive])
        return nodal, share

    @cached_property
    def _curvature(self) -> Float64[np.ndarray, "expiries published"]:
        return spline_curvature(self.variance, _K)

    @cached_property
    def theta(self) -> Float64[np.ndarray, " expiries"]:
        """At-the-money total variance of each expiry."""
        return self.variance[:, _K.size // 2].copy()

    @cached_property
    def _clock(self) -> Float64[np.ndarray, " expiries"]:
        return self._clock_at(self.expiry_years)

    def _clock_at(self, years: Float64[np.ndarray, " times"]) -> Float64[np.ndarray, " times"]:
        return clock_years(self.ts_us, self.ts_us + np.rint(years * YEAR_US).astype(np.int64))

    @cached_property
    def _smiles(self) -> Float64[np.ndarray, "expiries grid"]:
        """`ln(vol(x) / vol(0))` of each slice on the common grid of x."""
        return self._smile(np.arange(self.theta.size), np.broadcast_to(_X, (self.theta.size, _X.size)))

    def _smile(
        self, index: Int64[np.ndarray, " rows"], x: Float64[np.ndarray, "rows points"]
    ) -> Float64[np.ndarray, "rows points"]:
        """`ln(vol(x) / vol(0))` of the slices `index`."""
        theta = self.theta[index][:, None]
        at = np.clip(x * np.sqrt(theta), -_REACH, _REACH)  # nothing is known further out
        return 0.5 * np.log(_spline_rows(self.variance, self._curvature, index, at, _K) / theta)

    @cached_property
    def _smile_error(self) -> Float64[np.ndarray, "expiries grid"]:
        low, high = (self.quoted / np.sqrt(self.theta)[:, None]).T
        return smile_error(_X, low, high)

    def _at_times(
        self, times: Float64[np.ndarray, " times"]
    ) -> tuple[Float64[np.ndarray, "times published"], Float64[np.ndarray, " times"]]:
        """Nodal total variance at each time, and the share of the first expiry's variance by which to scale it."""
        nodal = np.empty((times.size, _K.size))
        after = np.searchsorted(self.expiry_years, times)
        near = np.minimum(after, self.theta.size - 1)
        listed = np.abs(self.expiry_years[near] - times) <= 1e-12
        nodal[listed] = self.variance[near[listed]]
        early, late = ~listed & (after == 0), ~listed & (after == self.theta.size)
        clock = self._clock_at(times)
        nodal[early] = self.variance[0]
        share = np.where(early, np.maximum(clock, 1e-12) / self._clock[0], 1.0)
        for index in np.flatnonzero(late):
            nodal[index] = self.variance[-1] + self.theta[-1] * (clock[index] / self._clock[-1] - 1.0)
        between = np.flatnonzero(~listed & ~early & ~late)
        if between.size:
            nodal[between] = self._between(clock[between], after[between] - 1)
        return nodal, share

    def _between(
        self, clock: Float64[np.ndarray, " times"], left: Int64[np.ndarray, " times"]
    ) -> Float64[np.ndarray, "times published"]:
        """Nodal total variance inside the intervals that begin at the expiries `left`."""
        part = ((clock - self._clock[left]) / (self._clock[left + 1] - self._clock[left]))[:, None]
        straight = (1.0 - part) * self.variance[left] + part * self.variance[left + 1]
        reach = self.reach[left] if self.reach.size else np.full(left.size, CARRIED)
        for row in np.flatnonzero(reach < LINEAR):
            straight[row] = _mixed(self.variance[left[row]], self.variance[left[row] + 1], part[row, 0])
        if not np.any(reach > LINEAR):
            return straight
        level = carried_level(self._clock, self.theta, clock)
        smile = carried_smile(self._clock, self._smiles, clock, self._smile_error)
        x = _K[None, :] / np.sqrt(level)[:, None]
        # a slice's own smile has something beyond the one that is carried to its own time: that is met at both ends
        met = smile - (1.0 - part) * self._own_carried[left] - part * self._own_carried[left + 1]
        own = (1.0 - part) * self._smile(left, x) + part * self._smile(left + 1, x)
        carried = level[:, None] * np.exp(2.0 * (_on_grid(met, np.arcsinh(x)) + own))
        share = 1.0 / (1.0 + (np.abs(x) / np.maximum(reach, 1e-9)[:, None]) ** 8)
        return np.where((reach > LINEAR)[:, None], straight + share * (carried - straight), straight)

    @cached_property
    def _own_carried(self) -> Float64[np.ndarray, "expiries grid"]:
        return carried_smile(self._clock, self._smiles, self._clock, self._smile_error)


@jax.jit
def _mixture(first, second, part):
    calls = jnp.asarray(_K >= 0.0)
    values = [price(jnp.asarray(_K), jnp.sqrt(variance), calls) for variance in (first, second)]
    # both time values may have underflowed: the logarithm's solver says NaN there
    mixed = (1.0 - part) * values[0] + part * values[1]
    return total_volatility_from_time_value(mixed, jnp.asarray(_K)) ** 2


def _mixed(
    first: Float64[np.ndarray, " published"], second: Float64[np.ndarray, " published"], part: float
) -> Float64[np.ndarray, " published"]:
    """Total variance of the premiums between two slices, linear in `part`."""
    with double_precision():
        return extended(np.asarray(_mixture(first, second, part))[None])[0]


def _on_grid(
    smile: Float64[np.ndarray, "rows grid"], place: Float64[np.ndarray, "rows points"]
) -> Float64[np.ndarray, "rows points"]:
    """Smiles on the common grid, read at `place = asinh(x)`."""
    rows = np.arange(smile.shape[0])
    return _spline_rows(smile, spline_curvature(smile, _X_PLACE), rows, place, _X_PLACE)


def _spline_rows(
    values: Float64[np.ndarray, "slices nodes"],
    curvature: Float64[np.ndarray, "slices nodes"],
    index: Int64[np.ndarray, " rows"],
    at: Float64[np.ndarray, "rows points"],
    nodes: Float64[np.ndarray, " nodes"],
) -> Float64[np.ndarray, "rows points"]:
    which = np.repeat(index, at.shape[1])
    return interpolate(values, curvature, which, at.ravel(), nodes).reshape(at.shape)
