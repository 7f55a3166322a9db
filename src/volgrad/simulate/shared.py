"""Errors and spreads that the quotes of a chain, or of one expiry, have in common."""

from math import exp, log, sqrt

import numpy as np
from jaxtyping import Float, Int

from volgrad.simulate.path import autoregress

__all__ = ["CHAIN_ERROR", "EXPIRY_ERROR", "EXPIRY_SPREAD", "HALF_LIVES_MINUTES", "SharedErrors"]

# Errors in half-spreads, log standard deviation of the spread: near the intraclass correlations of the errors against
# the mark, .04 to .07 in a chain and .10 to .18 in an expiry of it (measured, April 2023 and the months of 2026).
CHAIN_ERROR, EXPIRY_ERROR, EXPIRY_SPREAD = 0.10, 0.21, 0.28
# Assumptions, near what the correlations from chain to chain of the 5-minute days allow.
HALF_LIVES_MINUTES = {"chain_error": 10.0, "expiry_error": 30.0, "expiry_spread": 600.0}


class SharedErrors:
    """Ornstein-Uhlenbeck processes of the chain and of each listed expiry, all of variance 1."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._chain = float(random.standard_normal())
        self._of_expiry: dict[int, np.ndarray] = {}  # error and log spread

    def listed(self, expiry_us: Int[np.ndarray, " expiries"]) -> None:
        """From now on these expiries are listed; those known before go on."""
        known = self._of_expiry
        self._of_expiry = {
            expiry: known[expiry] if expiry in known else self._random.standard_normal(2)
            for expiry in expiry_us.tolist()
        }

    def run(
        self, ticks: int, every_us: int
    ) -> tuple[Float[np.ndarray, "ticks expiries"], Float[np.ndarray, "ticks expiries"]]:
        """Errors (in half-spreads) and log spreads at the next moments, chain and expiry together."""
        noise = self._random.standard_normal((ticks, 1 + 2 * len(self._of_expiry)))
        start = np.array(list(self._of_expiry.values()))
        chain = _run(self._chain, every_us, "chain_error", noise[:, 0])
        error = _run(start[:, 0], every_us, "expiry_error", noise[:, 1::2])
        spread = _run(start[:, 1], every_us, "expiry_spread", noise[:, 2::2])
        self._chain = float(chain[-1])
        self._of_expiry = dict(zip(self._of_expiry, np.stack([error[-1], spread[-1]], axis=1), strict=True))
        return CHAIN_ERROR * chain[:, None] + EXPIRY_ERROR * error, EXPIRY_SPREAD * spread


def _run(start: np.ndarray | float, every_us: int, name: str, noise: np.ndarray) -> np.ndarray:
    keep = exp(-log(2.0) * every_us / 60e6 / HALF_LIVES_MINUTES[name])
    return autoregress(start, keep, sqrt(1.0 - keep * keep) * noise)
