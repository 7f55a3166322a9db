"""Simulated markets for the network to learn from, unlike each other in every setting that may differ in a real one."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from volgrad.data import build, read_quotes
from volgrad.market.chain import Chain
from volgrad.models.local_vol import KNOTS
from volgrad.simulate.market import BITCOIN, ETHER, MarketSettings, simulate
from volgrad.tasks.surface_net.views import kinked

__all__ = ["CADENCES", "market_chains", "market_settings"]

#: Time between chains.
CADENCES = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6))
_FIRST = datetime(2025, 1, 6, 1, 17, 30, tzinfo=UTC)
_SKEW = np.tanh(KNOTS / 3.0)
_CURVE = 1.0 - 1.0 / np.sqrt(1.0 + (KNOTS / 2.0) ** 2)


def market_settings(seed: int) -> MarketSettings:
    """Settings of a market: an underlying, a cadence, levels, skew, spreads and a first day of its own.

    >>> market_settings(3) == market_settings(3)
    True
    """
    random = np.random.default_rng([seed, 1])
    base = (BITCOIN, ETHER)[int(random.integers(2))]
    moved = {name: getattr(base, name) * float(np.exp(0.25 * random.normal())) for name in ("short_vol", "long_vol")}
    return dataclasses.replace(
        base,
        **moved,
        tilt=base.tilt + 0.3 * float(random.normal()),
        spread=base.spread * float(np.exp(0.4 * random.normal())),
        start=_FIRST + timedelta(days=int(random.integers(500)), hours=int(random.integers(24))),
        every=CADENCES[int(random.choice(3, p=(0.3, 0.2, 0.5)))],
        shock=float(random.random() < 0.2),
        restless=True,
    )


def market_chains(seed: int, count: int) -> list[Chain]:
    """Chains of one simulated market, whose expiries have levels and smiles of their own.

    The simulator's term structure is smooth; recorded ones have kinks that last for hours to weeks. So every expiry is
    given an Ornstein-Uhlenbeck process of its level, its skew and its curvature, of other sizes in every market.
    """
    tables = [one.quotes for one in simulate(seed, count, market_settings(seed))]
    chains = build(read_quotes(pa.concat_tables(tables))).chains
    return list(_with_kinks(chains, np.random.default_rng([seed, 2])))


def _with_kinks(chains: list[Chain], random: np.random.Generator) -> Iterator[Chain]:
    size = np.exp(random.uniform(np.log([0.002, 0.003, 0.003]), np.log([0.02, 0.04, 0.04])))
    hours = float(np.exp(random.uniform(np.log(12.0), np.log(1000.0))))
    state: dict[int, np.ndarray] = {}
    before = chains[0].ts_us if chains else 0
    for chain in chains:
        keep = float(np.exp(-(chain.ts_us - before) / 3.6e9 / hours))
        before = chain.ts_us
        for stamp in chain.expiry_us.tolist():
            fresh = random.normal(size=3)
            state[stamp] = keep * state[stamp] + np.sqrt(1.0 - keep**2) * fresh if stamp in state else fresh
        own = size[None, :] * np.stack([state[stamp] for stamp in chain.expiry_us.tolist()])
        # short expiries have wider ones [measured: .02 at two days, .004 at two months]
        own *= np.clip(np.sqrt(30.0 / (365.0 * chain.expiry_years)), 0.3, 2.0)[:, None]
        yield kinked(chain, own[:, 0], own[:, 1:2] * _SKEW[None, :] + own[:, 2:3] * _CURVE[None, :])
