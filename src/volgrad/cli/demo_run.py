"""What `volgrad demo` does, without terminal, files or clock: simulate, read, fit, compare with the truth.

Every simulated chain goes the way of a user's file: quote table -> `read_quotes` -> `build` -> `fit_chains`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax.monitoring
import numpy as np
from jaxtyping import Float64

from volgrad.data import build, read_quotes
from volgrad.errors import FitError
from volgrad.market.chain import Chain
from volgrad.simulate.comparison import TruthError, truth_error
from volgrad.simulate.market import SimulatedChain, simulate
from volgrad.tasks.fit import FitOptions, fit_chain, fit_chains
from volgrad.tasks.fitted import FittedChain

__all__ = ["STAGES", "Look", "Middles", "Rehearsal", "count_compilations", "follow", "plan", "rehearse", "table"]

STAGES = ("before", "at", "after")  # the volatility shock
# How many chains to plan: a ladder, so that runs of much the same pace follow the same market.
_LADDER = (6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 336)
_FEWEST = _LADDER[0]
_COLD_FITS = 6  # chains that are also fitted without a start, spread over the run
_MARGIN = 1.3  # what a chain may take over its rehearsal (assumption)
_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass(frozen=True)
class Rehearsal:
    """A chain of the calm market and one of the shocked, each fitted cold and warm before anything is timed.

    Attributes:
        pace_s: seconds a chain takes, from quote table to comparison, everything compiled.
        compile_s: seconds of the rehearsal over what it would have taken at that pace.
    """

    pace_s: float
    compile_s: float


@dataclass(frozen=True)
class Look:
    """One chain of the demo.

    Attributes:
        number: from 0.
        stage: one of `STAGES`.
        simulated: the quote table and the truth behind it.
        fitted: what came of it.
        error: the fitted surface against the truth; None where the fit was refused.
        middle: the raw middles of bid and ask against the truth, at the same points.
        seconds: from quote table to comparison.
        cold_ms: milliseconds of the same fit without a start from the chain before, certificate included; None
            where that was not tried, or compiled something.
        compiled: whether something was compiled on the way, so that the times say little.
    """

    number: int
    stage: str
    simulated: SimulatedChain
    fitted: FittedChain
    error: TruthError | None
    middle: TruthError
    seconds: float
    cold_ms: float | None
    compiled: bool

    @property
    def fit_ms(self) -> float:
        """Milliseconds of fit and certificate."""
        return self.fitted.fit_ms + self.fitted.certificate_ms


class Middles:
    """The middles of the quotes' volatilities, joined by straight lines in log-moneyness: no model at all."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def total_variance(
        self, log_moneyness: Float64[np.ndarray, " points"], expiry_years: Float64[np.ndarray, " points"]
    ) -> Float64[np.ndarray, " points"]:
        """Total variance at expiries of the chain; NaN at any other, and beyond the outermost quotes."""
        chain, found = self._chain, np.full(np.shape(log_moneyness), np.nan)
        for index, years in enumerate(chain.expiry_years):
            rows, asked = chain.rows(index), expiry_years == years
            if rows.stop > rows.start and asked.any():
                k, iv = chain.log_moneyness[rows], chain.mid_iv[rows]
                found[asked] = np.interp(log_moneyness[asked], k, iv, left=np.nan, right=np.nan) ** 2 * years
        return found


@contextmanager
def count_compilations() -> Iterator[Callable[[], int]]:
    """How many programs JAX has compiled (or loaded compiled) since the block was entered."""
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: len(seen)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def rehearse(seed: int, clock: Callable[[], float]) -> Rehearsal:
    """Compile what the demo needs and find its pace."""
    pair = list(simulate(seed, 2))  # the second is the first after the shock
    began = clock()
    for simulated in pair:
        chain = _read(simulated)
        fitted = fit_chain(chain, before=fit_chain(chain))
        _compare(fitted, simulated)
    middle = clock()
    for simulated in pair:
        fitted = fit_chain(_read(simulated), before=fitted)
        _compare(fitted, simulated)
    pace_s = 0.5 * (clock() - middle)
    return Rehearsal(pace_s, max(middle - began - 4.0 * pace_s, 0.0))


def plan(seconds: float, pace_s: float) -> int:
    """How many chains to simulate for `seconds` of fitting.

    >>> plan(20.0, 0.1), plan(0.1, 5.0)
    (128, 6)
    """
    affordable = seconds / (_MARGIN * pace_s) - _COLD_FITS
    return max((count for count in _LADDER if count <= affordable), default=_FEWEST)


def follow(
    seed: int, chains: int, deadline_s: float, clock: Callable[[], float], compilations: Callable[[], int]
) -> Iterator[Look]:
    """Fit chain after chain, each from the surface before it, and compare each with the truth.

    Args:
        seed: of the market.
        chains: how many to simulate; the shock comes at number `chains // 2`.
        deadline_s: time of `clock` after which no chain is begun (the first few are in any case).
        clock: seconds, monotonic.
        compilations: how many programs were compiled so far.

    Raises:
        FitError: the quotes of a chain could not be used.
    """
    arrived: list[tuple[SimulatedChain, float, int]] = []

    def arriving() -> Iterator[Chain]:
        for number, simulated in enumerate(simulate(seed, chains)):
            if number >= _FEWEST and clock() > deadline_s:
                return
            arrived.append((simulated, clock(), compilations()))
            yield _read(simulated)

    for number, fitted in enumerate(fit_chains(arriving(), FitOptions(warm=True))):
        simulated, began, compiled_before = arrived.pop()
        error, middle = _compare(fitted, simulated)
        seconds, compiled = clock() - began, compilations() > compiled_before
        cold_ms = _cold_ms(fitted.chain, compilations) if number % max(chains // _COLD_FITS, 1) == 0 else None
        stage = STAGES[(number >= chains // 2) + (number > chains // 2)]
        yield Look(number, stage, simulated, fitted, error, middle, seconds, cold_ms, compiled)


def table(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """One row a stage that was reached and one for all: errors (root mean square over chains) and counts."""
    rows = []
    for stage in (*STAGES, "all"):
        of_stage = [look for look in looks if stage in ("all", look.stage)]
        errors = [look.error for look in of_stage if look.error is not None]
        fitted = [look.fitted for look in of_stage if look.fitted.surface is not None]
        if of_stage:
            rows.append(
                {
                    "stage": stage,
                    "chains": len(of_stage),
                    "refused": len(of_stage) - len(fitted),
                    "rmse_vol_points": _root_mean_square([error.rmse for error in errors]),
                    "atm_rmse_vol_points": _root_mean_square([error.atm_rmse for error in errors]),
                    "mid_rmse_vol_points": _root_mean_square([look.middle.rmse for look in of_stage]),
                    "mid_atm_rmse_vol_points": _root_mean_square([look.middle.atm_rmse for look in of_stage]),
                    "inside": float(np.mean([one.inside for one in fitted])) if fitted else float("nan"),
                    "clean": sum(one.certificate is not None and one.certificate.clean for one in fitted),
                }
            )
    return rows


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else float("nan")


def _read(simulated: SimulatedChain) -> Chain:
    """The chain of a quote table, by the way of a user's files."""
    built = build(read_quotes(simulated.quotes))
    if not built.chains:
        raise FitError(f"simulated chain of {simulated.ccy}: {built.refused[0].why}")
    return built.chains[0]


def _compare(fitted: FittedChain, simulated: SimulatedChain) -> tuple[TruthError | None, TruthError]:
    chain, truth = fitted.chain, simulated.truth
    error = None if fitted.surface is None else truth_error(fitted.surface, truth, chain)
    return error, truth_error(Middles(chain), truth, chain)


def _cold_ms(chain: Chain, compilations: Callable[[], int]) -> float | None:
    before = compilations()
    fitted = fit_chain(chain)
    return None if compilations() > before else fitted.fit_ms + fitted.certificate_ms
