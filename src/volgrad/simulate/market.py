"""A simulated exchange with a known true volatility surface.

>>> chains = list(simulate(seed=1, chains=3))
>>> chains[0].quotes.num_rows == chains[0].kind.size
True
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from volgrad.errors import InputError
from volgrad.simulate.exchange import Block, Exchange, Listing
from volgrad.simulate.quoting import Quirks
from volgrad.simulate.surface import Skew, ends, surface_of
from volgrad.simulate.table import quote_table
from volgrad.simulate.truth import TrueSurface

__all__ = ["BITCOIN", "ETHER", "MarketSettings", "SimulatedChain", "exchange_of", "microseconds", "simulate"]

PLAIN_COLUMNS = ("ts", "ccy", "expiry", "strike", "cp", "bid", "ask", "underlying", "underlying_index")


@dataclass(frozen=True)
class MarketSettings:
    """What to simulate. Times are arguments: nothing here reads a clock.

    `short_vol` and `long_vol` are the calm market's two ends of the volatility curve (fractions), `tilt` the
    usual skew against BTC's, `start` the first chain's time, `shock` the size of the volatility shock half-way
    (0 for none); `spread` multiplies all spreads; `size_coin` is the usual amount at a quote near the money,
    `oi_coin` the usual open interest out of the money. A `restless` market has regimes and jumps.
    """

    ccy: str = "BTC"
    spot_usd: float = 90_000.0
    short_vol: float = 0.38
    long_vol: float = 0.47
    tilt: float = 0.0
    start: datetime = datetime(2026, 1, 5, 9, 17, 30, tzinfo=UTC)
    every: timedelta = timedelta(minutes=30)
    shock: float = 1.0
    spread: float = 1.0
    size_coin: float = 10.0
    oi_coin: float = 500.0
    quirks: Quirks = field(default_factory=Quirks)
    restless: bool = False


BITCOIN = MarketSettings()
ETHER = MarketSettings(
    ccy="ETH",
    spot_usd=3_000.0,
    short_vol=0.52,
    long_vol=0.65,
    tilt=-0.15,
    spread=1.3,
    size_coin=120.0,
    oi_coin=2_000.0,
)


@dataclass(frozen=True)
class SimulatedChain:
    """One chain: the quote table that a user's file would hold, and the truth behind it.

    `quotes` has the canonical columns ts, ccy, expiry, strike, cp, bid, ask, underlying, underlying_index
    (bid and ask in coin, null = missing). `kind` tells what was done to each row (`RowKind`). `expiry_years`
    is ACT/365, `forward_usd` the true forward of each expiry, `stress` 0 in a calm market and 1 after a
    shock.
    """

    ts_us: int
    ccy: str
    quotes: pa.Table
    truth: TrueSurface
    kind: Int[np.ndarray, " rows"]
    expiry_us: Int[np.ndarray, " expiries"]
    expiry_years: Float[np.ndarray, " expiries"]
    forward_usd: Float[np.ndarray, " expiries"]
    spot_usd: float
    stress: float


def simulate(seed: int, chains: int, settings: MarketSettings = BITCOIN) -> Iterator[SimulatedChain]:
    """Simulate chain after chain of one underlying, with a volatility shock at chain number `chains // 2`.

    The same seed, count and settings give the same chains, bit for bit. Quotes are drawn from a stream of
    their own, so that the market's path does not depend on what is quoted. The first chain is calm.

    Raises:
        InputError: where `chains` is below 1, the step is not positive, or the start has no time zone.
    """
    if chains < 1 or settings.every <= timedelta(0) or settings.start.tzinfo is None:
        raise InputError(
            f"cannot simulate {chains} chains every {settings.every} from {settings.start}: "
            "give at least 1 chain, a positive step and a start with a time zone"
        )
    return _chains(seed, chains, settings)


def exchange_of(seed: int, settings: MarketSettings, *, changes_only: bool = False) -> Exchange:
    """The exchange of one underlying; two underlyings of one seed do not move in step."""
    return Exchange(
        [seed, *settings.ccy.encode()],
        Listing(
            settings.spot_usd,
            settings.short_vol,
            settings.long_vol,
            settings.tilt,
            settings.spread,
            settings.size_coin,
            settings.oi_coin,
            settings.quirks,
        ),
        microseconds(settings.start),
        settings.every // timedelta(microseconds=1),
        restless=settings.restless,
        changes_only=changes_only,
    )


def surface_at(block: Block, tick: int, settings: MarketSettings) -> TrueSurface:
    """The true surface at one moment of a block."""
    values = block.path.values
    short, long, bump = (float(end[tick]) for end in ends(values, settings.short_vol, settings.long_vol))
    skew = Skew(settings.tilt, float(values["skew"][tick]), float(values["stress"][tick]))
    return surface_of(int(block.path.ts_us[tick]), (short, long, bump), skew)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _chains(seed: int, chains: int, settings: MarketSettings) -> Iterator[SimulatedChain]:
    exchange = exchange_of(seed, settings)
    for block in exchange.blocks(chains, chains // 2 if chains > 1 else -1, settings.shock):
        table, rows = quote_table(block, settings.ccy), block.contracts.rows
        for tick in range(block.path.ts_us.size):
            yield SimulatedChain(
                ts_us=int(block.path.ts_us[tick]),
                ccy=settings.ccy,
                quotes=table.slice(tick * rows, rows).select(PLAIN_COLUMNS).combine_chunks(),
                truth=surface_at(block, tick, settings),
                kind=block.columns["kind"][tick * rows : (tick + 1) * rows],
                expiry_us=block.contracts.expiry_us,
                expiry_years=block.years[tick],
                forward_usd=block.forward_usd[tick],
                spot_usd=float(block.path.values["spot_usd"][tick]),
                stress=float(block.path.values["stress"][tick]),
            )
