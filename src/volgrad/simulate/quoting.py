"""How market makers quote a known truth: spreads, errors that last, ticks, sizes, missing sides, a few bad rows."""

import enum
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from volgrad.simulate.listing import ask_on_tick, bid_on_tick
from volgrad.simulate.pricing import Priced
from volgrad.simulate.refresh import PROCESSES

__all__ = ["DIRTY", "NO_QUIRKS", "REAL", "Around", "Quirks", "RowKind", "half_spread", "make_quotes", "settle"]

# Half-spread in coin before rounding = SMALL * premium^POWER + WIDE * vega * (1 + LONGER * years): fitted to
# the medians of recorded BTC months by delta and tenor.
SMALL, POWER, WIDE, LONGER = 4.4e-4, 0.30, 5.5e-4, 1.6
ROW_SPREAD, FRESH_SPREAD = 0.35, 0.12  # log standard deviations; the expiry's is in `shared`, the chain's `liquidity`
# Errors of the middle in half-spreads: the row's own (passing and lasting), and new with each refresh (near the errors
# against the exchange's mark and their correlations over 5 minutes to 4 hours, measured; see docs/simulator.md).
ROW_ERROR, LASTING_ERROR, FRESH_ERROR = 0.22, 0.15, 0.30
# Half-spreads by which a standing price may be off before it is replaced: with it 58 to 66 % stand after 5 minutes
# (measured on the days of 2023: 58 to 62 %).
STICKY = 0.22
STRAY_SHARE, STRAY_FACTOR = 0.06, 7.0  # rows whose own error is so many times as large
DEEP_SPREAD = 65e-4  # coin added to a half-spread by an option deep in the money
STUB_SHARE, STUB_SPREAD = 0.7, (0.05, 0.2)  # of the deepest and longest: quoted only to be quoted (measured)
STRESS_SPREAD = 1.2  # extra spread at stress 1 (assumption)
# Out of the money a side is rarely absent; deep in the money 1-8 % are (measured). Stress adds some (assumption).
ABSENT, ABSENT_DEEP, ABSENT_STRESS = 0.001, 0.03, 0.02
SIZE_SPREAD, SIZE_STEP = 1.1, 0.4  # log standard deviation (measured); steps in which it moves (assumption)

_CHANCES = np.concatenate([[1e-9], np.geomspace(1e-4, 0.5, 60), np.linspace(0.51, 0.999, 50)])
_QUANTILES = np.array([NormalDist().inv_cdf(chance) for chance in _CHANCES])


class RowKind(enum.IntEnum):
    """What was done to a row: the truth for tests of cleaning."""

    NORMAL = 0
    CROSSED = 1  # bid above ask
    LOCKED = 2  # bid equals ask
    STALE = 3  # quoted on an old forward
    JOKE = 4  # an ask of one coin, or of more where it was more


@dataclass(frozen=True)
class Quirks:
    """Shares of refreshed rows with each defect (the exchange's snapshots hold none of the first two)."""

    crossed: float = 0.001
    locked: float = 0.001
    stale: float = 0.004
    joke: float = 0.002

    def draw(self, uniform: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """The kind of each row, from one uniform number a row."""
        edges = np.cumsum([self.crossed, self.locked, self.stale, self.joke])
        kinds = np.array([RowKind.CROSSED, RowKind.LOCKED, RowKind.STALE, RowKind.JOKE, RowKind.NORMAL])
        return kinds[np.searchsorted(edges, uniform, side="right")]


NO_QUIRKS = Quirks(0.0, 0.0, 0.0, 0.0)
#: As recorded: no crossed or locked quote, and old forwards and jokes now and then.
REAL = Quirks(crossed=0.0, locked=0.0, stale=0.0003, joke=0.0005)
#: For tests of cleaning.
DIRTY = Quirks(crossed=0.01, locked=0.01, stale=0.02, joke=0.01)


class Around(NamedTuple):
    """What surrounds each row: shared errors (in half-spreads) and log spreads, stress, years, the usual size."""

    error: Float[np.ndarray, " rows"]
    log_spread: Float[np.ndarray, " rows"]
    stress: Float[np.ndarray, " rows"]
    years: Float[np.ndarray, " rows"]
    size_coin: float


def half_spread(truth: Priced, years: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """The usual half-spread in coin of the out-of-the-money option: wider with vega, premium and life."""
    return SMALL * np.exp(POWER * truth.log_otm) + WIDE * (1.0 + LONGER * years) * truth.vega


def depth(truth: Priced) -> Float[np.ndarray, " rows"]:
    """How deep in the money: 0 at the money and out of it, 1 far in."""
    return np.where(truth.intrinsic > 0.0, np.maximum(2.0 * truth.exercised - 1.0, 0.0), 0.0)


def make_quotes(
    truth: Priced,
    around: Around,
    moods: Float[np.ndarray, "rows processes"],
    quirks: Quirks,
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Quote options around their true premiums.

    Args:
        truth: of each row.
        around: what the row shares with others.
        moods: the row's own processes (`PROCESSES` in order).
        quirks: shares of bad rows.
        random: where chance comes from.

    Returns:
        `bid` and `ask` in coin (NaN = missing), `slack` in coin (see `settle`), `bid_size`, `ask_size` in
        coin (0 = missing), `kind`, and `drift`: logarithm of the forward that the row is quoted on over the
        true one.
    """
    own = dict(zip(PROCESSES, moods.T, strict=True))
    rows, deep = truth.otm.size, depth(truth)
    kind = quirks.draw(random.random(rows))
    fresh = random.standard_normal((2, rows))
    taste = around.log_spread + ROW_SPREAD * own["spread"] + FRESH_SPREAD * fresh[0]
    half = half_spread(truth, around.years) * (1.0 + STRESS_SPREAD * around.stress) * np.exp(taste)
    factor = np.where(np.abs(own["stray"]) > _quantile(1.0 - 0.5 * STRAY_SHARE), STRAY_FACTOR, 1.0)
    error = around.error + factor * ROW_ERROR * own["error"] + LASTING_ERROR * own["lasting_error"]
    middle = truth.otm + truth.intrinsic + (error + FRESH_ERROR * fresh[1]) * half
    drift = np.where(kind == RowKind.STALE, _old_forward(random, kind), 0.0)
    middle += truth.net_delta * drift
    half += DEEP_SPREAD * deep**2 * np.exp(0.8 * own["deep"])
    stub = own["stub"] < _quantile(STUB_SHARE * deep**6 * np.minimum(around.years / 0.3, 1.0))
    half += np.where(stub, STUB_SPREAD[0] + (STUB_SPREAD[1] - STUB_SPREAD[0]) * _uniform(own["deep"]), 0.0)
    bid, ask = middle - half, middle + half
    absent = _quantile(ABSENT + ABSENT_DEEP * deep**4 + ABSENT_STRESS * np.minimum(around.stress, 1.0))
    bid = np.where((bid_on_tick(bid) <= 0.0) | (own["no_bid"] < absent), np.nan, bid)
    ask = np.where(own["no_ask"] < absent, np.nan, ask)
    bid_size, ask_size = (
        np.where(np.isnan(quote), 0.0, _size(truth, around.size_coin, own[name]))
        for quote, name in ((bid, "bid_size"), (ask, "ask_size"))
    )
    made = {"bid": bid, "ask": ask, "bid_size": bid_size, "ask_size": ask_size, "kind": kind, "drift": drift}
    return {**made, "slack": STICKY * half}


def settle(
    made: dict[str, np.ndarray],
    standing: dict[str, np.ndarray],
    row: Int[np.ndarray, " rows"],
    rounds: list[np.ndarray],
) -> dict[str, np.ndarray]:
    """Put prices on ticks, where a standing price that is still near enough stays, and spoil the bad rows.

    Args:
        made: of `make_quotes`: the prices that makers would like.
        standing: the quotes before, by option.
        row: option of each of `made`.
        rounds: places in `made`, in order of time, each round with any option at most once.
    """
    found = dict(made)
    slack = found.pop("slack")
    for name, on_tick in (("bid", bid_on_tick), ("ask", ask_on_tick)):
        new, low, high = (on_tick(made[name] + shift) for shift in (0.0, -slack, slack))
        known = standing[name].copy()
        for part in rounds:
            old = known[row[part]]
            stays = (low[part] <= old) & (old <= high[part])  # false for NaN, and so for a side that was missing
            known[row[part]] = new[part] = np.where(stays, old, new[part])
        found[name] = new
    found["bid"], found["ask"], found["kind"] = _with_defects(found["bid"], found["ask"], made["kind"])
    return found


def _old_forward(random: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """Stale rows stand on a forward 5 to 25 bp away."""
    sign = np.where(random.random(kind.size) < 0.5, -1.0, 1.0)
    return sign * random.uniform(5e-4, 25e-4, kind.size)


def _with_defects(bid: np.ndarray, ask: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spoil the rows that were drawn for it."""
    crossed, locked = kind == RowKind.CROSSED, kind == RowKind.LOCKED
    bid, ask = np.where(crossed, ask, bid), np.where(crossed, bid, np.where(locked, bid, ask))
    ask = np.where(kind == RowKind.JOKE, np.fmax(ask, 1.0), ask)
    one_sided = np.isnan(bid) | np.isnan(ask)
    return bid, ask, np.where((crossed | locked) & one_sided, RowKind.NORMAL, kind)


def _size(truth: Priced, size_coin: float, mood: np.ndarray) -> np.ndarray:
    """Amount of coin, larger for cheap options; it moves in steps, so that many refreshes leave it alone."""
    usual = size_coin * (1.0 + 2.0 * np.exp(-truth.exercised / 0.05))
    unit = 0.1 if size_coin < 50.0 else 1.0
    steps = SIZE_STEP * np.rint(mood / SIZE_STEP)
    return np.maximum(np.rint(usual * np.exp(SIZE_SPREAD * steps) / unit), 1.0) * unit


def _quantile(chance: Float[np.ndarray, " rows"] | float) -> np.ndarray:
    """Where a standard normal number lies below with this chance, to 1e-3 of the chance."""
    return np.asarray(np.interp(chance, _CHANCES, _QUANTILES))


def _uniform(normal: np.ndarray) -> np.ndarray:
    """Uniform numbers from normal ones (the logistic approximation of the distribution function)."""
    return 1.0 / (1.0 + np.exp(-1.702 * normal))
