"""Raw SVI: the textbook slice, the coordinates, and the join."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.models.examples import TS_US, VOGT, YEARS, svi_surface, usual_slices
from volgrad.models import ssvi
from volgrad.models.certificate import certify
from volgrad.models.joining import certificate_times
from volgrad.models.svi import SviSlice, SviSurface, from_coordinates, steepest_wing, to_coordinates, total_variance

K = np.linspace(-1.5, 1.5, 61)
five = hnp.arrays(np.float64, 5, elements=st.floats(-1e4, 1e4))


def vogt(scale: float = 1.0) -> SviSurface:
    return SviSurface(
        ts_us=TS_US,
        expiry_years=np.array([1.0]),
        forward_usd=np.array([100.0]),
        quoted=np.array([[-1.0, 1.0]]),
        parameters=scale * np.array([VOGT]),
    )


def test_vogts_slice_has_the_arbitrage_that_the_paper_says_and_the_certificate_finds_it():
    """Gatheral and Jacquier, arXiv 1204.0646, example 3.1; figures of market-maths.md."""
    surface = vogt()
    k = np.linspace(0.3, 1.5, 2401)
    g = surface.durrleman_g(k, 1.0)
    assert g.min() == pytest.approx(-0.03286, abs=2e-5)
    assert k[np.argmin(g)] == pytest.approx(0.879, abs=2e-3)
    below = k[g < 0.0]
    np.testing.assert_allclose([below[0], below[-1]], [0.643, 1.256], atol=2e-3)
    told = certify(surface, certificate_times(surface.expiry_years))
    assert not told.clean
    assert told.min_g == pytest.approx(-0.0329, abs=5e-4)  # three-point differences on a grid


@given(five, st.floats(1e-5, 2.0))
def test_any_five_numbers_are_a_slice_within_its_bounds(coordinates, theta):
    steepest = float(steepest_wing(np.array(theta)))
    slice_ = SviSlice(*map(np.asarray, from_coordinates(jnp.asarray(coordinates), jnp.asarray(steepest))))
    assert slice_.b >= 0.0
    assert abs(slice_.rho) <= 1.0
    assert slice_.sigma > 0.0
    assert slice_.b * (1.0 + abs(slice_.rho)) <= steepest * (1.0 + 1e-12)
    assert np.all(total_variance(slice_, 3.0 * K) > -1e-9 * slice_.b * slice_.sigma)


@given(st.floats(0.05, 1.5), st.floats(-0.9, 0.9), st.floats(-2.0, 2.0), st.floats(0.1, 8.0), st.floats(0.05, 1.0))
def test_coordinates_of_a_slice_give_it_back(b, rho, m, sigma, bottom):
    wanted = SviSlice(*map(np.array, (bottom - b * sigma * np.sqrt(1 - rho**2), b, rho, m, sigma)))
    steepest = np.array(4.0)
    found = from_coordinates(jnp.asarray(to_coordinates(wanted, steepest)), jnp.asarray(steepest))
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8)


def test_ssvi_slices_are_raw_svi():
    """Gatheral and Jacquier, eq. 4.2 in raw parameters."""
    surface, slices = svi_surface(), usual_slices()
    wanted = ssvi.total_variance(ssvi.SsviSlices(*(values[:, None] for values in slices)), K[None, :])
    np.testing.assert_allclose(surface.total_variance(K[None, :], YEARS[:, None]), wanted, rtol=1e-9)
    np.testing.assert_allclose(surface.theta, slices.theta, rtol=1e-12)


def test_expiries_are_joined_at_equal_standard_deviations():
    """Smiles of one shape in standard deviations keep it at every other time."""
    surface = svi_surface()
    times = np.array([0.0005, 0.02, 0.15, 2.0])
    x = np.linspace(-2.0, 2.0, 9)
    level = surface.total_variance(0.0, times)
    shape = surface.total_variance(x[None, :] * np.sqrt(level)[:, None], times[:, None]) / level[:, None]
    np.testing.assert_allclose(shape, np.broadcast_to(shape[0], shape.shape), rtol=1e-9)


def test_a_fall_of_variance_is_answered_and_told():
    whole = svi_surface()
    fallen = whole.parameters.copy()
    fallen[3] *= np.array([0.3, 0.3, 1.0, 1.0, 1.0])
    surface = dataclasses.replace(whole, parameters=fallen)
    told = certify(surface, certificate_times(YEARS))
    assert np.isfinite(told.min_g)
    assert not told.clean
    assert told.min_calendar < -0.1
