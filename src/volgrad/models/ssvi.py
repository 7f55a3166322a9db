"""SSVI and eSSVI: closed-form smiles, and coordinates in which every real vector is a surface without arbitrage.

A slice has the total variance (Gatheral and Jacquier, arXiv 1204.0646, with `psi = theta phi`) [paper]

    w(k) = (theta + rho psi k + sqrt((psi k + rho theta)^2 + (1 - rho^2) theta^2)) / 2

Its wings have the slopes `A/2 = psi (1 + rho) / 2` and `B/2 = psi (1 - rho) / 2`. No butterfly arbitrage if
`max(A, B) < 4` and `psi max(A, B) <= 4 theta` (the same, Theorem 4.2). No calendar arbitrage from one slice to the next
if `theta`, `A` and `B` do not fall and `phi = psi / theta` does not rise (Hendriks and Martini 2019; Corbetta et al.,
arXiv 1804.04924) [paper]. `slack` measures all of these.

The coordinates of eSSVI follow Mingone (arXiv 2204.00312) [paper], in units `P` of the growth that the slopes force on
their neighbours, `P_i = prod p_i`, `p_i = max((1 + rho_(i-1)) / (1 + rho_i), (1 - rho_(i-1)) / (1 - rho_i))`:

    T = theta / P  rises by anything positive, and  u = psi / P  has  u_(i-1) <= u_i <= min(u_(i-1) T_i/T_(i-1), G_i)

with `G_i` the least over `j >= i` of `f_j / P_j`, `f` the largest `psi` without a butterfly. `G` rises and `T` does, so
the upper bound is never below the lower one; a sigmoid chooses between. SSVI is the case of one `rho` and of a power
law `psi = psi_1 (theta / theta_1)^q`: its first and last slice are an eSSVI of two, which gives `0 <= q <= 1`, and what
lies between them meets the conditions, too, as each side of each is a power of `theta`.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64

__all__ = ["EssviCoordinates", "SsviCoordinates", "SsviSlices", "WingCoordinates", "slack", "total_variance"]

_MOST_RHO = 0.99  # so that products of `p` stay finite whatever the coordinates (assumption)
_INSIDE = 1e-9  # how near shares come to 0 and to 1 (assumption)
_STRICT = 1.0 - 1e-9  # conditions hold in floating point, too
# Levenberg-Marquardt stalls on a kink: |rho|, min and max are rounded off by this much, to the safe side (measured with
# the usual damping: of 30 recorded chains 7 stall, and 10 where the max is rounded off by a hundredth of it)
_ROUND = 0.01


class SsviSlices(NamedTuple):
    """Slices of SSVI or eSSVI, in order of expiry.

    theta: at-the-money total variance. rho: in (-1, 1). psi: `theta phi`. Each of shape (expiries,).
    """

    theta: Float64[Array | np.ndarray, " expiries"]
    rho: Float64[Array | np.ndarray, " expiries"]
    psi: Float64[Array | np.ndarray, " expiries"]


def total_variance(
    slices: SsviSlices, log_moneyness: Float64[Array | np.ndarray, "..."]
) -> Float64[Array | np.ndarray, "..."]:
    """Total variance; slices and log-moneyness broadcast.

    >>> one = SsviSlices(np.array(0.04), np.array(-0.5), np.array(0.04))
    >>> total_variance(one, np.array([0.0, -0.263])).round(5)
    array([0.04   , 0.04571])
    """
    theta, rho, psi = slices
    tilted = psi * log_moneyness
    root = (tilted**2 + 2.0 * rho * theta * tilted + theta**2) ** 0.5
    return 0.5 * (theta + rho * tilted + root)


def slack(slices: SsviSlices) -> dict[str, Float64[np.ndarray, " conditions"]]:
    """By how much each condition for absence of arbitrage holds, relative to its size: negative is a violation.

    Keys: "slope" and "butterfly" (each slice), "theta", "right", "left" and "phi" (each slice and the next).

    >>> both = SsviSlices(np.array([0.04, 0.05]), np.array([-0.5, 0.5]), np.array([0.04, 0.25]))
    >>> {name: float(value.min().round(3)) for name, value in slack(both).items()}["phi"]
    -4.0
    """
    theta, rho, psi = (np.asarray(values, np.float64) for values in slices)
    right, left = psi * (1.0 + rho), psi * (1.0 - rho)
    steepest = np.maximum(right, left)
    phi = psi / theta
    return {
        "slope": 1.0 - steepest / 4.0,
        "butterfly": 1.0 - psi * steepest / (4.0 * theta),
        "theta": np.diff(theta) / theta[1:],
        "right": np.diff(right) / right[1:],
        "left": np.diff(left) / left[1:],
        "phi": -np.diff(phi) / phi[:-1],
    }


class WingCoordinates(eqx.Module):
    """Coordinates of a chain's slices: each real vector gives slices without arbitrage."""

    @abc.abstractmethod
    def slices(self, variables: Float64[Array, " variables"]) -> SsviSlices:
        """The slices that these variables mean (padded ones included)."""

    @abc.abstractmethod
    def variables(self, slices: SsviSlices) -> Float64[np.ndarray, " variables"]:
        """Variables whose slices are near the given ones (numpy; one slice for each that is not padding)."""


class EssviCoordinates(WingCoordinates):
    """`theta`, `rho`, `psi` of every expiry.

    Attributes:
        growth: usual growth of `theta` to each expiry from the one before. Shape: (expiries,).
        real: False where an expiry is padding. Shape: (expiries,).
    """

    growth: Float64[Array | np.ndarray, " expiries"]
    real: Bool[Array | np.ndarray, " expiries"]

    def slices(self, variables: Float64[Array, " variables"]) -> SsviSlices:
        """The slices that these variables mean (padded ones included)."""
        rise, tilt, share = variables.reshape(3, -1)
        rho = _MOST_RHO * jnp.tanh(tilt)
        forced = jnp.exp(_cumulated(_log_forced(rho)))
        inner = _cumulated(self.growth * _positive(rise) / forced)
        theta = forced * inner
        most = jnp.where(self.real, _most_psi(theta, rho) / forced, jnp.inf)
        later = jnp.triu(jnp.ones((most.size, most.size), bool))
        ahead = jnp.where(later, most[None, :], jnp.inf).min(1)
        ratio = inner / jnp.concatenate([inner[:1], inner[:-1]])
        share = _share(share)

        def advance(before, row):
            ratio, ahead, share, first = row
            most = jnp.where(first, ahead, _least(before * ratio, ahead))
            now = before + share * jnp.maximum(most - before, 0.0)
            return now, now

        first = jnp.arange(most.size) == 0
        ahead = jnp.where(jnp.isfinite(ahead), ahead, 1e9)  # padding is bounded by its neighbour alone
        # not unrolled: as fast, and compiled in half the time (measured)
        psi = jax.lax.scan(advance, jnp.zeros(()), (ratio, ahead, share, first))[1]
        return SsviSlices(theta, rho, psi * forced)

    def variables(self, slices: SsviSlices) -> Float64[np.ndarray, " variables"]:
        """Variables whose slices are near the given ones (numpy; one slice for each that is not padding)."""
        count, size = slices.theta.size, self.growth.size
        tilt = np.arctanh(np.clip(np.asarray(slices.rho) / _MOST_RHO, -0.999, 0.999))
        rho = _MOST_RHO * np.tanh(tilt)
        ratios = np.stack([np.log1p(sign * rho[:-1]) - np.log1p(sign * rho[1:]) for sign in (1.0, -1.0)])
        forced = np.exp(np.cumsum(np.concatenate([[0.0], ratios.max(0, initial=0.0)])))
        inner = np.maximum.accumulate(np.asarray(slices.theta) / forced)
        rise = np.diff(inner, prepend=0.0) * forced / np.asarray(self.growth)[:count]
        most = (1.0 - _ROUND) * np.minimum(4.0 / (1 + np.abs(rho)), np.sqrt(4.0 * slices.theta / (1.0 + np.abs(rho))))
        ahead = np.minimum.accumulate((most / forced)[::-1])[::-1]
        share, before = np.full(size, 0.5), 0.0
        for place in range(count):
            top = ahead[place] if place == 0 else min(before * inner[place] / inner[place - 1], ahead[place])
            room = max(top - before, 1e-12 * top)
            share[place] = np.clip((slices.psi[place] / forced[place] - before) / room, 0.02, 0.98)
            before += share[place] * room
        found = np.zeros((3, size))
        found[0, :count] = _as_rise(np.maximum(rise, 1e-2))
        found[1, :count] = tilt
        found[2] = np.log(share / (1.0 - share))
        return found.ravel()


class SsviCoordinates(WingCoordinates):
    """`theta` of every expiry, one `rho`, and the power law of `psi` by its first and last value.

    Attributes:
        growth: usual growth of `theta` to each expiry from the one before. Shape: (expiries,).
        last: index of the last expiry that is not padding.
    """

    growth: Float64[Array | np.ndarray, " expiries"]
    last: Array | np.ndarray

    def slices(self, variables: Float64[Array, " variables"]) -> SsviSlices:
        """The slices that these variables mean (padded ones included)."""
        rise, tilt, shares = variables[:-3], variables[-3], _share(variables[-2:])
        theta, rho = _cumulated(self.growth * _positive(rise)), _MOST_RHO * jnp.tanh(tilt)
        first, last = theta[0], theta[self.last]
        most = _most_psi(jnp.stack([first, last]), rho)
        low = shares[0] * _least(most[0], most[1])
        high = low + shares[1] * jnp.maximum(_least(low * last / first, most[1]) - low, 0.0)
        span = jnp.where(last > first, jnp.log(last / first), 1.0)
        power = jnp.clip(jnp.log(high / low) / span, 0.0, 1.0)
        return SsviSlices(theta, jnp.full_like(theta, rho), low * (theta / first) ** power)

    def variables(self, slices: SsviSlices) -> Float64[np.ndarray, " variables"]:
        """Variables whose slices are near the given ones (numpy; one slice for each that is not padding)."""
        count, size = slices.theta.size, self.growth.size
        theta, psi = np.asarray(slices.theta), np.asarray(slices.psi)
        rho = np.clip(np.median(slices.rho) / _MOST_RHO, -0.999, 0.999)
        most = np.sqrt(4.0 * theta / (1.0 + abs(rho)))
        most = np.minimum(most, 4.0 / (1.0 + abs(rho)))
        low = np.clip(psi[0] / min(most[0], most[-1]), 0.02, 0.98)
        room = max(min(psi[0] * theta[-1] / theta[0], most[-1]) - psi[0], 1e-12)
        high = np.clip((psi[-1] - psi[0]) / room, 0.02, 0.98)
        found = np.zeros(size + 3)
        rise = np.diff(theta, prepend=0.0) / np.asarray(self.growth)[:count]
        found[:count] = _as_rise(np.maximum(rise, 1e-2))
        found[-3:] = np.arctanh(rho), np.log(low / (1.0 - low)), np.log(high / (1.0 - high))
        return found


def _positive(variable):
    """Any real number to a positive one; 0 to 1, nearly straight above."""
    return jnp.exp(jnp.arcsinh(variable))


def _share(variable):
    """Any real number to one between 0 and 1, neither of which floating point then reaches."""
    return _INSIDE + (1.0 - 2.0 * _INSIDE) * jax.nn.sigmoid(variable)


def _as_rise(positive):
    return np.sinh(np.log(positive))


def _cumulated(values):
    """Running sums as a product: XLA's own take ten times as long."""
    return jnp.tril(jnp.ones((values.size, values.size))) @ values


def _log_forced(rho):
    """`ln p` of each expiry; 0 for the first."""
    right, left = jnp.log1p(rho), jnp.log1p(-rho)
    right, left = right[:-1] - right[1:], left[:-1] - left[1:]
    # never below either of them, and above 0 where they are equal: rounded off to the safe side
    both = 0.5 * (right + left + jnp.sqrt((right - left) ** 2 + _ROUND**2))
    return jnp.concatenate([jnp.zeros(1), both])


def _least(one, other):
    """Below both of two positive numbers, by half of `_ROUND` at most."""
    root = jnp.sqrt((one - other) ** 2 + _ROUND**2 * one * other)
    # half of `one + other - root`, without the difference: that drowns the lesser number where they are far apart
    return 0.5 * (4.0 - _ROUND**2) * one * other / (one + other + root)


def _most_psi(theta, rho):
    """Below the largest `psi` of a slice without butterfly arbitrage."""
    size = 1.0 + jnp.sqrt(rho**2 + _ROUND**2)
    return _STRICT * _least(4.0 / size, 2.0 * jnp.sqrt(theta / size))
