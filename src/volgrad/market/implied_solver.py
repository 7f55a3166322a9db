"""The solver inside `implied`: total volatility of an out-of-the-money call, branch-free and differentiable.

Notation as there: `kappa >= 0` log-moneyness, `value` in units of the forward, `s` total volatility,
`low = kappa/s - s/2 = -d1`, `high = kappa/s + s/2 = -d2`, n the normal density, R Mills' ratio.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float64

from volgrad.market.special import (
    MILLS_COEFFICIENTS,
    MILLS_LOWEST,
    log_roughly,
    mills_ratio,
    mills_ratio_and_slope,
    polynomial,
)

__all__ = ["call_total_volatility"]

_SQRT_2PI = 2.5066282746310005
_INVERSE_SQRT_2PI = 0.3989422804014327
_SMALLEST = 2.2250738585072014e-308

# Nine terms of the Chebyshev series behind MILLS_COEFFICIENTS, in powers: good to 3e-5
_SHORT_COEFFICIENTS = (
    2.4367267103495527,
    -3.0821277237289237,
    3.1503437809937465,
    -2.5853352138489223,
    1.6679411073728447,
    -0.799819914239929,
    0.22345547396931975,
    0.013160821297646664,
    -0.02436759902631939,
)
# h = x P(x) / Q(x) of the Bachelier model, see `_start_from_value`: fitted, 0.3 % off at most (measured)
_BACHELIER_P = (1.0, 0.94841646, -0.36664903, 0.33489628)
_BACHELIER_Q = (1.0, 2.25286457, -0.25377389, 0.33344112)


class _Problem(NamedTuple):
    """What is solved: the log of `value` up to one half, the log of `1 - value` (`upper`) beyond."""

    kappa: Float64[Array, "*options"]
    upper: Bool[Array, "*options"]
    target: Float64[Array, "*options"]
    inverse_target: Float64[Array, "*options"]  # 1 / (sqrt(2 pi) target)


class _Point(NamedTuple):
    """Black's formula at one s: the target would be `scaled n(low)`, its elasticity `1 / inverse_slope`."""

    h: Float64[Array, "*options"]  # kappa / s
    t: Float64[Array, "*options"]  # s / 2
    scaled: Float64[Array, "*options"]
    inverse_slope: Float64[Array, "*options"]


@jax.custom_jvp
def call_total_volatility(
    value: Float64[Array, "*options"], kappa: Float64[Array, "*options"]
) -> Float64[Array, "*options"]:
    """Total volatility at which an out-of-the-money call, struck at `e^kappa` forwards, is worth `value`.

    Args:
        value: premium over forward, in [2.3e-308, 1). Not checked: anything else gives no meaningful number.
        kappa: `ln(K / F)` in [0, 100]. Not checked either.

    Returns:
        Total volatility, within 4 units in the last place where the value determines it that well (measured).

    >>> from volgrad import double_precision
    >>> with double_precision():
    ...     print(round(float(call_total_volatility(jnp.asarray(0.5), jnp.asarray(0.0))), 12))
    1.348979500392
    """
    upper = value > 0.5
    target = jnp.where(upper, 1.0 - value, value)
    problem = _Problem(kappa, upper, target, _INVERSE_SQRT_2PI / target)
    return _last_step(_first_step(_start(problem), problem), problem)


@call_total_volatility.defjvp
def _call_total_volatility_jvp(
    primals: tuple[Float64[Array, "*options"], Float64[Array, "*options"]],
    tangents: tuple[Float64[Array, "*options"], Float64[Array, "*options"]],
) -> tuple[Float64[Array, "*options"], Float64[Array, "*options"]]:
    """Implicit-function theorem: `ds = (dvalue + e^kappa N(-high) dkappa) / vega` with `vega = n(low)`.

    `e^kappa N(-high) / n(low)` is R(high), because `n(low) = e^kappa n(high)`.
    """
    (value, kappa), (value_dot, kappa_dot) = primals, tangents
    s = call_total_volatility(value, kappa)
    low, high = kappa / s - 0.5 * s, kappa / s + 0.5 * s
    inverse_vega = _SQRT_2PI * jnp.exp(0.5 * jnp.square(low))
    return s, inverse_vega * value_dot + mills_ratio(high) * kappa_dot


def _start(problem: _Problem) -> Float64[Array, "*options"]:
    """A start within 3 % for kappa <= 40, 5 % up to 100 (measured)."""
    # here only, a tiny kappa is lifted to 1 % of the target, which keeps the quotients finite
    kappa = jnp.maximum(problem.kappa, jnp.maximum(0.01 * problem.target, _SMALLEST))
    # log sinhc(kappa/2), sinhc x = sinh(x) / x: kappa^2/24 near 0, kappa/2 - log kappa far out; fitted to 2 %
    e = 5.0 + kappa * (0.5 + 0.04 * kappa)
    log_sinhc = kappa * kappa * e / (24.0 * e + kappa * kappa * (1.0 + 0.08 * kappa))
    # With o = (e^kappa - 1) / (sqrt(2 pi) value) = e^(kappa/2) sinhc(kappa/2) scaled,
    # sqrt(1 + o^2) = e^(kappa/2) sinhc(kappa/2) sqrt(per_kappa^2 + scaled^2); there
    # per_kappa = kappa / (e^kappa - 1) counts for small kappa only, and a series serves.
    per_kappa = 1.0 / polynomial((1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120), kappa)
    scaled = kappa * problem.inverse_target
    modest = jnp.minimum(scaled, 1e8)
    grown = jnp.where(scaled < 1e8, jnp.sqrt(per_kappa * per_kappa + modest * modest), scaled)
    # one logarithm and one root serve both sides
    logarithm = log_roughly(jnp.where(problem.upper, problem.target, grown))
    x = jnp.sqrt(2.0 * jnp.where(problem.upper, -logarithm, logarithm + 0.5 * kappa + log_sinhc))
    from_value = _start_from_value(x, kappa, log_sinhc)
    return jnp.where(problem.upper, _start_from_complement(x, kappa), from_value)


def _start_from_value(
    x: Float64[Array, "*options"], kappa: Float64[Array, "*options"], log_sinhc: Float64[Array, "*options"]
) -> Float64[Array, "*options"]:
    """Start for a value up to one half, from the Bachelier model.

    There `o = |K - F| / (sqrt(2 pi) value)` depends on `h`, moneyness over standard deviation, alone;
    `x = sqrt(log(1 + o^2))` equals h at both ends and is within 80 % of it between, and a rational function
    does the rest. So s is about `z = kappa / h`, which Black exceeds by `a / b` to first order, where
    `a = log sinhc(kappa/2) + z^2/8` and `b = h^2 + 3`: both at the money (`s = z (1 + z^2/24)`) and where the
    two prices are asymptotic. What is left is nearly a function of `a / b` alone (measured; fitted).
    """
    h = x * polynomial(_BACHELIER_P, x) / polynomial(_BACHELIER_Q, x)
    z = kappa / h
    a, b = log_sinhc + 0.125 * z * z, h * h + 3.0
    return z + z * a * (b - 1.7 * a) / (b * jnp.maximum(b - 3.0 * a, 0.1 * b))


def _start_from_complement(
    x: Float64[Array, "*options"], kappa: Float64[Array, "*options"]
) -> Float64[Array, "*options"]:
    """Start for a value above one half, from `1 - value = N(low) (1 + share)`, `x = sqrt(-2 log(1 - value))`.

    `share = R(high) / R(-low)` is 1 at the money and falls with kappa.
    """
    depth = jnp.maximum(0.9 * x - 0.35, 0.0)  # a crude -low
    share = (depth + 0.8) / (jnp.sqrt(depth * depth + 2.0 * kappa) + 0.8)  # R(x) is about 1 / (x + 0.8)
    # sqrt(-2 log N(low)), with log(1 + share) to second order
    y = jnp.sqrt(x * x + share * (2.0 - 0.614 * share))
    # the normal quantile to 0.003: Abramowitz and Stegun, 26.2.22
    depth = y - (2.30753 + 0.27061 * y) / (1.0 + y * (0.99229 + 0.04481 * y))
    return depth + jnp.sqrt(depth * depth + 2.0 * kappa)  # from -low = s/2 - kappa/s


def _evaluate(s: Float64[Array, "*options"], problem: _Problem, coefficients: tuple[float, ...]) -> _Point:
    h, t = problem.kappa / s, 0.5 * s
    low, high = h - t, h + t
    # the clip counts only while s is a guess: value <= 1/2 means low > -0.68, value > 1/2 means low < 0
    near = jnp.maximum(jnp.where(problem.upper, -low, low), MILLS_LOWEST)
    ratio, slope = mills_ratio_and_slope(near, high, coefficients)
    total = 2.0 * (ratio - h * slope)  # R(-low) + R(high)
    scaled = jnp.where(problem.upper, total, s * slope)
    return _Point(h, t, scaled, jnp.where(problem.upper, -total / s, slope))


def _first_step(s: Float64[Array, "*options"], problem: _Problem) -> Float64[Array, "*options"]:
    """From a few per cent to about 1e-5, all that the short polynomials allow."""
    point = _evaluate(s, problem, _SHORT_COEFFICIENTS)
    low = point.h - point.t
    return _householder(s, log_roughly(point.scaled * problem.inverse_target) - 0.5 * low * low, point)


def _last_step(s: Float64[Array, "*options"], problem: _Problem) -> Float64[Array, "*options"]:
    """From there to rounding. The log is that of a ratio near 1, by its series.

    A difference of two logarithms of size up to 700 would lose the last bits.
    """
    point = _evaluate(s, problem, MILLS_COEFFICIENTS)
    low = point.h - point.t
    e = point.scaled * problem.inverse_target * jnp.exp(-0.5 * low * low) - 1.0
    return _householder(s, e * (1.0 - e * (1 / 2 - e * (1 / 3 - e * (1 / 4)))), point)


def _householder(
    s: Float64[Array, "*options"], f: Float64[Array, "*options"], point: _Point
) -> Float64[Array, "*options"]:
    """One Householder step of fourth order on `f = log(target(s) / target)`.

    With `q = 1 / (s f')`, which is `inverse_slope`, and `g = h^2 - t^2`, vega = n(low) gives
    `s f2 / f' = g - 1/q` and `s^2 f3 / f' = (g - 1/q)(g - 2/q) - 3 h^2 - t^2` for the second and third
    derivatives f2 and f3. Multiplied by powers of q, so that one division is left.
    """
    q = point.inverse_slope
    h2, t2 = point.h * point.h, point.t * point.t
    curvature = (h2 - t2) * q - 1.0
    newton, bend = -f * q, f * curvature
    third = f * bend * (curvature - 1.0) - (3.0 * h2 + t2) * newton * newton
    return s * (1.0 + newton * (1.0 - 0.5 * bend) / (1.0 - bend + (1 / 6) * third))
