"""What happens to a simulated market at moments of its own: switches of regime, and jumps.

Both live in continuous time and draw from streams of their own, so that one seed has the same switches and the
same jumps at every cadence. Three regimes follow a Markov chain; jumps come at Poisson times, at the
regime's rate, and move spot and volatility together. The rates and sizes are assumptions, chosen so that the
kurtosis of returns and of volatility changes comes near the recorded months' (docs/simulator.md).
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from volgrad.simulate.listing import DAY_US

__all__ = ["LAWS", "Happenings", "Jump", "Mood", "RegimeLaw", "Switch"]


class Mood(enum.IntEnum):
    """The regime that the market is in."""

    CALM = 0
    NERVOUS = 1
    STRESSED = 2


@dataclass(frozen=True)
class RegimeLaw:
    """How the market behaves in one regime.

    Attributes:
        mean_days: mean time until the regime ends.
        following: probability of each regime to follow.
        fast, short, skew: where these factors drift to (see `volgrad.simulate.path`).
        liquidity: where the logarithm of all spreads drifts to.
        agitation: multiplies the volatility of the volatility factors.
        jumps_a_day: mean number of jumps.
    """

    mean_days: float
    following: tuple[float, float, float]
    fast: float
    short: float
    skew: float
    liquidity: float
    agitation: float
    jumps_a_day: float


LAWS = (
    RegimeLaw(9.0, (0.0, 0.9, 0.1), 0.0, -0.04, -0.01, 0.0, 0.9, 0.12),
    RegimeLaw(2.5, (0.65, 0.0, 0.35), 0.08, 0.10, 0.02, 0.20, 1.2, 0.45),
    RegimeLaw(1.2, (0.2, 0.8, 0.0), 0.30, 0.30, 0.06, 0.55, 1.8, 1.6),
)
MOST_JUMPS_A_DAY = max(law.jumps_a_day for law in LAWS)

# A jump of size u: spot moves by JUMP_SPOT * u with sign -1 in JUMP_DOWN of the cases, stress by JUMP_STRESS * u and
# the fast factor by JUMP_FAST * u (both a third of that upwards); u is exponential with mean 1 (assumption).
JUMP_SPOT, JUMP_STRESS, JUMP_FAST = 0.015, 0.035, 0.050
JUMP_DOWN, UPWARD_SHARE, LARGEST_JUMP = 0.62, 1.0 / 3.0, 5.0


class Switch(NamedTuple):
    """The market enters a regime."""

    ts_us: int
    mood: Mood


class Jump(NamedTuple):
    """Spot's logarithm, the stress of volatility and its fast factor jump together."""

    ts_us: int
    spot: float
    stress: float
    fast: float


class Happenings:
    """Switches and jumps of one market in order of time, drawn as they are asked for.

    Args:
        stream: seed of the market's own streams.
        start_us: when it begins, calm.
        restless: without it nothing ever happens.

    >>> happenings = Happenings([1], 0)
    >>> switches, jumps = happenings.until(365 * DAY_US)
    >>> len(switches) > 50 and len(jumps) > 50
    True
    """

    def __init__(self, stream: list[int], start_us: int, restless: bool = True) -> None:
        self.mood = Mood.CALM
        self._switches = _switches(np.random.default_rng([*stream, 11]), start_us) if restless else iter(())
        self._jumps = _candidates(np.random.default_rng([*stream, 12]), start_us) if restless else iter(())
        self._next_switch = next(self._switches, None)
        self._next_jump = next(self._jumps, None)

    def until(self, ts_us: int) -> tuple[list[Switch], list[Jump]]:
        """What happens after the last call's time, up to this one (included)."""
        switches: list[Switch] = []
        jumps: list[Jump] = []
        while True:
            switch, jump = self._next_switch, self._next_jump
            if switch is not None and switch.ts_us <= ts_us and (jump is None or switch.ts_us <= jump[0].ts_us):
                self.mood = switch.mood
                switches.append(switch)
                self._next_switch = next(self._switches, None)
            elif jump is not None and jump[0].ts_us <= ts_us:
                # thinning (Lewis & Shedler 1979) [paper]
                if jump[1] * MOST_JUMPS_A_DAY < LAWS[self.mood].jumps_a_day:
                    jumps.append(jump[0])
                self._next_jump = next(self._jumps, None)
            else:
                return switches, jumps


def _switches(random: np.random.Generator, start_us: int) -> Iterator[Switch]:
    ts_us, mood = start_us, Mood.CALM
    while True:
        ts_us += 1 + int(random.exponential(LAWS[mood].mean_days) * DAY_US)
        mood = Mood(int(np.searchsorted(np.cumsum(LAWS[mood].following), random.random(), side="right")))
        yield Switch(ts_us, mood)


def _candidates(random: np.random.Generator, start_us: int) -> Iterator[tuple[Jump, float]]:
    """Jumps at the highest rate, each with the chance that decides whether it takes place."""
    ts_us = start_us
    while True:
        ts_us += 1 + int(random.exponential(1.0 / MOST_JUMPS_A_DAY) * DAY_US)
        size = min(random.exponential(), LARGEST_JUMP)
        down = random.random() < JUMP_DOWN
        felt = size if down else UPWARD_SHARE * size
        spot = JUMP_SPOT * size
        yield Jump(ts_us, -spot if down else spot, JUMP_STRESS * felt, JUMP_FAST * felt), random.random()
