"""Rivals from public packages, as they come: fast-vollib (raw SVI, SSVI) and quantflow (eSSVI); the extra `bench`.

Where a package takes weights it is given those of the others, one over the squared half-spread of volatility.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.rivals import raw_svi, wings
from volgrad.market.chain import Chain


class Package(NamedTuple):
    """Where a rival comes from, and how it is run on a chain."""

    distribution: str
    module: str
    what: str
    fit: Callable[[Chain], Any]


def _observations(told: wings.Quotes) -> Any:
    from fast_vollib.surface import SurfaceObservations  # pyright: ignore[reportMissingImports]

    by_vol = 2.0 * told.mid * told.tau  # of total variance, which is what is fitted
    return SurfaceObservations(k=told.k, T=told.tau, iv=told.mid, weight=(by_vol * told.half) ** -2.0)


def fast_vollib_svi(chain: Chain) -> raw_svi.Curve:
    """`SVICalibrator` with its own settings; an expiry of fewer than five quotes takes its neighbour's shape."""
    from fast_vollib.surface.fitting.parametric import SVICalibrator  # pyright: ignore[reportMissingImports]

    told = wings.quotes_of(chain)
    enough = np.array([rows.stop - rows.start >= 5 for rows in told.slices()])
    kept = told._replace(
        **{name: getattr(told, name)[enough[told.expiry]] for name in ("expiry", "k", "mid", "half", "tau")}
    )
    surface = SVICalibrator().fit(_observations(kept))
    rows = [[p.a, p.b, p.rho, p.m, p.sigma] for p in surface.slices]
    return raw_svi.Curve(np.asarray(surface.maturities), np.array(rows))


def fast_vollib_ssvi(chain: Chain) -> wings.Curve:
    """`SSVICalibrator` with its own settings (power law, butterflies excluded)."""
    from fast_vollib.surface.fitting.parametric import SSVICalibrator  # pyright: ignore[reportMissingImports]

    surface = SSVICalibrator().fit(_observations(wings.quotes_of(chain)))
    theta = np.asarray(surface.theta)
    psi = theta * np.asarray(surface.phi(theta))
    return wings.Curve(np.asarray(surface.maturities), theta, np.full(theta.size, surface.rho), psi)


def quantflow_essvi(chain: Chain) -> wings.Curve:
    """`SSVI.fit_surface` with its own settings; it takes no weights by spread."""
    from quantflow.options.ssvi import SSVI  # pyright: ignore[reportMissingImports]

    told = wings.quotes_of(chain)
    slices = [(told.k[rows], told.mid[rows], float(told.tau[rows.start])) for rows in told.slices()]
    found = SSVI.fit_surface(slices)
    theta, rho, psi = (np.array([float(v) for v in values]) for values in (found.theta, found.rho, found.psi))
    years: Float[np.ndarray, " expiries"] = np.array([float(v) for v in found.ttm])
    return wings.Curve(years, theta, rho, psi)


PACKAGES = {
    "fast-vollib svi": Package(
        "fast-vollib", "fast_vollib", "SVICalibrator(), 3 starts, joined at equal k/sqrt(theta)", fast_vollib_svi
    ),
    "fast-vollib ssvi": Package("fast-vollib", "fast_vollib", "SSVICalibrator()", fast_vollib_ssvi),
    "quantflow essvi": Package("quantflow", "quantflow", "SSVI.fit_surface()", quantflow_essvi),
}
