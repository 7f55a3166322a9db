"""Mills' ratio and its kin, against scipy and the laws that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from volgrad.market.special import (
    MILLS_LOWEST,
    erfcx,
    log_roughly,
    mills_ratio,
    mills_ratio_and_slope,
    polynomial,
)

EPSILON = np.finfo(float).eps
ratio_and_slope = jax.jit(mills_ratio_and_slope)
mills = jax.jit(mills_ratio)
first = jax.jit(jax.grad(mills_ratio))
second = jax.jit(jax.grad(jax.grad(mills_ratio)))
logarithm = jax.jit(log_roughly)


def scipy_mills(x):
    return np.sqrt(np.pi / 2) * scipy.special.erfcx(np.asarray(x) / np.sqrt(2))


def test_mills_ratio_is_scipys():
    x = np.concatenate([np.linspace(MILLS_LOWEST, 40, 4001), np.geomspace(40, 1e150, 300)])
    np.testing.assert_allclose(mills(x), scipy_mills(x), rtol=5 * EPSILON)


def test_mills_ratio_below_the_expansion():
    x = np.linspace(-37, MILLS_LOWEST, 999)
    assert np.all(np.abs(mills(x) / scipy_mills(x) - 1) < EPSILON * (6 + x * x))


@pytest.mark.parametrize(("x", "limit"), [(np.inf, 0.0), (-np.inf, np.inf), (0.0, np.sqrt(np.pi / 2))])
def test_mills_ratio_at_its_limits(x, limit):
    assert float(mills(x)) == pytest.approx(limit, rel=4 * EPSILON)


def test_erfcx_is_scipys():
    x = np.linspace(-20, 60, 2001)
    assert np.all(np.abs(jax.jit(erfcx)(x) / scipy.special.erfcx(x) - 1) < EPSILON * (8 + 3 * np.minimum(x, 0) ** 2))


@given(st.floats(MILLS_LOWEST, 38.0), st.floats(1e-9, 5.0))
def test_slope_is_the_mean_of_the_derivative(low, width):
    """Simpson on -R' = 1 - x R, which a difference of two values of R could not meet for a narrow width."""
    high = low + width
    x = np.linspace(low, high, 257)
    # beyond 4, where 1 - x R cancels, its continued fraction
    falls = np.where(x < 4, 1 - x * scipy_mills(x), _fall_far_out(np.maximum(x, 4)))
    weights = np.ones(257)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    mean = float(falls @ weights) / weights.sum()
    _, slope = ratio_and_slope(low, high)
    assert float(slope) == pytest.approx(mean, rel=3e-8)


def _fall_far_out(x):
    """1 - x R(x) from Laplace's continued fraction, R = 1 / (x + 1 / (x + 2 / (x + ...)))."""
    tail = np.zeros_like(x)
    for order in range(120, 0, -1):
        tail = order / (x + tail)
    return tail / (x + tail)


@given(st.floats(MILLS_LOWEST, 38.0))
def test_slope_at_one_point_is_minus_the_derivative(x):
    ratio, slope = ratio_and_slope(x, x)
    assert float(slope) == pytest.approx(1 - x * float(ratio), rel=8 * EPSILON * (2 + x * x * abs(x)))
    assert float(ratio) == pytest.approx(float(mills(x)), rel=4 * EPSILON)


@given(st.floats(-30.0, 30.0))
def test_every_derivative_follows_from_the_first(x):
    ratio = float(mills(x))
    assert float(first(x)) == pytest.approx(x * ratio - 1, rel=1e-12, abs=1e-14)
    assert float(second(x)) == pytest.approx(ratio + x * (x * ratio - 1), rel=1e-12, abs=1e-12)


@given(st.floats(1e-307, 1e307))
def test_rough_logarithm(x):
    """Compiled, too: there XLA may reassociate its constants."""
    assert float(log_roughly(jnp.asarray(x))) == pytest.approx(np.log(x), rel=1e-15, abs=4e-8)
    assert float(logarithm(x)) == pytest.approx(np.log(x), rel=1e-15, abs=4e-8)


def test_polynomial_is_numpys():
    coefficients, x = (1.0, -2.0, 0.5, 3.0), np.linspace(-2, 2, 9)
    np.testing.assert_allclose(
        polynomial(coefficients, jnp.asarray(x)), np.polynomial.Polynomial(coefficients)(x), rtol=1e-14
    )
