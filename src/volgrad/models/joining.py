"""From fitted slices to a certified surface: carry between expiries as far as the certificate allows."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int64

from volgrad.market.arbitrage import LEE_SLOPE
from volgrad.models.certificate import (
    LEAST_G,
    LEAST_GROWTH,
    Certificate,
    certify,
    dense_moneyness,
    grid_g,
)
from volgrad.models.slices import CARRIED, LINEAR, MIXED, SlicedSurface
from volgrad.models.surface import ListedSurface

__all__ = ["certificate_reach", "certificate_times", "join"]

_PARTS = (0.25, 0.5, 0.75)
_REACHES = (6.0, 4.0, 3.0, 2.0, 1.0, LINEAR, MIXED)
# looked at: |k| to 1.5 at least, to the outermost quote, and to 3 deviations of the last expiry where the slices reach
_K_REACH, _DEVIATIONS, _K_WIDEST = 1.5, 3.0, 2.9


def certificate_times(expiry_years: Float64[np.ndarray, " expiries"]) -> Float64[np.ndarray, " times"]:
    """The expiries, three times within each interval, two before the first and one after the last."""
    inner = [expiry_years[:-1] + part * np.diff(expiry_years) for part in _PARTS]
    outer = [0.1 * expiry_years[:1], 0.5 * expiry_years[:1], 1.25 * expiry_years[-1:]]
    return np.sort(np.concatenate([expiry_years, *inner, *outer]))


def certificate_reach(surface: ListedSurface) -> float:
    """How far out in log-moneyness a surface is certified."""
    wide = _DEVIATIONS * float(np.sqrt(surface.total_variance(0.0, surface.expiry_years[-1])))
    return max(_K_REACH, 1.02 * float(np.abs(surface.quoted).max()), min(wide, _K_WIDEST))


def join(surface: SlicedSurface) -> tuple[SlicedSurface, Certificate]:
    """The surface with each interval carried as far out as it is clean, and its certificate.

    An interval that is not clean (butterfly inside it, or calendar across it) gives way to linear total variance from
    the wings inwards, rung by rung, and at last to linear premiums.
    """
    reach_k = certificate_reach(surface)
    times = certificate_times(surface.expiry_years)
    certificate = certify(surface, times, reach_k)
    if certificate.clean or surface.expiry_years.size < 2:
        return surface, certificate
    k = dense_moneyness(reach_k)
    bad = np.arange(surface.expiry_years.size - 1)
    reaches = surface.reach.copy() if surface.reach.size else np.full(bad.size, CARRIED)
    for reach in _REACHES:
        bad = bad[_unclean(surface, bad, k)]  # intervals do not depend on each other's reach
        if not bad.size:
            break
        reaches[bad] = reach
        surface = dataclasses.replace(surface, reach=reaches.copy())
    return surface, certify(surface, times, reach_k)


def _unclean(
    surface: SlicedSurface, left: Int64[np.ndarray, " intervals"], k: Float64[np.ndarray, " points"]
) -> Bool[np.ndarray, " intervals"]:
    """Which of the intervals that begin at the expiries `left` have arbitrage inside or across."""
    begin, end = surface.expiry_years[left][:, None], surface.expiry_years[left + 1][:, None]
    times = np.concatenate([begin, begin + np.asarray(_PARTS) * (end - begin), end], axis=1)
    variance = surface.total_variance(k[None, None, :], times[:, :, None])
    least_g = grid_g(k, variance[:, 1:-1].reshape(-1, k.size)).reshape(left.size, -1).min(1)
    growth = (np.diff(variance, axis=1) / variance[:, :-1]).reshape(left.size, -1).min(1)
    wings = (variance[:, :, [0, -1]] - variance[:, :, [1, -2]]).reshape(left.size, -1).max(1) / (k[-1] - k[-2])
    return ~((least_g >= LEAST_G) & (growth >= LEAST_GROWTH) & (wings <= LEE_SLOPE))  # True for NaN
