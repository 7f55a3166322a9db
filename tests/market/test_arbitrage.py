"""Laws of the arbitrage measures; golden cases from Gatheral and Jacquier, arXiv 1204.0646."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from volgrad.market.arbitrage import (
    LEE_SLOPE,
    calendar_gap,
    diagnose,
    durrleman_g,
    grid_durrleman_g,
    price_convexity,
    slice_derivatives,
    wing_slopes,
)
from volgrad.market.black import price

VARIANCE = st.floats(1e-4, 4.0)
UNEVEN = 1.5 * np.sinh(4 * np.linspace(-1, 1, 401)) / np.sinh(4)  # the scorer's grid


def raw_svi(k, a, b, rho, m, sigma):
    return a + b * (rho * (k - m) + jnp.sqrt((k - m) ** 2 + sigma**2))


def vogt(k):
    """Axel Vogt's slice: harmless to look at, with a butterfly arbitrage (ibid., example 3.1)."""
    return raw_svi(k, -0.0410, 0.1331, 0.3060, 0.3586, 0.4153)


def essvi(k, theta, rho, psi):
    phi = psi / theta
    return theta / 2 * (1 + rho * phi * k + jnp.sqrt((phi * k + rho) ** 2 + 1 - rho**2))


def exact_g(slice_, k):
    first = jax.grad(slice_)
    w, slope, curvature = (jax.vmap(f)(k) for f in (slice_, first, jax.grad(first)))
    return durrleman_g(k, w, slope, curvature)


@jax.jit
def density_and_g(strike, *parameters):
    def slice_(x):
        return raw_svi(x, *parameters)

    def call(strike):
        return price(jnp.log(strike), jnp.sqrt(slice_(jnp.log(strike))), True)

    k = jnp.log(strike)
    return jax.grad(jax.grad(call))(strike), exact_g(slice_, k.reshape(1))[0], jnp.sqrt(slice_(k))


# ------------------------------------------------------------------ butterfly


def test_the_vogt_slice_has_a_butterfly_where_it_is_known_to():
    k = jnp.linspace(-1.5, 1.5, 30_001)
    g = exact_g(vogt, k)
    worst = int(jnp.argmin(g))
    np.testing.assert_allclose(g[worst], -0.03286, atol=5e-6)
    np.testing.assert_allclose(k[worst], 0.879, atol=5e-4)
    negative = np.asarray(k)[np.asarray(g) < 0]
    np.testing.assert_allclose([negative.min(), negative.max()], [0.643, 1.256], atol=1e-3)
    np.testing.assert_allclose(grid_durrleman_g(k, vogt(k)), g[1:-1], atol=1e-5)
    assert price_convexity(k, vogt(k)).min() < 0


@given(VARIANCE, st.floats(-5, 5))
def test_a_flat_slice_has_g_one(w, k):
    assert durrleman_g(jnp.asarray(k), jnp.asarray(w), jnp.zeros(()), jnp.zeros(())) == 1
    flat = jnp.full(len(UNEVEN), w)
    np.testing.assert_allclose(grid_durrleman_g(jnp.asarray(UNEVEN), flat), 1, rtol=1e-9)


@given(st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.floats(-0.9, 0.9), st.floats(0.05, 0.5), st.floats(-1, 1))
def test_g_is_the_implied_density(a, b, rho, sigma, k):
    """The density of the settlement price is the call's second derivative in strike: here through `price`."""
    parameters = (a, b, rho, 0.05, sigma)
    density, g, root = density_and_g(jnp.exp(k), *parameters)
    expected = g * scipy.stats.norm.pdf(-k / root - root / 2) / root * np.exp(-k)
    np.testing.assert_allclose(density, expected, rtol=1e-8, atol=1e-10)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_parabola_is_differentiated_exactly_on_an_uneven_grid(a, b, c):
    k = jnp.asarray(UNEVEN)
    slope, curvature = slice_derivatives(k, a + b * k + c * k**2)
    np.testing.assert_allclose(slope, (b + 2 * c * k)[1:-1], atol=1e-11)
    np.testing.assert_allclose(curvature, 2 * c, atol=1e-9)


def test_the_stencil_is_the_scorers():
    """Written as benchmarks/scoring.py writes it."""
    k, w = UNEVEN, np.asarray(vogt(UNEVEN))
    h1, h2 = k[1:-1] - k[:-2], k[2:] - k[1:-1]
    a, b, c = w[:-2], w[1:-1], w[2:]
    w1 = (-h2 / (h1 * (h1 + h2))) * a + ((h2 - h1) / (h1 * h2)) * b + (h1 / (h2 * (h1 + h2))) * c
    w2 = 2 * (a / (h1 * (h1 + h2)) - b / (h1 * h2) + c / (h2 * (h1 + h2)))
    g = (1 - k[1:-1] * w1 / (2 * b)) ** 2 - w1**2 / 4 * (1 / b + 0.25) + w2 / 2
    np.testing.assert_allclose(grid_durrleman_g(jnp.asarray(k), jnp.asarray(w)), g, atol=1e-9)
    call = np.asarray(price(k, np.sqrt(w), True))
    bend = np.diff(np.diff(call) / np.diff(np.exp(k)))
    expected = bend * np.minimum(np.diff(np.exp(k))[1:], np.diff(np.exp(k))[:-1])
    np.testing.assert_allclose(price_convexity(jnp.asarray(k), jnp.asarray(w)), expected, atol=1e-15)


@given(st.lists(st.floats(-2, 2), min_size=7, max_size=7, unique=True), st.floats(0.05, 4))
def test_a_flat_slice_is_convex_on_any_strikes(points, w):
    k = jnp.asarray(sorted(points))
    if np.diff(k).min() > 1e-6:
        assert (price_convexity(k, jnp.full(len(k), w)) >= -1e-15).all()


def test_an_executable_butterfly_is_found():
    k = jnp.linspace(-0.2, 0.2, 5)
    cheap_middle = jnp.asarray([0.04, 0.04, 0.02, 0.04, 0.04])
    dear_middle = jnp.asarray([0.04, 0.04, 0.09, 0.04, 0.04])
    np.testing.assert_array_equal(price_convexity(k, cheap_middle) < 0, [True, False, True])
    np.testing.assert_array_equal(price_convexity(k, dear_middle) < 0, [False, True, False])


# ------------------------------------------------------------------ calendar


def test_essvi_needs_more_than_growing_theta_and_psi():
    """(theta, rho, psi) = (.04, -.5, .04) -> (.05, .5, .25): w falls from .04571 to .03829 at k = -.263."""
    k = jnp.linspace(-1, 1, 2001)
    w = jnp.stack([essvi(k, 0.04, -0.5, 0.04), essvi(k, 0.05, 0.5, 0.25)])
    gap = calendar_gap(w)
    at = int(jnp.argmin(jnp.abs(k + 0.263)))
    np.testing.assert_allclose(w[:, at], [0.04571, 0.03829], atol=2e-5)
    np.testing.assert_allclose(gap[0, at], 0.03829 - 0.04571, atol=2e-5)
    assert diagnose(k, w).min_calendar < -0.007


@given(st.lists(VARIANCE, min_size=4, max_size=4))
def test_calendar_is_clean_exactly_where_variance_grows(levels):
    grid = jnp.asarray(levels).reshape(-1, 1) * jnp.ones((1, 5))
    worst = diagnose(jnp.linspace(-1, 1, 5), grid).min_calendar
    assert (worst >= 0) == bool(np.all(np.diff(levels) >= 0))


# ------------------------------------------------------------------ wings and bad input


@given(st.floats(0.01, 0.9), st.floats(-0.9, 0.9))
def test_wing_slopes_of_svi_are_its_asymptotes(b, rho):
    k = jnp.linspace(-400, 400, 101)
    left, right = wing_slopes(k, raw_svi(k, 0.04, b, rho, 0.0, 0.1))
    np.testing.assert_allclose([left, right], [b * (1 - rho), b * (1 + rho)], rtol=1e-4)
    assert max(left, right) <= LEE_SLOPE


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0])
def test_a_variance_that_is_none_is_a_violation_and_never_a_nan(bad):
    k = jnp.linspace(-1, 1, 9)
    grid = jnp.full((3, 9), 0.04).at[1, 4].set(bad) * jnp.arange(1.0, 4.0).reshape(3, 1)
    g, bend, gap = grid_durrleman_g(k, grid), price_convexity(k, grid), calendar_gap(grid)
    assert not any(np.isnan(measure).any() for measure in (g, bend, gap))
    np.testing.assert_array_equal(np.isneginf(g[1]), np.isin(np.arange(1, 8), [3, 4, 5]))
    np.testing.assert_array_equal(np.isneginf(gap), [[i == 4 for i in range(9)]] * 2)
    worst = diagnose(k, grid)
    assert worst.min_g == worst.min_convexity == worst.min_calendar == -np.inf


def test_one_diagnosis_names_the_worst_of_each():
    k = jnp.asarray(UNEVEN)
    grid = jnp.stack([vogt(k), 2 * vogt(k)])
    worst = diagnose(k, grid)
    assert worst.min_g == grid_durrleman_g(k, grid).min()
    assert worst.min_convexity == price_convexity(k, grid).min()
    assert worst.min_calendar == calendar_gap(grid).min()
    assert worst.max_wing_slope == wing_slopes(k, grid).max()
