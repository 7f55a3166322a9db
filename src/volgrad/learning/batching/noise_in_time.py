"""Units in the order of time: their gradients rid of memory, for the noise scale of streamed batches.

Only inner products are known, and only they are needed: a filter A of the units takes their matrix G to `A G A'`.
"""

import math

import numpy as np
from jaxtyping import Float64

from volgrad.learning.batching.noise_intervals import squared_covariance

__all__ = ["between_units", "whitened"]

_LEAST_IN_TIME = 16
_MOST_LAGS = 16  # of an autoregression
_MOST_MEMORY = 0.97  # of autocorrelation at lag 1 (Andrews and Monahan 1992)
_TINY = float(np.finfo(np.float64).tiny)


def between_units(gram: Float64[np.ndarray, "units units"], apart: int) -> float:
    """Mean inner product of units that are more than `apart` units apart."""
    units, total, pairs = len(gram), float(gram.sum()), len(gram) ** 2
    for lag in range(apart + 1):
        sides = 1 if lag == 0 else 2
        total -= sides * float(np.trace(gram, lag))
        pairs -= sides * (units - lag)
    return total / pairs


def whitened(
    gram: Float64[np.ndarray, "units units"],
) -> tuple[Float64[np.ndarray, "left left"], float, float]:
    """Inner products of units rid of their memory, the inflation that remains, and |E g|^2; for units in time order.

    First an autoregression of units on those before, whose order Akaike's criterion finds, is taken out, and what is
    left divided by one less its coefficients, which keeps the mean and the sum of autocovariances (prewhitening:
    Andrews and Monahan 1992, Econometrica 60; the order: den Haan and Levin 1997, NBER t0197 [paper]). Then, for what
    remains, `g_0 + 2 sum w_l g_l` with Bartlett's weights and the bandwidth of Andrews (1991), Econometrica 59, 6.4
    [paper]. |E g|^2 is the mean inner product of units farther apart than the bandwidth.

    Raises:
        ValueError: fewer than 16 units.
    """
    units = len(gram)
    if units < _LEAST_IN_TIME:
        raise ValueError(f"{units} units in time: their autocorrelation needs at least {_LEAST_IN_TIME}")
    lags = min(_MOST_LAGS, units // 8)
    covariance = _autocovariance(gram, lags, units // 4)
    if not covariance[0] > 0.0:
        return gram, 1.0, between_units(gram, 0)
    square, _ = squared_covariance(gram)
    filtered = _autoregression(covariance, units * max(1.0, covariance[0] ** 2 / max(square, _TINY)))
    order = len(filtered) - 1
    window = np.zeros((units - order, units))
    for lag, weight in enumerate(filtered):
        window += weight / sum(filtered) * np.eye(units - order, units, order - lag)
    white = window @ gram @ window.T
    covariance = _autocovariance(white, 1, len(white) // 4)
    left = min(max(covariance[1] / covariance[0], -_MOST_MEMORY), _MOST_MEMORY) if covariance[0] > 0.0 else 0.0
    width = int(1.1447 * (4.0 * left**2 / (1.0 - left**2) ** 2 * len(white)) ** (1.0 / 3.0))
    width = min(width, len(white) // 4)
    covariance = _autocovariance(white, width, width)
    weights = np.append(1.0, 2.0 * (1.0 - np.arange(1, width + 1) / (width + 1.0)))
    remaining = float(weights @ covariance) / covariance[0] if covariance[0] > 0.0 else 1.0
    return white, max(remaining, 1.0 / len(white)), between_units(white, width)


def _autocovariance(gram: np.ndarray, lags: int, apart: int) -> np.ndarray:
    """Of units, summed over their coordinates; the square of the mean is that of units more than `apart` apart."""
    products = [float(np.trace(gram, lag)) / (len(gram) - lag) for lag in range(lags + 1)]
    return np.array(products) - between_units(gram, apart)


def _autoregression(covariance: np.ndarray, values: float) -> list[float]:
    """`1, -a_1, .. -a_p` of the autoregression that is best by Akaike's criterion for so many values.

    Levinson's recursion (Brockwell and Davis, Time Series (1991), 5.2 [paper]).
    """
    found, best = [1.0], 0.0
    filtered, variance = [1.0], float(covariance[0])
    for order in range(1, len(covariance)):
        partial = -sum(filtered[lag] * float(covariance[order - lag]) for lag in range(order)) / variance
        if not abs(partial) < 1.0:
            break
        filtered = [one + partial * other for one, other in zip([*filtered, 0.0], [0.0, *filtered[::-1]], strict=True)]
        variance *= 1.0 - partial**2
        criterion = values * math.log(variance / float(covariance[0])) + 2.0 * order
        if criterion < best and sum(filtered) > 1.0 - _MOST_MEMORY:
            found, best = filtered, criterion
    return found
