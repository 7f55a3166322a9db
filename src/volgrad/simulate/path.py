"""How a simulated market moves: spot, the volatility factors, skew, carry, stress and liquidity over time.

Every factor is an Ornstein-Uhlenbeck process that drifts to its regime's level; its transition density is used,
so a step may be of any length. Steps are of at most five minutes inside, whatever the cadence: within one,
spot's volatility is that at its beginning.
"""

from dataclasses import dataclass, replace
from math import ceil, exp, log, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from volgrad.market.instruments import YEAR_US
from volgrad.simulate.happenings import LAWS, Happenings, Jump, Switch
from volgrad.simulate.listing import DAY_US
from volgrad.simulate.surface import day_weight, ends

__all__ = ["FACTORS", "MarketPath", "MarketState", "Walk", "autoregress", "forwards"]

FINEST_STEPS_US = 300_000_000  # inside, no step is longer


class Factor(NamedTuple):
    """Half-life in days, volatility a square-root day, share of its noise that is spot's, and the common rest's."""

    half_life_days: float
    volatility: float
    with_spot: float
    with_others: float

    @property
    def stationary(self) -> float:
        """Its standard deviation in the long run."""
        return self.volatility * sqrt(self.half_life_days / (2.0 * log(2.0)))


# Daily volatilities of the ATM level at 7, 30, 90 and 180 days and its correlation with spot come near those of
# January and March 2026, BTC and ETH together (measured by benchmarks/simulator.py); half-lives are assumptions.
FACTORS = {
    "fast": Factor(1.5, 0.072, -0.50, 0.4),
    "short": Factor(8.0, 0.024, -0.60, 0.4),
    "long": Factor(60.0, 0.0085, -0.50, 0.4),
    "skew": Factor(3.0, 0.100, -0.35, 0.0),
    "carry": Factor(6.0, 0.013, 0.20, 0.0),
    "liquidity": Factor(0.03, 0.70, 0.0, 0.0),
    "activity": Factor(0.04, 2.4, 0.0, 0.0),
}
# Logarithm of spot's volatility within the hour against the day's: 5-minute returns have a kurtosis of 8 and more on
# the days of 2023, on which nothing jumped by much (measured; the size is an assumption). It leaves the mean variance.
ACTIVITY_VARIANCE = FACTORS["activity"].stationary ** 2
STRESS_HALF_LIFE_DAYS = 1.0  # assumption
DIFFUSED = 0.84  # of the short volatility; jumps and changes of regime bring the rest of what is realised
SHOCK_SPOT = -0.09  # logarithm of spot, for a shock of size 1
MARK_HALF_LIFE_DAYS = 2.0 / 1440.0  # 5-minute changes of the mark's ATM level correlate by 0.4 to 0.65 (measured)
LAGGED = ("fast", "short", "long", "stress")


@dataclass(frozen=True)
class MarketState:
    """Where a market stands at one moment; all dimensionless but for spot."""

    spot_usd: float
    fast: float = 0.0
    short: float = 0.0
    long: float = 0.0
    skew: float = 0.0
    carry: float = 0.0
    liquidity: float = 0.0
    activity: float = 0.0
    stress: float = 0.0


@dataclass(frozen=True)
class MarketPath:
    """The market at some moments in order: `MarketState` as arrays, and what the quotes need beside it.

    `lagged` holds the factors as the exchange's mark sees them, `variance` the sum of squared returns since
    the moment before, `mood` the regime. Shapes: "ticks".
    """

    ts_us: Int[np.ndarray, " ticks"]
    values: dict[str, Float[np.ndarray, " ticks"]]
    lagged: dict[str, Float[np.ndarray, " ticks"]]
    variance: Float[np.ndarray, " ticks"]
    mood: Int[np.ndarray, " ticks"]

    def state(self, tick: int) -> MarketState:
        """The market at one of the moments."""
        return MarketState(**{name: float(column[tick]) for name, column in self.values.items()})


class Walk:
    """A market on its way: `advance` takes it from moment to moment.

    Args:
        stream: seed of the market's own streams.
        state: where it begins.
        start_us: when.
        vols: the calm market's short and long volatility.
        restless: whether regimes switch and jumps come.
    """

    def __init__(
        self, stream: list[int], state: MarketState, start_us: int, vols: tuple[float, float], restless: bool
    ) -> None:
        self._random = np.random.default_rng([*stream, 0])
        self._happenings = Happenings(stream, start_us, restless)
        self._vols, self._ts_us, self._began = vols, start_us, False
        self._state = state
        self._lagged = {name: getattr(state, name) for name in LAGGED}
        self.switches: list[Switch] = []
        self.jumps: list[Jump] = []

    def struck(self, path: MarketPath, size: float) -> MarketPath:
        """The last of the moments just after a volatility shock from outside (1 is a crash of about 9 %)."""
        state = self._state
        self._state = replace(state, spot_usd=state.spot_usd * exp(SHOCK_SPOT * size), stress=state.stress + size)
        values = {name: np.append(column[:-1], getattr(self._state, name)) for name, column in path.values.items()}
        returns = np.append(path.variance[:-1], path.variance[-1] + (SHOCK_SPOT * size) ** 2)
        return replace(path, values=values, variance=returns)

    def advance(self, ts_us: Int[np.ndarray, " ticks"], every_us: int) -> MarketPath:
        """The market at moments `every_us` apart, the first of which is the next (or the very beginning).

        At the beginning the state is the given one; the moments before it have no return.
        """
        fine = ceil(every_us / FINEST_STEPS_US)
        begin = not self._began
        self._began = True
        steps = (ts_us.size - begin) * fine
        times = self._ts_us + (np.arange(1, steps + 1) * every_us) // fine
        values, variance, mood = self._steps(times, every_us / fine / DAY_US)
        keep = exp(-log(2.0) * every_us / fine / DAY_US / MARK_HALF_LIFE_DAYS)
        lagged = {name: _lag(self._lagged[name], getattr(self._state, name), values[name], keep) for name in LAGGED}
        at = slice(fine - 1, None, fine)
        start = {name: getattr(self._state, name) for name in values} if begin else {}
        path = MarketPath(
            ts_us=ts_us,
            values={name: _joined(start.get(name), column[at]) for name, column in values.items()},
            lagged={name: _joined(self._lagged[name] if begin else None, lag[at]) for name, lag in lagged.items()},
            variance=_joined(0.0 if begin else None, variance.reshape(-1, fine).sum(axis=1)),
            mood=_joined(0 if begin else None, mood[at]),
        )
        if steps:
            self._state = MarketState(**{name: float(column[-1]) for name, column in values.items()})
            self._lagged = {name: float(lag[-1]) for name, lag in lagged.items()}
            self._ts_us = int(times[-1])
        return path

    def _steps(self, times: np.ndarray, days: float) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Values after each inner step, the squared returns of spot, and the regimes."""
        mood, jumped = self._events(times)
        # drawn step by step, so that a path does not depend on how many steps are asked for at once
        noise = self._random.standard_normal((times.size, len(FACTORS) + 2)).T
        values: dict[str, np.ndarray] = {}
        for (name, factor), own in zip(FACTORS.items(), noise[2:], strict=True):
            rest = sqrt(1.0 - factor.with_spot**2 - factor.with_others**2)
            shock = factor.with_spot * noise[0] + factor.with_others * noise[1] + rest * own
            target = _targets(name, mood)
            agitation = _of_law("agitation", mood) if name in ("fast", "short", "long") else 1.0
            keep = 0.5 ** (days / factor.half_life_days)
            # standard deviation of the exact transition over `days`
            spread = factor.stationary * sqrt(1.0 - keep**2)
            pushed = (1.0 - keep) * target + spread * agitation * shock
            if name == "fast":
                pushed = pushed + jumped[2]
            values[name] = autoregress(getattr(self._state, name), keep, pushed)
        keep = 0.5 ** (days / STRESS_HALF_LIFE_DAYS)
        values["stress"] = autoregress(self._state.stress, keep, jumped[1])
        before = {name: np.append(getattr(self._state, name), column[:-1]) for name, column in values.items()}
        short, _, bump = ends(before, *self._vols)
        deviation = DIFFUSED * short * np.sqrt((1.0 + bump) * day_weight(times - 1) * days / 365.0)
        deviation *= np.exp(before["activity"] - ACTIVITY_VARIANCE)
        returns = deviation * noise[0] - 0.5 * deviation**2 + jumped[0]
        spot = self._state.spot_usd * np.exp(np.cumsum(returns))
        return {"spot_usd": spot, **values}, returns**2, mood

    def _events(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The regime after each step, and the jumps of spot, stress and the fast factor within it."""
        known = int(self._happenings.mood)
        mood = np.full(times.size, known)
        jumped = np.zeros((3, times.size))
        switches, jumps = self._happenings.until(int(times[-1])) if times.size else ([], [])
        for switch in switches:
            mood[np.searchsorted(times, switch.ts_us) :] = int(switch.mood)
        for jump in jumps:
            jumped[:, np.searchsorted(times, jump.ts_us)] += jump[1:]
        self.switches += switches
        self.jumps += jumps
        return mood, jumped


def autoregress(start: np.ndarray | float, keep: float, pushed: Float[np.ndarray, "steps ..."]) -> np.ndarray:
    """`x_n = keep x_(n-1) + pushed_n` from `x_0 = start`, for all steps at once.

    >>> autoregress(1.0, 0.5, np.array([0.0, 1.0])).tolist()
    [0.5, 1.25]
    """
    if keep <= 0.0:
        return pushed.copy()
    found = np.empty_like(pushed)
    most = max(int(20.0 / max(-log(keep), 1e-300)), 1) if keep < 1.0 else pushed.shape[0]
    for begin in range(0, pushed.shape[0], most):
        part = pushed[begin : begin + most]
        power = keep ** np.arange(1.0, part.shape[0] + 1.0).reshape((-1,) + (1,) * (part.ndim - 1))
        found[begin : begin + most] = power * (start + np.cumsum(part / power, axis=0))
        start = found[begin + part.shape[0] - 1]
    return found


def _lag(lagged: float, before: float, values: np.ndarray, keep: float) -> np.ndarray:
    """Exponential average of what moves in straight lines between the steps: exact for these."""
    mean = (1.0 - keep) / -log(keep)
    pushed = (mean - keep) * np.append(before, values[:-1]) + (1.0 - mean) * values
    return autoregress(lagged, keep, pushed)


def _of_law(name: str, mood: np.ndarray) -> np.ndarray:
    return np.array([getattr(law, name) for law in LAWS])[mood]


def _targets(name: str, mood: np.ndarray) -> np.ndarray | float:
    return _of_law(name, mood) if name in ("fast", "short", "skew", "liquidity") else 0.0


def _joined(first: float | None, column: np.ndarray) -> np.ndarray:
    return column if first is None else np.concatenate([np.asarray([first], column.dtype), column])


def forwards(path: MarketPath, expiry_us: Int[np.ndarray, " expiries"]) -> Float[np.ndarray, "ticks expiries"]:
    """Forwards on a carry curve of 5 % a year, more mobile at the short end; stress pushes it down."""
    years = (expiry_us - path.ts_us[:, None]) / YEAR_US
    near = (path.values["carry"] - 0.06 * path.values["stress"])[:, None]
    return path.values["spot_usd"][:, None] * np.exp((0.05 + near * np.exp(-years / 0.1)) * years)
