"""What `volgrad demo` does, without terminal, files or clock: simulate, read, fit, compare with the truth.

Every simulated chain goes the way of a user's file: quote table -> `read_quotes` -> `build` -> `Fitter`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from volgrad.data import build, read_quotes
from volgrad.errors import FitError
from volgrad.market.chain import Chain
from volgrad.simulate.comparison import TruthError, truth_error
from volgrad.simulate.market import SimulatedChain, simulate
from volgrad.tasks.fit import Fitter
from volgrad.tasks.fitted import FittedChain

__all__ = ["STAGES", "Look", "Middles", "follow", "plan", "rehearse", "table"]

STAGES = ("before", "at", "after")  # the volatility shock
CHAINS_A_SECOND = 8
_PARTS = 6  # of the run; the chain that begins each is fitted in any case, and once more without a start
_LONGEST_REHEARSAL_S, _REHEARSED, _EVERY = 20.0, 4, 3


@dataclass(frozen=True)
class Look:
    """One chain of the demo.

    Attributes:
        number: of the simulated chain, from 0.
        stage: one of `STAGES`.
        simulated: the quote table and the truth behind it.
        fitted: what came of it.
        error: the fitted surface against the truth; None where the fit was refused.
        middle: the raw middles of bid and ask against the truth, at the same points.
        cold_ms: milliseconds of fit and certificate without a start from the chain before; None where that
            was not tried, or compiled something.
        compiled: whether something was compiled on the way, so that the times say little.
    """

    number: int
    stage: str
    simulated: SimulatedChain
    fitted: FittedChain
    error: TruthError | None
    middle: TruthError
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


def rehearse(seed: int, chains: int, fitter: Fitter, clock: Callable[[], float]) -> None:
    """Compile what the demo needs before anything is timed: fit a few chains of its market, small to large.

    They are fitted under another name, so that the demo does not start from them. What a slow machine cannot
    compile in time is left for the demo itself.
    """
    began = clock()
    some = [simulated for number, simulated in enumerate(simulate(seed, chains)) if number % _EVERY == 0]
    read = sorted(((_read(simulated), simulated) for simulated in some), key=lambda pair: pair[0].n_rows)
    for place in np.linspace(0, len(read) - 1, _REHEARSED).astype(int):
        chain, simulated = read[place]
        _compare(fitter.fit(replace(chain, split="rehearsal")), simulated)
        if clock() - began > _LONGEST_REHEARSAL_S:
            return


def plan(seconds: float) -> int:
    """How many chains to simulate for at most `seconds` of fitting.

    >>> plan(20.0), plan(0.1)
    (162, 12)
    """
    return _PARTS * max(round(CHAINS_A_SECOND * seconds / _PARTS), 2)


def follow(seed: int, chains: int, fitter: Fitter, seconds: float, clock: Callable[[], float]) -> Iterator[Look]:
    """Fit chain after chain, each from the surface before it, and compare each with the truth.

    The market is the same however fast the machine: one that falls behind skips chains, but never the shock.

    Args:
        seed: of the market.
        chains: how many to simulate, as `plan` says; the shock comes at number `chains // 2`.
        fitter: with the option `warm`.
        seconds: how long the whole run may take.
        clock: seconds, monotonic.

    Raises:
        FitError: the quotes of a chain could not be used.
    """
    began, shock = clock(), chains // 2
    for number, simulated in enumerate(simulate(seed, chains)):
        milestone = number % (chains // _PARTS) == 0
        late = clock() - began > seconds * (number + 1) / chains
        if late and not milestone and number not in (1, shock + 1, chains - 1):
            continue
        compiled_s = fitter.compile_seconds
        fitted = fitter.fit(_read(simulated))
        error, middle = _compare(fitted, simulated)
        compiled = fitter.compile_seconds > compiled_s
        cold_ms = _cold_ms(fitted.chain, fitter) if milestone else None
        stage = STAGES[(number >= shock) + (number > shock)]
        yield Look(number, stage, simulated, fitted, error, middle, cold_ms, compiled)


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


def _cold_ms(chain: Chain, fitter: Fitter) -> float | None:
    """A name that the fitter has not met has no chain before it to start from."""
    compiled_s = fitter.compile_seconds
    fitted = fitter.fit(replace(chain, split=f"cold {chain.ts_us}"))
    return None if fitter.compile_seconds > compiled_s else fitted.fit_ms + fitted.certificate_ms
