"""Implied volatility: the Black formula inverted to the last bits that the price holds.

Everything is normalised by the forward: premium `V / F` (the coin premium of an inverse option),
log-moneyness `k = ln(K / F)`, call `N(d1) - e^k N(d2)`, total volatility `s = sigma sqrt(tau)`.

What is solved. Parity, and the symmetry of the formula in `k`, turn every option into an out-of-the-money
call at `kappa = |k|` with time value `v`. With R = Mills' ratio (`special.mills_ratio`), n = the normal
density, `low = kappa/s - s/2 = -d1` and `high = kappa/s + s/2 = -d2` it reads, free of cancellation,

    v = n(low) [R(low) - R(high)],        1 - v = n(low) [R(-low) + R(high)],

and its logarithm is solved: that of `v` up to one half, that of `1 - v` beyond. Both keep their relative
accuracy, from a time value of 1e-307 to the last bit below the bound.

How. A closed-form start within a few per cent; one Householder step of fourth order with short polynomials,
which leaves about 1e-5; one with full polynomials, which leaves rounding. There are no branches and no
iteration count to exhaust: it compiles to a handful of vectorised loops, which XLA spreads over the cores.
Method after P. Jaeckel, "Let's Be Rational" (Wilmott, 2015): Householder on the logarithm of the price. The
start, the form of the objective and the special functions are our own.
"""

import enum
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float64, Int8

from volgrad.errors import InputError
from volgrad.market.implied_solver import call_total_volatility
from volgrad.market.special import polynomial
from volgrad.runtime import require_double_precision

__all__ = [
    "LARGEST_LOG_MONEYNESS",
    "Outcome",
    "implied_total_volatility",
    "implied_vol",
    "message",
    "total_volatility_from_time_value",
]

#: Beyond there are no strikes (K = 3e43 F); the accuracy is stated, and tested, up to here.
LARGEST_LOG_MONEYNESS = 100.0

_Number = float | Float64[Array, "*options"]
_Flag = bool | Bool[Array, "*options"]
_Column = Float64[Array, "*options"]
_EPSILON = 2.220446049250313e-16
_SMALLEST = 2.2250738585072014e-308  # XLA flushes to zero what is below
_EXPM1_TERMS = tuple(1.0 / math.factorial(order) for order in range(2, 20))


class Outcome(enum.IntEnum):
    """What became of one option; `message` says what that means and what to do."""

    OK = 0
    ZERO_TIME_VALUE = 1
    BELOW_INTRINSIC = 2
    ABOVE_BOUND = 3
    NOT_FINITE = 4
    EXPIRED = 5


_MESSAGES = {
    Outcome.OK: "solved, to the accuracy of the premium",
    Outcome.ZERO_TIME_VALUE: (
        "the premium equals the intrinsic value to its last bit, so it holds no volatility: "
        "use the out-of-the-money option of the same strike, or leave the row out"
    ),
    Outcome.BELOW_INTRINSIC: (
        "the premium is below the intrinsic value, which no volatility explains (on an exchange: a bid below "
        "intrinsic): leave the row out, or check that premium and log-moneyness use the same forward"
    ),
    Outcome.ABOVE_BOUND: (
        "the premium is at or above its bound (1 for a call, K/F for a put, in units of the forward): "
        "check that it was divided by the forward"
    ),
    Outcome.NOT_FINITE: (
        "premium, log-moneyness or expiry is NaN or infinite, or |log-moneyness| exceeds 100: "
        "treat the quote as missing"
    ),
    Outcome.EXPIRED: "the time to expiry is zero or negative: leave the row out",
}


def message(outcome: int) -> str:
    """What an outcome code means and what to do about it.

    >>> message(Outcome.EXPIRED)
    'the time to expiry is zero or negative: leave the row out'

    Raises:
        InputError: not a code of `Outcome`.
    """
    try:
        return _MESSAGES[Outcome(int(outcome))]
    except ValueError:
        codes = ", ".join(f"{code.value} {code.name}" for code in Outcome)
        raise InputError(f"{outcome} is no outcome of an implied volatility; these are: {codes}") from None


@jax.jit
def implied_vol(
    premium: _Number,
    log_moneyness: _Number,
    expiry_years: _Number,
    is_call: _Flag,
) -> tuple[_Column, Int8[Array, "*options"]]:
    """Annualised implied volatility (a fraction) and an `Outcome` code for each option.

    As `implied_total_volatility`, divided by the root of `expiry_years` (ACT/365); where that is not positive
    the outcome is `EXPIRED`.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     vol, outcome = implied_vol(0.05637197779701664, 0.0, 0.5, True)
    ...     print(round(float(vol), 14), Outcome(int(outcome)).name)
    0.2 OK
    """
    premium, log_moneyness, expiry_years, is_call = _options(premium, log_moneyness, expiry_years, is_call)
    total_volatility, outcome = implied_total_volatility(premium, log_moneyness, is_call)
    finite, alive = jnp.isfinite(expiry_years), expiry_years > 0.0
    outcome = jnp.where(alive, outcome, jnp.int8(Outcome.EXPIRED))
    outcome = jnp.where(finite, outcome, jnp.int8(Outcome.NOT_FINITE))
    root = jnp.sqrt(jnp.where(finite & alive, expiry_years, 1.0))
    return jnp.where(finite & alive, total_volatility / root, jnp.nan), outcome


@jax.jit
def implied_total_volatility(
    premium: _Number,
    log_moneyness: _Number,
    is_call: _Flag,
) -> tuple[_Column, Int8[Array, "*options"]]:
    """Total implied volatility `sigma sqrt(tau)` and an `Outcome` code for each option.

    The total volatility is NaN exactly where the outcome is not `OK`, and its gradient is 0 there. In the
    money a premium holds fewer bits of time value; the answer is as exact as those are. Compiled; safe under
    `jit`, `vmap` and `scan`; differentiable to any order, by the implicit-function theorem. Inputs broadcast.

    Args:
        premium: `V / F`, that is the coin premium of an inverse option.
        log_moneyness: `ln(K / F)`, taken as exact.
        is_call: True = call, False = put.

    Returns:
        The total volatility, and the outcome code (int8).

    Raises:
        InputError: JAX is in single precision.

    Source: Black (1976); the method as the module says.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     premium = jnp.asarray([0.05, 0.0, 1.5])
    ...     total_volatility, outcome = implied_total_volatility(premium, 0.1, True)
    >>> [Outcome(int(code)).name for code in outcome]
    ['OK', 'ZERO_TIME_VALUE', 'ABOVE_BOUND']
    """
    premium, log_moneyness, is_call = _options(premium, log_moneyness, is_call)
    finite = jnp.isfinite(premium) & (jnp.abs(log_moneyness) <= LARGEST_LOG_MONEYNESS)
    premium = jnp.where(finite, premium, 0.0)
    log_moneyness = jnp.where(finite, log_moneyness, 0.0)
    growth = _growth(log_moneyness)
    is_itm = is_call != (log_moneyness >= 0.0)
    intrinsic = jnp.where(is_itm, _parity(log_moneyness, growth), 0.0)
    time_value = premium - intrinsic
    call_value = jnp.where(log_moneyness < 0.0, time_value * growth, time_value)
    solvable = finite & (call_value >= _SMALLEST) & (call_value < 1.0)
    # a few units in the last place below intrinsic is intrinsic value, rounded
    below = time_value < -4.0 * _EPSILON * intrinsic
    outcome = jnp.where(call_value >= 1.0, jnp.int8(Outcome.ABOVE_BOUND), jnp.int8(Outcome.ZERO_TIME_VALUE))
    outcome = jnp.where(below, jnp.int8(Outcome.BELOW_INTRINSIC), outcome)
    outcome = jnp.where(finite, outcome, jnp.int8(Outcome.NOT_FINITE))
    outcome = jnp.where(solvable, jnp.int8(Outcome.OK), outcome)
    return _solve_where(solvable, call_value, log_moneyness), outcome


def total_volatility_from_time_value(time_value: _Number, log_moneyness: _Number) -> _Column:
    """Total volatility from the out-of-the-money premium, for code that never had an intrinsic value.

    Relative accuracy 1e-15, for time values down to 2.3e-308. Not compiled by itself: made to be called
    inside `jit`, `vmap` or `scan`. Differentiable as `implied_total_volatility` is. At `k = 0`, where the
    time value has a kink in k, the derivatives are those from the right (the call's). Second derivatives in
    the time value overflow where it is below 1e-154.

    Args:
        time_value: premium over forward of the call where `k >= 0`, of the put where `k < 0`; inside
            (0, min(1, e^k)).
        log_moneyness: `ln(K / F)`, within +-100.

    Returns:
        The total volatility; NaN, with gradient 0, where the arguments are outside those ranges.

    Raises:
        InputError: JAX is in single precision.

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     print(round(float(total_volatility_from_time_value(1e-300, 0.5)), 12))
    0.013572217479
    """
    time_value, log_moneyness = _options(time_value, log_moneyness)
    finite = jnp.isfinite(time_value) & (jnp.abs(log_moneyness) <= LARGEST_LOG_MONEYNESS)
    time_value = jnp.where(finite, time_value, 0.0)
    log_moneyness = jnp.where(finite, log_moneyness, 0.0)
    call_value = jnp.where(log_moneyness < 0.0, time_value * _growth(log_moneyness), time_value)
    solvable = finite & (call_value >= _SMALLEST) & (call_value < 1.0)
    return _solve_where(solvable, call_value, log_moneyness)


def _options(*arrays: _Number | _Flag) -> list[Array]:
    """The arrays in one shape, numbers as float64."""
    require_double_precision("implied volatility")
    converted = [jnp.asarray(array) for array in arrays]
    converted = [a if a.dtype == jnp.bool_ else a.astype(jnp.float64) for a in converted]
    shape = jnp.broadcast_shapes(*(array.shape for array in converted))
    return [jnp.broadcast_to(array, shape) for array in converted]


def _growth(log_moneyness: _Column) -> _Column:
    """`e^|k|`: a put at `k < 0`, times this, is the call at `-k` (the same option seen from the strike)."""
    # not `abs`, whose derivative at 0 is 0: k = 0 is on the call's side throughout
    return jnp.exp(jnp.where(log_moneyness < 0.0, -log_moneyness, log_moneyness))


def _parity(log_moneyness: _Column, growth: _Column) -> _Column:
    """`|e^k - 1|` to 0.6 units in the last place for |k| < 1; XLA's `expm1` is 2 off (measured)."""
    near = jnp.clip(log_moneyness, -1.0, 1.0)
    series = near + near * near * polynomial(_EXPM1_TERMS, near)
    far = jnp.where(log_moneyness < 0.0, 1.0 / growth, growth) - 1.0
    signed = jnp.where(jnp.abs(log_moneyness) < 1.0, series, far)
    return jnp.where(log_moneyness < 0.0, -signed, signed)


def _solve_where(
    solvable: Bool[Array, "*options"],
    call_value: _Column,
    log_moneyness: _Column,
) -> _Column:
    """The solution, or NaN. Masked before the solver too: a masked row's gradient is 0, not 0 * NaN."""
    kappa = jnp.where(log_moneyness < 0.0, -log_moneyness, log_moneyness)
    value, kappa = jnp.where(solvable, call_value, 0.25), jnp.where(solvable, kappa, 0.0)
    return jnp.where(solvable, call_total_volatility(value, kappa), jnp.nan)
