"""Expiries that a chain does not show: carried from the others, and moved by what is expected of them.

What is expected need not be free of arbitrage. So the surface with the missing expiries is joined and certified like
any other, and where it fails the expectation is halved, and at last given up: the surface is then the one without.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.market.instruments import YEAR_US
from volgrad.models.certificate import Certificate
from volgrad.models.grid import NODES
from volgrad.models.joining import join
from volgrad.models.local_vol import KNOTS
from volgrad.models.slices import PUBLISHED, SlicedSurface

__all__ = ["with_missing"]

_K = NODES[PUBLISHED]
_SHARES = (1.0, 0.5, 0.25)


def with_missing(
    surface: SlicedSurface,
    stamps: Int64[np.ndarray, " missing"],
    level: Float64[np.ndarray, " missing"],
    smile: Float64[np.ndarray, "missing knots"],
) -> tuple[SlicedSurface, Certificate]:
    """The surface with the expiries `stamps` as slices of their own, and its certificate.

    Args:
        surface: the fitted slices, not yet joined.
        stamps: expiries between the surface's own, microseconds since 1970 UTC, ascending.
        level: ln volatility at the money beyond what is carried.
        smile: further `ln(vol(x) / vol(0))` at the knots.
    """
    years = (stamps - surface.ts_us) / YEAR_US
    inner = (years > surface.expiry_years[0] + 1e-9) & (years < surface.expiry_years[-1] - 1e-9)
    far = np.abs(years[:, None] - surface.expiry_years[None, :]).min(axis=1, initial=np.inf) > 1e-9
    chosen = inner & far
    if not chosen.any():
        return join(surface)
    years, level, smile = years[chosen], level[chosen], smile[chosen]
    carried = surface.total_variance(_K[None, :], years[:, None])
    place = np.arcsinh(np.clip(_K[None, :] / np.sqrt(carried[:, [_K.size // 2]]), KNOTS[0], KNOTS[-1]))
    more = level[:, None] + np.stack(
        [np.interp(x, np.arcsinh(KNOTS), row) for x, row in zip(place, smile, strict=True)]
    )
    for share in _SHARES:
        made, certificate = join(_merged(surface, years, carried * np.exp(2.0 * share * more)))
        if certificate.clean:
            return made, certificate
    return join(surface)


def _merged(
    surface: SlicedSurface, years: Float64[np.ndarray, " missing"], variance: Float64[np.ndarray, "missing published"]
) -> SlicedSurface:
    """The slices of both in the order of time; those that nobody quoted say so: their quotes span nothing."""
    every = np.concatenate([surface.expiry_years, years])
    order = np.argsort(every, kind="stable")
    forward = np.exp(np.interp(years, surface.expiry_years, np.log(surface.forward_usd)))
    return dataclasses.replace(
        surface,
        expiry_years=every[order],
        forward_usd=np.concatenate([surface.forward_usd, forward])[order],
        variance=np.concatenate([surface.variance, variance])[order],
        quoted=np.concatenate([surface.quoted, np.zeros((years.size, 2))])[order],
        reach=np.empty(0),
    )
