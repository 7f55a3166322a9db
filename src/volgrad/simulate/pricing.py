"""True premiums of many options at many moments at once, and the exchange's own volatilities for them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.simulate.surface import Smiles
from volgrad.simulate.truth import SQRT_2PI, essvi_variance, implied_deviation, log_otm_call, mills_ratio, mixed

__all__ = ["Options", "Priced", "implied_vol", "priced"]

IV_CAP = 9.99  # a fraction: the exchange writes 999 %
IV_UNIT = 1e-4  # it writes two decimals of percent
SMALLEST_TIME_VALUE = 1e-9  # coin
SOLVED = 1e-9  # of the premium, relative
LADDER_STEP, LADDER_STEPS = 1.8, 9  # from a cap of 999 % down to 5 %


class Options(NamedTuple):
    """Options at moments, one a row: `cell` is the row's place in an array of moments by expiries."""

    cell: Int[np.ndarray, " rows"]
    log_moneyness: Float[np.ndarray, " rows"]
    root_years: Float[np.ndarray, " rows"]
    is_call: Bool[np.ndarray, " rows"]


class Priced(NamedTuple):
    """Truth of each option, all in units of the forward (coin).

    `otm` is the time value (the out-of-the-money premium) and `log_otm` its logarithm, `intrinsic` the rest,
    `deviation` sqrt(total variance), `vega` against volatility, `net_delta` against the forward's logarithm,
    `exercised` the chance of ending in the money, by N(+-d1).
    """

    otm: Float[np.ndarray, " rows"]
    log_otm: Float[np.ndarray, " rows"]
    intrinsic: Float[np.ndarray, " rows"]
    deviation: Float[np.ndarray, " rows"]
    d1: Float[np.ndarray, " rows"]
    vega: Float[np.ndarray, " rows"]
    net_delta: Float[np.ndarray, " rows"]
    exercised: Float[np.ndarray, " rows"]


def priced(options: Options, smiles: Smiles) -> Priced:
    """Price options on the mixture of their moment and expiry (the formulas of `TrueSurface`)."""
    cell, k = options.cell, options.log_moneyness
    theta, phi, rho = (column.reshape(2, -1)[:, cell] for column in smiles[:3])
    calm, wild = np.sqrt(essvi_variance(k, theta, phi, rho))
    weight = np.repeat(smiles.wild_weight, smiles.theta.shape[2])[cell]
    log_call, deviation = mixed(np.abs(k), calm, wild, weight)
    log_otm = log_call + np.minimum(k, 0.0)
    otm = np.exp(log_otm)
    intrinsic = np.maximum(np.where(options.is_call, -1.0, 1.0) * np.expm1(k), 0.0)
    d1 = 0.5 * deviation - k / deviation
    density = np.exp(-0.5 * d1 * d1) / SQRT_2PI
    tail = density * mills_ratio(np.abs(d1))
    exercised = np.where((d1 > 0.0) == options.is_call, 1.0 - tail, tail)
    net_delta = np.where(options.is_call, exercised, -exercised) - (otm + intrinsic)
    return Priced(otm, log_otm, intrinsic, deviation, d1, density * options.root_years, net_delta, exercised)


def implied_vol(
    premium_coin: Float[np.ndarray, "sides rows"], options: Options, truth: Priced
) -> Float[np.ndarray, "sides rows"]:
    """Volatilities of premiums as the exchange's ticker shows them: fractions of four decimals.

    0 where there is no premium (NaN) or one below intrinsic value, at most 9.99 (its 999 %).
    """
    time_value = premium_coin - truth.intrinsic
    place = np.flatnonzero(time_value > SMALLEST_TIME_VALUE)
    row = place % options.cell.size
    distance, root_years = np.abs(options.log_moneyness[row]), options.root_years[row]
    log_call = np.log(time_value.ravel()[place]) - np.minimum(options.log_moneyness[row], 0.0)
    start = truth.deviation[row]
    with np.errstate(all="ignore"):  # premiums far from the truth send the steps astray: they are found out here
        deviation = implied_deviation(distance, log_call, start)
        far = np.flatnonzero(~(np.abs(log_otm_call(distance, deviation) - log_call) < SOLVED))
    if far.size:
        deviation[far] = _from_afar(distance[far], log_call[far], IV_CAP * root_years[far])
    found = np.zeros(premium_coin.size)
    found[place] = np.rint(np.minimum(deviation / root_years, IV_CAP) / IV_UNIT) * IV_UNIT
    return found.reshape(premium_coin.shape)


def _from_afar(distance: np.ndarray, log_call: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Implied deviation up to `most`, without a good start: a ladder down from `most` finds one just above."""
    start, dear = most, log_call >= log_otm_call(distance, most)
    for _ in range(LADDER_STEPS):
        lower = start / LADDER_STEP
        start = np.where(log_otm_call(distance, lower) > log_call, lower, start)
    with np.errstate(all="ignore"):
        found = implied_deviation(distance, np.where(dear, -1.0, log_call), start)
        found = implied_deviation(distance, np.where(dear, -1.0, log_call), found)  # near the bound prices are flat
    return np.where(dear | ~(found > 0.0), most, found)
