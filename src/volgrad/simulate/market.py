"""A simulated exchange with a known true volatility surface.

>>> chains = list(simulate(seed=1, chains=3))
>>> chains[0].quotes.num_rows == chains[0].kind.size
True
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import exp, sqrt

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from volgrad.errors import InputError
from volgrad.market.instruments import YEAR_US, InverseOption
from volgrad.simulate.listing import LISTED_DAYS, expiry_kind, listed_expiries, strike_ladder
from volgrad.simulate.quoting import Contracts, Quirks, Quotes, make_quotes
from volgrad.simulate.regime import Regime
from volgrad.simulate.truth import TrueSurface

PAST_LADDERS = 4  # how many earlier looks at the market left strikes behind before the simulation starts


@dataclass(frozen=True)
class MarketSettings:
    """What to simulate. Times are arguments: nothing here reads a clock.

    `short_vol` and `long_vol` are the calm market's two ends of the volatility curve (fractions), `start` is
    the first chain's time, `shock` the size of the volatility shock half-way (0 for none); `spread`
    multiplies all spreads.
    """

    ccy: str = "BTC"
    spot_usd: float = 90_000.0
    short_vol: float = 0.38
    long_vol: float = 0.47
    start: datetime = datetime(2026, 1, 5, 9, 17, 30, tzinfo=UTC)
    every: timedelta = timedelta(minutes=30)
    shock: float = 1.0
    spread: float = 1.0
    quirks: Quirks = field(default_factory=Quirks)


BITCOIN = MarketSettings()
ETHER = MarketSettings(ccy="ETH", spot_usd=3_000.0, short_vol=0.52, long_vol=0.65, spread=1.3)


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
    kind: Int[np.ndarray, "rows"]
    expiry_us: Int[np.ndarray, "expiries"]
    expiry_years: Float[np.ndarray, "expiries"]
    forward_usd: Float[np.ndarray, "expiries"]
    spot_usd: float
    stress: float


def simulate(seed: int, chains: int, settings: MarketSettings = BITCOIN) -> Iterator[SimulatedChain]:
    """Simulate chain after chain of one underlying, with a volatility shock at chain number `chains // 2`.

    The same seed, count and settings give the same chains, bit for bit. Each chain's quotes are drawn from a
    stream of their own, so that the market's path does not depend on what is quoted. The first chain is calm.

    Raises:
        InputError: where `chains` is below 1, the step is not positive, or the start has no time zone.
    """
    if chains < 1 or settings.every <= timedelta(0) or settings.start.tzinfo is None:
        raise InputError(
            f"cannot simulate {chains} chains every {settings.every} from {settings.start}: "
            "give at least 1 chain, a positive step and a start with a time zone"
        )
    return _chains(seed, chains, settings)


def _chains(seed: int, chains: int, settings: MarketSettings) -> Iterator[SimulatedChain]:
    stream = [seed, *settings.ccy.encode()]  # two underlyings of one seed do not move in step
    random = np.random.default_rng([*stream, 0])
    book = StrikeBook(random)
    regime = Regime(settings.spot_usd, settings.short_vol, settings.long_vol)
    start_us, every_us = _microseconds(settings.start), settings.every // timedelta(microseconds=1)
    for number in range(chains):
        if number:
            regime = regime.advance(every_us / YEAR_US, random)
            if number == chains // 2:
                regime = regime.struck(settings.shock)
        quoting = np.random.default_rng([*stream, 1, number])
        yield _chain(start_us + number * every_us, regime, book, settings, quoting)


def _chain(
    ts_us: int, regime: Regime, book: "StrikeBook", settings: MarketSettings, random: np.random.Generator
) -> SimulatedChain:
    expiry_us = listed_expiries(ts_us)
    expiry_years = (expiry_us - ts_us) / YEAR_US
    forward_usd = regime.forward_usd(expiry_years)
    truth = regime.surface(ts_us)
    volatility = np.sqrt(truth.clock.theta(expiry_years) / expiry_years)
    scale_usd = settings.spot_usd * settings.long_vol
    ladders = book.update(scale_usd, expiry_us, expiry_years, forward_usd, volatility)
    contracts = _contracts(ladders, forward_usd, expiry_years)
    made = make_quotes(contracts, truth, regime.stress, settings.quirks, random, settings.spread)
    return SimulatedChain(
        ts_us=ts_us,
        ccy=settings.ccy,
        quotes=_table(ts_us, settings.ccy, expiry_us, contracts, made),
        truth=truth,
        kind=made.kind,
        expiry_us=expiry_us,
        expiry_years=expiry_years,
        forward_usd=forward_usd,
        spot_usd=regime.spot_usd,
        stress=regime.stress,
    )


class StrikeBook:
    """The strikes listed so far: they stay until expiry, and new ones are added as the forward moves."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._strikes: dict[int, np.ndarray] = {}

    def update(
        self,
        scale_usd: float,
        expiry_us: np.ndarray,
        expiry_years: np.ndarray,
        forward_usd: np.ndarray,
        volatility: np.ndarray,
    ) -> list[Float[np.ndarray, "strikes"]]:
        """Strikes of every listed expiry; `scale_usd` fixes the round steps (see `strike_ladder`)."""
        listed: dict[int, np.ndarray] = {}
        rows = zip(expiry_us.tolist(), expiry_years.tolist(), forward_usd.tolist(), volatility.tolist(), strict=True)
        for expiry, years, forward, vol in rows:
            known = self._strikes.get(expiry)
            if known is None:
                known = self._past(scale_usd, expiry, years, forward, vol)
            listed[expiry] = np.union1d(known, strike_ladder(scale_usd, forward, years, vol))
        self._strikes = listed
        return list(listed.values())

    def _past(self, scale_usd: float, expiry_us: int, years: float, forward: float, vol: float) -> np.ndarray:
        """Strikes that a contract kept from earlier looks, when it was longer and the market elsewhere."""
        oldest = LISTED_DAYS[expiry_kind(expiry_us)] / 365.0
        ladders = [np.empty(0)]
        for age in np.linspace(1.0, 0.0, PAST_LADDERS, endpoint=False) * max(oldest - years, 0.0):
            moved = forward * exp(0.5 * vol * sqrt(age) * self._random.standard_normal())
            ladders.append(strike_ladder(scale_usd, moved, years + age, vol))
        return np.unique(np.concatenate(ladders))


def _contracts(ladders: list[np.ndarray], forward_usd: np.ndarray, expiry_years: np.ndarray) -> Contracts:
    """Calls and puts of every strike, ordered by expiry, strike, call before put."""
    counts = np.array([ladder.size for ladder in ladders])
    strike_usd = np.repeat(np.concatenate(ladders), 2)
    return Contracts(
        expiry_index=np.repeat(np.arange(counts.size), 2 * counts),
        strike_usd=strike_usd,
        is_call=np.arange(strike_usd.size) % 2 == 0,
        forward_usd_by_expiry=forward_usd,
        years_by_expiry=expiry_years,
    )


def _table(ts_us: int, ccy: str, expiry_us: np.ndarray, contracts: Contracts, made: Quotes) -> pa.Table:
    rows = contracts.strike_usd.size
    stamp = pa.timestamp("us", tz="UTC")
    index_names = pa.array([_index_name(ccy, expiry) for expiry in expiry_us.tolist()])
    call_put = pa.array(["P", "C"])
    return pa.table(
        {
            "ts": pa.array(np.full(rows, ts_us), type=stamp),
            "ccy": pa.repeat(ccy, rows),
            "expiry": pa.array(expiry_us[contracts.expiry_index], type=stamp),
            "strike": pa.array(contracts.strike_usd),
            "cp": call_put.take(pa.array(contracts.is_call.astype(np.int32))),
            "bid": pa.array(made.bid, from_pandas=True),
            "ask": pa.array(made.ask, from_pandas=True),
            "underlying": pa.array(made.underlying_usd),
            "underlying_index": index_names.take(pa.array(contracts.expiry_index)),
        }
    )


def _index_name(ccy: str, expiry_us: int) -> str:
    """Listed futures exist for monthly and quarterly expiries; the others have a synthetic forward."""
    option = InverseOption(base=ccy, expiry_us=expiry_us, strike_usd=1.0, is_call=True)
    future = option.name.rsplit("-", 2)[0]
    return future if expiry_kind(expiry_us) in ("monthly", "quarterly") else f"SYN.{future}"


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
