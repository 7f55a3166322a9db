"""From fitted slices to a certified surface: carry between expiries as far as the certificate allows."""

import dataclasses

import numpy as np
from jaxtyping import Float64

from volgrad.models.certificate import (
    LEAST_G,
    LEAST_GROWTH,
    Certificate,
    calendar_growth,
    certify,
    dense_moneyness,
    grid_g,
)
from volgrad.models.slices import LINEAR, MIXED, SlicedSurface

__all__ = ["certificate_times", "join"]

_PARTS = (0.25, 0.5, 0.75)
_REACHES = (6.0, 4.0, 3.0, 2.0, 1.0, LINEAR, MIXED)
_K_REACH = 1.5


def certificate_times(expiry_years: Float64[np.ndarray, " expiries"]) -> Float64[np.ndarray, " times"]:
    """The expiries, three times within each interval, two before the first and one after the last."""
    inner = [expiry_years[:-1] + part * np.diff(expiry_years) for part in _PARTS]
    outer = [0.1 * expiry_years[:1], 0.5 * expiry_years[:1], 1.25 * expiry_years[-1:]]
    return np.sort(np.concatenate([expiry_years, *inner, *outer]))


def join(surface: SlicedSurface) -> tuple[SlicedSurface, Certificate]:
    """The surface with each interval carried as far out as it is clean, and its certificate.

    An interval that is not clean (butterfly inside it, or calendar across it) gives way to linear total variance from
    the wings inwards, rung by rung, and at last to linear premiums.
    """
    reach_k = max(_K_REACH, 1.02 * float(np.abs(surface.quoted).max()))
    times = certificate_times(surface.expiry_years)
    certificate = certify(surface, times, reach_k)
    if certificate.clean or surface.expiry_years.size < 2:
        return surface, certificate
    k = dense_moneyness(reach_k)
    for reach in _REACHES:
        bad = _bad_intervals(surface, k)
        if not bad.any():
            break
        current = surface.reach if surface.reach.size else np.full(bad.size, np.inf)
        surface = dataclasses.replace(surface, reach=np.where(bad, reach, current))
    return surface, certify(surface, times, reach_k)


def _bad_intervals(surface: SlicedSurface, k: Float64[np.ndarray, " points"]) -> np.ndarray:
    years = surface.expiry_years
    bad = np.zeros(years.size - 1, bool)
    for left in range(bad.size):
        inner = years[left] + np.asarray(_PARTS) * (years[left + 1] - years[left])
        times = np.concatenate([years[left : left + 1], inner, years[left + 1 : left + 2]])
        variance = surface.total_variance(k[None, :], times[:, None])
        growth = calendar_growth(variance).min()
        wings = (variance[:, [0, -1]] - variance[:, [1, -2]]).max() / (k[-1] - k[-2])
        bad[left] = not (grid_g(k, variance[1:-1]).min() >= LEAST_G and growth >= LEAST_GROWTH and wings <= 2.0)
    return bad
