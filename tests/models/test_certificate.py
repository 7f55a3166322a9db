"""The certificate finds what is planted, and passes what is clean."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import VOGT, YEARS, Flat, Svi
from tests.tasks.chains import simulated
from volgrad.market import arbitrage
from volgrad.models.certificate import calendar_growth, certify, dense_moneyness, grid_g
from volgrad.models.surface import Surface

CLEAN_SVI = (0.04, 0.1, -0.3, 0.0, 0.4)
TIMES = np.array([0.25, 0.5, 1.0, 2.0])


class Planted(Surface):
    """Flat, but for what a test adds."""

    def __init__(self, extra) -> None:
        self.extra = extra

    def total_variance(self, log_moneyness, expiry_years):
        k, tau = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64))
        return self.extra(k, tau)


def test_a_flat_surface_is_clean():
    found = certify(Flat(0.5), TIMES)
    assert found.clean
    assert found.min_g == pytest.approx(1.0, abs=1e-9)
    assert found.min_calendar == pytest.approx(1.0)
    assert (found.k_range, found.tau_range) == ((-1.5, 1.5), (0.25, 2.0))


@pytest.mark.parametrize("parameters", [CLEAN_SVI, VOGT])
def test_the_grids_g_is_the_formulas(parameters):
    """On raw SVI, whose derivatives are known; with finite differences as fine as the grid."""
    surface = Svi(*parameters)
    k = dense_moneyness(1.5, 4001)
    w, (slope, curvature) = surface.total_variance(k, 1.0), surface.derivatives(k)
    exact = np.asarray(arbitrage.durrleman_g(*map(jnp.asarray, (k, w, slope, curvature))))[1:-1]
    np.testing.assert_allclose(grid_g(k, w[None])[0], exact, atol=2e-5)
    np.testing.assert_allclose(surface.durrleman_g(k, 1.0)[1:-1], exact, atol=2e-5)


@given(st.integers(0, 2**32 - 1))
def test_the_grids_g_is_that_of_the_market_layer(seed):
    random = np.random.default_rng(seed)
    k = np.sort(random.uniform(-1.0, 1.0, 30))
    k = k[np.concatenate([[True], np.diff(k) > 1e-4])]
    w = random.uniform(0.01, 0.5, (3, k.size))
    expected = arbitrage.grid_durrleman_g(jnp.asarray(k), jnp.asarray(w))
    np.testing.assert_allclose(grid_g(k, w), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_the_butterfly_of_vogts_slice_is_refused():
    """Least g and where: Gatheral and Jacquier, arXiv 1204.0646, example 3.1, as market-maths quotes it."""
    found = certify(Svi(*VOGT), np.array([1.0]))
    assert not found.clean
    assert found.min_g == pytest.approx(-0.03286, abs=5e-4)
    k = dense_moneyness(1.5)
    g = grid_g(k, Svi(*VOGT).total_variance(k, 1.0)[None])[0]
    assert k[1:-1][g.argmin()] == pytest.approx(0.879, abs=0.03)
    bad = k[1:-1][g < 0]
    assert bad.min() == pytest.approx(0.643, abs=0.03)
    assert bad.max() == pytest.approx(1.256, abs=0.05)


def test_the_same_slice_without_the_butterfly_passes():
    assert certify(Svi(*CLEAN_SVI), TIMES).clean


@settings(max_examples=20)
@given(st.floats(-1.3, 1.3), st.floats(1e-4, 0.5))
def test_a_calendar_fall_anywhere_is_refused(where, depth):
    def extra(k, tau):
        dip = depth * np.exp(-0.5 * ((k - where) / 0.3) ** 2)
        return 0.25 * tau - np.where(tau > 1.0, dip + 0.25, 0.0) * (tau - 1.0)

    found = certify(Planted(extra), TIMES)
    assert not found.clean
    assert found.min_calendar < 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.01])
def test_one_impossible_value_is_refused(value):
    k_grid = dense_moneyness(1.5)

    def extra(k, tau):
        return np.where((np.abs(k - k_grid[300]) < 1e-12) & (tau == 1.0), value, 0.25 * tau)

    assert not certify(Planted(extra), TIMES).clean


@pytest.mark.parametrize("level", [-0.04, 0.0, np.nan])
def test_a_surface_that_is_nowhere_positive_is_refused(level):
    assert not certify(Planted(lambda k, tau: level * tau), TIMES).clean


def test_wings_beyond_lees_bound_are_refused():
    def extra(k, tau):
        return 0.3 + np.where(k > 1.4, 2.5 * (k - 1.4), 0.0) + 0.1 * tau

    assert not certify(Planted(extra), TIMES).clean


def test_rounding_alone_is_no_arbitrage():
    noise = np.random.default_rng(0)

    def extra(k, tau):
        return 0.25 * (1.0 + 1e-14 * noise.standard_normal(k.shape)) * np.minimum(tau, 1.0)

    assert certify(Planted(extra), TIMES).min_calendar >= -1e-6


def test_the_true_surface_of_a_simulated_market_passes():
    for market in simulated():
        truth = Planted(market.truth.total_variance)
        assert certify(truth, market.expiry_years).clean


def test_growth_is_relative_to_the_size():
    variance = np.array([[0.01, 0.04], [0.02, 0.03]])
    np.testing.assert_allclose(calendar_growth(variance), [[1.0, -0.25]])


def test_one_time_alone_has_no_calendar():
    assert certify(Flat(0.5), YEARS[:1]).min_calendar == 0.0
