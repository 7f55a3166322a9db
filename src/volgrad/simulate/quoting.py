"""How market makers quote a known truth: spreads, noise, ticks, missing sides and a few dirty rows."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.simulate.listing import ask_on_tick, bid_on_tick
from volgrad.simulate.truth import SQRT_2PI, TrueSurface, mills_ratio

# Half-spread in coin before rounding = SMALL * premium^POWER + WIDE * vega * (1 + LONGER * years): fitted to
# the medians of recorded BTC months by delta and tenor.
SMALL, POWER, WIDE, LONGER = 4.4e-4, 0.30, 5.5e-4, 1.6
CHAIN_SPREAD, EXPIRY_SPREAD, ROW_SPREAD = 0.10, 0.20, 0.45  # log standard deviations
EXPIRY_NOISE, ROW_NOISE = 0.25, 0.45  # mid error in half-spreads; the mark's is 0.3-0.45 (measured)
STRAY_SHARE, STRAY_NOISE = 0.06, 1.6  # rows whose mid is far off
DEEP_SPREAD = 50e-4  # coin added to a half-spread by an option deep in the money
STUB_SHARE, STUB_SPREAD = 0.7, (0.05, 0.2)  # of the deepest and longest: quoted only to be quoted (measured)
STRESS_SPREAD = 1.2  # extra spread at stress 1 (assumption)


class RowKind(enum.IntEnum):
    """What was done to a row: the truth for tests of cleaning."""

    NORMAL = 0
    CROSSED = 1  # bid above ask
    LOCKED = 2  # bid equals ask
    STALE = 3  # quoted on an old forward
    JOKE = 4  # an ask of one coin


@dataclass(frozen=True)
class Quirks:
    """Shares of rows with each defect (the exchange's snapshots hold none of the first two)."""

    crossed: float = 0.001
    locked: float = 0.001
    stale: float = 0.004
    joke: float = 0.002

    def draw(self, uniform: Float[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
        """The kind of each row, from one uniform number a row."""
        edges = np.cumsum([self.crossed, self.locked, self.stale, self.joke])
        kinds = np.array([RowKind.CROSSED, RowKind.LOCKED, RowKind.STALE, RowKind.JOKE, RowKind.NORMAL])
        return kinds[np.searchsorted(edges, uniform, side="right")]


class Contracts(NamedTuple):
    """The listed options, one row each, in table order. Shapes: "rows", `*_expiry` "expiries"."""

    expiry_index: Int[np.ndarray, "rows"]
    strike_usd: Float[np.ndarray, "rows"]
    is_call: Bool[np.ndarray, "rows"]
    forward_usd_by_expiry: Float[np.ndarray, "expiries"]
    years_by_expiry: Float[np.ndarray, "expiries"]


class Quotes(NamedTuple):
    """Bid and ask in coin (NaN = missing), the forward shown with each row, and the row's kind."""

    bid: Float[np.ndarray, "rows"]
    ask: Float[np.ndarray, "rows"]
    underlying_usd: Float[np.ndarray, "rows"]
    kind: Int[np.ndarray, "rows"]


def make_quotes(
    contracts: Contracts,
    truth: TrueSurface,
    stress: float,
    quirks: Quirks,
    random: np.random.Generator,
    spread: float = 1.0,
) -> Quotes:
    """Quote every listed option around its true premium; `spread` multiplies the half-spreads."""
    rows = contracts.strike_usd.size
    kind = quirks.draw(random.random(rows))
    forward = contracts.forward_usd_by_expiry[contracts.expiry_index]
    underlying = forward * _forward_drift(contracts, kind, random)
    # A stale row is priced on its old forward; the small drifts of the others only show in `underlying`.
    log_moneyness = np.log(contracts.strike_usd / np.where(kind == RowKind.STALE, underlying, forward))
    years = contracts.years_by_expiry[contracts.expiry_index]
    otm, deviation = truth.price_and_deviation(log_moneyness, years)
    intrinsic = np.maximum(np.where(contracts.is_call, -1.0, 1.0) * np.expm1(log_moneyness), 0.0)
    d1 = 0.5 * deviation - log_moneyness / deviation
    density = np.exp(-0.5 * d1 * d1) / SQRT_2PI
    vega = density * np.sqrt(years)
    # 0 at the money, 1 far in: 2 N(|d1|) - 1
    depth = np.where(intrinsic > 0.0, 1.0 - 2.0 * density * mills_ratio(np.abs(d1)), 0.0)

    half = SMALL * otm**POWER + WIDE * (1.0 + LONGER * years) * vega
    taste = _layered(contracts, random, EXPIRY_SPREAD, ROW_SPREAD) + CHAIN_SPREAD * random.standard_normal()
    half *= spread * (1.0 + STRESS_SPREAD * stress) * np.exp(taste)
    noise = _layered(contracts, random, EXPIRY_NOISE, ROW_NOISE)
    noise += STRAY_NOISE * random.standard_normal(rows) * (random.random(rows) < STRAY_SHARE)
    middle = otm + intrinsic + noise * half
    half += DEEP_SPREAD * depth**2 * np.exp(0.8 * random.standard_normal(rows))
    stub = random.random(rows) < STUB_SHARE * depth**6 * np.minimum(years / 0.3, 1.0)
    half += np.where(stub, random.uniform(*STUB_SPREAD, rows), 0.0)
    bid, ask = bid_on_tick(middle - half), ask_on_tick(middle + half)
    return _with_defects(bid, ask, depth, underlying, kind, stress, random)


def _layered(contracts: Contracts, random: np.random.Generator, by_expiry: float, by_row: float) -> np.ndarray:
    """Normal noise with a part that the rows of an expiry share."""
    shared = by_expiry * random.standard_normal(contracts.years_by_expiry.size)
    return shared[contracts.expiry_index] + by_row * random.standard_normal(contracts.strike_usd.size)


def _forward_drift(contracts: Contracts, kind: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Factor on the forward that each row shows.

    In 39 % of the expiries about a quarter of the rows were read at another instant; their distance is
    lognormal, median 0.3 bp, 99 % 4 bp (measured). Stale rows are 5 to 25 bp off.
    """
    rows = contracts.strike_usd.size
    restless = (random.random(contracts.years_by_expiry.size) < 0.39)[contracts.expiry_index]
    moved = restless & (random.random(rows) < 0.25)
    sign = np.where(random.random(rows) < 0.5, -1.0, 1.0)
    small = 0.3e-4 * np.exp(1.1 * random.standard_normal(rows))
    stale = random.uniform(5e-4, 25e-4, rows)
    return 1.0 + sign * np.where(kind == RowKind.STALE, stale, np.where(moved, small, 0.0))


def _with_defects(
    bid: np.ndarray,
    ask: np.ndarray,
    depth: np.ndarray,
    underlying_usd: np.ndarray,
    kind: np.ndarray,
    stress: float,
    random: np.random.Generator,
) -> Quotes:
    """Drop sides and spoil the rows that were drawn for it."""
    rows = bid.size
    # Out of the money a side is rarely absent; deep in the money 1-8 % are (measured). Stress adds some.
    absent = 0.001 + 0.03 * depth**4 + 0.02 * min(stress, 1.0)
    bid = np.where((bid <= 0.0) | (random.random(rows) < absent), np.nan, bid)
    ask = np.where(random.random(rows) < absent, np.nan, ask)
    crossed, locked = kind == RowKind.CROSSED, kind == RowKind.LOCKED
    bid, ask = np.where(crossed, ask, bid), np.where(crossed, bid, np.where(locked, bid, ask))
    ask = np.where(kind == RowKind.JOKE, 1.0, ask)
    one_sided = np.isnan(bid) | np.isnan(ask)
    kind = np.where((crossed | locked) & one_sided, RowKind.NORMAL, kind)
    return Quotes(bid, ask, underlying_usd, kind)
