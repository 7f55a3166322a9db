"""Chains of quotes made from a known volatility, and simulated ones."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from volgrad.data.chains import build_chains
from volgrad.data.read import read_quotes
from volgrad.market import black
from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement
from volgrad.simulate.market import BITCOIN, ETHER, SimulatedChain, simulate

TS_US = 1_767_604_650_000_000  # 2026-01-05 09:17:30 UTC
DAY_US = 86_400_000_000
FORWARD_USD = 90_000.0

Volatility = Callable[[np.ndarray, np.ndarray], np.ndarray]


def chain_of(
    vol: Volatility,
    days: Sequence[float],
    strikes: int = 9,
    half_spread: float = 0.01,
    reach: float = 1.8,
    ccy: str = "BTC",
) -> Chain:
    """A chain quoted at `vol(k, years)` give or take a half-spread, `strikes` an expiry within `reach` deviations."""
    years = np.asarray(days) / 365.0
    place = np.linspace(-reach, reach, strikes) if strikes > 1 else np.zeros(1)
    k = (0.6 * np.sqrt(years)[:, None] * place[None, :]).ravel()
    expiry = np.repeat(np.arange(years.size), strikes)
    middle = np.concatenate([vol(k[expiry == one], years[expiry[expiry == one]]) for one in range(years.size)])
    return chain_of_rows(years, expiry, k, np.maximum(middle - half_spread, 0.5 * middle), middle + half_spread, ccy)


def chain_of_rows(
    years: np.ndarray, expiry: np.ndarray, k: np.ndarray, bid_iv: np.ndarray, ask_iv: np.ndarray, ccy: str = "BTC"
) -> Chain:
    """A chain from rows, sorted by expiry and strike."""
    strike = FORWARD_USD * np.exp(k)
    k = np.log(strike / FORWARD_USD)
    is_call = k >= 0.0
    bid, ask = (np.asarray(black.price(k, iv * np.sqrt(years[expiry]), is_call)) for iv in (bid_iv, ask_iv))
    return Chain(
        ts_us=TS_US,
        ccy=ccy,
        split=None,
        settlement=Settlement.INVERSE,
        expiry_us=TS_US + np.rint(years * 365.0 * DAY_US).astype(np.int64),
        expiry_years=years,
        forward_usd=np.full(years.size, FORWARD_USD),
        expiry_index=expiry.astype(np.int32),
        strike_usd=strike,
        log_moneyness=k,
        is_call=is_call,
        bid=bid,
        ask=ask,
        bid_iv=bid_iv,
        ask_iv=ask_iv,
    )


@cache
def simulated(seed: int = 1, count: int = 2, ccy: str = "BTC") -> tuple[SimulatedChain, ...]:
    """Simulated chains with their truth."""
    return tuple(simulate(seed, count, BITCOIN if ccy == "BTC" else ETHER))


@cache
def simulated_chains(seed: int = 1, count: int = 2, ccy: str = "BTC") -> tuple[Chain, ...]:
    """The same, read and cleaned as a user's file would be."""
    return tuple(build_chains(read_quotes([one.quotes for one in simulated(seed, count, ccy)])))
