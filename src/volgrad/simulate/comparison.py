"""How far a fitted surface is from the truth."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from volgrad.market.chain import Chain


class TotalVariance(Protocol):
    """Anything that says its total variance: a fitted surface, or the truth."""

    def total_variance(self, log_moneyness: np.ndarray, expiry_years: np.ndarray) -> np.ndarray:
        """Total implied variance at ln(K/F) and expiry in years (broadcast)."""
        ...


@dataclass(frozen=True)
class TruthError:
    """Distance from the truth in volatility points (0.01 of implied volatility).

    `rmse` and `largest` are over the `points` quotes near enough to the money, `atm_rmse` over the expiries
    at k = 0. `unanswered` counts the points where the surface gave no finite volatility; the three figures
    are over the others, NaN where there are none.
    """

    rmse: float
    largest: float
    atm_rmse: float
    points: int
    unanswered: int


def truth_error(surface: TotalVariance, truth: TotalVariance, chain: Chain, reach: float = 2.5) -> TruthError:
    """Compare a fitted surface with the truth where the chain has quotes.

    Args:
        surface: the fitted surface.
        truth: the true surface of the same chain.
        chain: the cleaned chain that was fitted; its rows say where to look.
        reach: how far from the money, in ATM standard deviations of the truth.
    """
    years = chain.expiry_years[chain.expiry_index]
    atm_deviation = np.sqrt(truth.total_variance(np.zeros_like(chain.expiry_years), chain.expiry_years))
    near = np.abs(chain.log_moneyness) <= reach * atm_deviation[chain.expiry_index]
    quoted = _vol_points_apart(surface, truth, chain.log_moneyness[near], years[near])
    atm = _vol_points_apart(surface, truth, np.zeros_like(chain.expiry_years), chain.expiry_years)
    answered, atm_answered = quoted[np.isfinite(quoted)], atm[np.isfinite(atm)]
    return TruthError(
        rmse=_root_mean_square(answered),
        largest=float(np.max(np.abs(answered))) if answered.size else float("nan"),
        atm_rmse=_root_mean_square(atm_answered),
        points=int(quoted.size),
        unanswered=int(quoted.size - answered.size + atm.size - atm_answered.size),
    )


def _vol_points_apart(
    surface: TotalVariance, truth: TotalVariance, log_moneyness: np.ndarray, expiry_years: np.ndarray
) -> np.ndarray:
    fitted = np.asarray(surface.total_variance(log_moneyness, expiry_years), dtype=np.float64)
    fitted = np.sqrt(np.where(fitted >= 0.0, fitted, np.nan) / expiry_years)
    return 100.0 * (fitted - np.sqrt(truth.total_variance(log_moneyness, expiry_years) / expiry_years))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
