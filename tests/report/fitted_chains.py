"""Simulated chains with the true slices as their surfaces: no fit is needed to draw one."""

import dataclasses
from functools import cache

import numpy as np

from volgrad.data.chains import build_chains
from volgrad.data.read import read_quotes
from volgrad.market.chain import Chain
from volgrad.models.certificate import certify
from volgrad.models.grid import NODES
from volgrad.models.joining import certificate_times
from volgrad.models.slices import LINEAR, PUBLISHED, SlicedSurface
from volgrad.simulate.comparison import TotalVariance
from volgrad.simulate.market import SimulatedChain, simulate
from volgrad.tasks.fitted import FittedChain


@cache
def looks() -> tuple[SimulatedChain, ...]:
    return tuple(simulate(3, 3))


@cache
def fitted() -> tuple[FittedChain, ...]:
    return tuple(as_fitted(build_chains(read_quotes(look.quotes))[0], look.truth) for look in looks())


def truth(chain: Chain) -> TotalVariance:
    """The truth of a simulated chain, and of any part of it."""
    return next(look.truth for look in looks() if look.ts_us == chain.ts_us)


def as_fitted(chain: Chain, true: TotalVariance) -> FittedChain:
    expiries = np.unique(chain.expiry_index)
    years, k = chain.expiry_years[expiries], NODES[PUBLISHED]
    rows = [chain.log_moneyness[chain.rows(int(expiry))] for expiry in expiries]
    surface = SlicedSurface(
        ts_us=chain.ts_us,
        expiry_years=years,
        forward_usd=chain.forward_usd[expiries],
        variance=true.total_variance(k[None, :], years[:, None]),
        quoted=np.array([[row.min(), row.max()] for row in rows]),
        reach=np.full(years.size - 1, LINEAR),
    )
    return FittedChain(
        chain=chain,
        surface=surface,
        certificate=certify(surface, certificate_times(years)),
        status="converged",
        why="no step promises a further gain",
        iterations=2,
        fit_ms=20.0,
        certificate_ms=5.0,
        warm=False,
        inside=0.9 + 0.01 * len(rows),
        rmse_vol_points=0.4,
        curve=[(0, 9.0), (chain.n_rows, 0.3), (2 * chain.n_rows, 0.0)],
    )


def refused(one: FittedChain, why: str = "too few quotes") -> FittedChain:
    nothing = {"surface": None, "certificate": None, "inside": np.nan, "rmse_vol_points": np.nan, "curve": []}
    return dataclasses.replace(one, status="refused", why=why, **nothing)


def part(chain: Chain, expiry: int, rows: slice) -> Chain:
    """Some rows of one expiry as a chain of their own."""
    columns = ("strike_usd", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
    return dataclasses.replace(
        chain,
        **{name: getattr(chain, name)[rows] for name in columns},
        **{name: getattr(chain, name)[expiry : expiry + 1] for name in ("expiry_us", "expiry_years", "forward_usd")},
        expiry_index=np.zeros(rows.stop - rows.start, np.int32),
    )
