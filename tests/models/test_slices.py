"""Laws of a surface made of slices: exact at the expiries, continuous and rising between and beyond them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import PUBLISHED_NODES, TS_US, YEARS, clock, flat_slices, local_vol_surface, sliced
from volgrad.models.certificate import calendar_growth, dense_moneyness, grid_g
from volgrad.models.slices import CARRIED, LINEAR, MIXED, extended

K = dense_moneyness(1.5, 201)
SURFACES = [local_vol_surface(), local_vol_surface(1.2), local_vol_surface(0.6, 3, 0.3)]
surfaces = pytest.mark.parametrize("surface", SURFACES, ids=["calm", "wild", "random"])
REACHES = [CARRIED, 3.0, 1.0, LINEAR, MIXED]
moments = st.floats(1e-5, 1.5)
places = st.floats(-2.5, 2.5)


def with_reach(surface, reach):
    return dataclasses.replace(surface, reach=np.full(YEARS.size - 1, reach))


@surfaces
@pytest.mark.parametrize("reach", REACHES)
def test_at_a_listed_expiry_it_is_the_slice(surface, reach):
    found = with_reach(surface, reach).total_variance(PUBLISHED_NODES[None, :], YEARS[:, None])
    np.testing.assert_allclose(found, surface.variance, rtol=1e-12)


@surfaces
@pytest.mark.parametrize("reach", REACHES)
def test_it_is_continuous_in_time_across_every_expiry(surface, reach):
    surface = with_reach(surface, reach)
    second = 1.0 / (365 * 86_400)
    k = np.linspace(-4.0, 4.0, 41) * np.sqrt(surface.theta)[:, None]
    before, at, after = (surface.total_variance(k, (YEARS + move)[:, None]) for move in (-second, 0.0, second))
    allowed = 20.0 * (second / YEARS)[:, None]
    assert np.all(np.abs(before / at - 1.0) <= allowed)
    assert np.all(np.abs(after / at - 1.0) <= allowed)


@surfaces
@pytest.mark.parametrize("reach", [LINEAR, MIXED])
def test_the_cautious_rules_rise_in_time_everywhere(surface, reach):
    """Before the first expiry, between, and after the last; the carried rule is for the certificate to judge."""
    times = np.sort(np.concatenate([np.geomspace(YEARS[0] / 50, 2 * YEARS[-1], 120), YEARS]))
    variance = with_reach(surface, reach).total_variance(K[None, :], times[:, None])
    assert np.all(variance > 0)
    assert calendar_growth(variance).min() >= -1e-9


@surfaces
def test_a_mixture_of_premiums_is_clean_between_slices_that_are(surface):
    inner = (YEARS[:-1, None] + np.array([0.1, 0.5, 0.9]) * np.diff(YEARS)[:, None]).ravel()
    variance = with_reach(surface, MIXED).total_variance(K[None, :], inner[:, None])
    assert grid_g(K, variance).min() > -1e-3


@settings(max_examples=40)
@given(st.sampled_from(range(len(SURFACES))), st.lists(st.tuples(places, moments), min_size=2, max_size=6), st.data())
def test_an_answer_does_not_depend_on_what_else_is_asked(which, asked, data):
    reach = np.array(data.draw(st.lists(st.sampled_from(REACHES), min_size=YEARS.size - 1, max_size=YEARS.size - 1)))
    surface = dataclasses.replace(SURFACES[which], reach=reach)
    k, tau = np.array(asked).T
    together = surface.total_variance(k, tau)
    alone = [float(surface.total_variance(*one)) for one in asked]
    np.testing.assert_allclose(together, alone, rtol=1e-11)


@pytest.mark.parametrize("others", [CARRIED, 2.0])
def test_one_linear_interval_among_others_is_linear_at_the_money_too(others):
    reach = np.full(YEARS.size - 1, others)
    reach[2] = LINEAR
    surface = dataclasses.replace(local_vol_surface(0.6, 3, 0.3), reach=reach)
    inner = YEARS[2:4].mean()
    together = surface.total_variance(K[None, :], np.array([inner, YEARS[4:6].mean()])[:, None])[0]
    part = (clock(np.array([inner])) - clock()[2]) / (clock()[3] - clock()[2])
    ends = surface.total_variance(K[None, :], YEARS[2:4, None])
    np.testing.assert_allclose(together, (1 - part) * ends[0] + part * ends[1], rtol=1e-9)


@settings(max_examples=60)
@given(places, moments, st.sampled_from([CARRIED, 2.0, LINEAR]))
def test_without_a_smile_it_is_flat_in_the_variance_clock_everywhere(k, tau, reach):
    surface = with_reach(flat_slices(0.6), reach)
    expected = 0.36 * clock(np.array([tau]))[0]
    assert float(surface.total_variance(k, tau)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("tau", [0.0, -1e-9, -1.0, np.nan])
def test_no_time_left_is_no_answer_and_spoils_no_other(tau):
    surface = SURFACES[0]
    found = surface.total_variance(np.array([0.1, 0.1]), np.array([tau, 0.1]))
    assert np.isnan(found[0])
    assert found[1] == surface.total_variance(0.1, 0.1)


@surfaces
def test_seconds_before_an_expiry_of_minutes_there_is_an_answer(surface):
    for seconds in (1.0, 60.0, 600.0):
        vol = surface.implied_vol(np.array([-0.01, 0.0, 0.01]), seconds / (365 * 86_400))
        assert np.all(np.isfinite(vol))
        assert np.all(vol > 0.0)


@surfaces
def test_before_the_first_expiry_the_smile_is_the_firsts_in_standard_deviations(surface):
    years = YEARS[0] / 3
    share = clock(np.array([years]))[0] / clock()[0]
    x = np.linspace(-2.0, 2.0, 9) * np.sqrt(surface.theta[0])
    first = surface.total_variance(x, YEARS[0])
    np.testing.assert_allclose(surface.total_variance(x * np.sqrt(share), years), share * first, rtol=2e-3)


@surfaces
def test_after_the_last_expiry_variance_is_added_evenly(surface):
    later = surface.total_variance(K, 2.0 * YEARS[-1]) - surface.total_variance(K, YEARS[-1])
    np.testing.assert_allclose(later, surface.theta[-1] * (clock(2.0 * YEARS[-1:])[0] / clock()[-1] - 1.0), rtol=1e-8)


def test_the_forward_meets_the_expiries_and_stays_between_them():
    surface = SURFACES[0]
    np.testing.assert_allclose(surface.forward(YEARS), surface.forward_usd, rtol=1e-14)
    inner = surface.forward(np.linspace(YEARS[0], YEARS[-1], 50))
    assert np.all(np.diff(inner) > 0)
    np.testing.assert_allclose(surface.forward([1e-4, 9.0]), surface.forward_usd[[0, -1]], rtol=1e-14)


def test_one_slice_is_a_surface():
    surface = sliced(local_vol_surface().variance[3:4], YEARS[3:4])
    variance = surface.total_variance(K[None, :], np.array([0.001, YEARS[3], 1.0])[:, None])
    assert np.isfinite(variance).all()
    assert calendar_growth(variance).min() > 0


def test_nodes_without_a_value_go_on_straight():
    row = 0.04 + 0.1 * np.abs(PUBLISHED_NODES)
    holes = row.copy()
    holes[:10], holes[-20:] = np.nan, np.nan
    given_ = np.stack([holes, row])
    found = extended(given_)
    np.testing.assert_allclose(found, np.stack([row, row]), rtol=1e-12)
    assert np.isnan(given_[0, 0])  # the argument is not written to


def test_a_slice_with_hardly_a_value_stays_missing():
    row = np.full((1, PUBLISHED_NODES.size), np.nan)
    row[0, 60] = 0.04
    assert np.isnan(extended(row)).sum() == row.size - 1


def test_the_stamp_matters_only_through_the_week():
    """A week later the same slices give the same surface."""
    surface = SURFACES[0]
    later = dataclasses.replace(surface, ts_us=TS_US + 7 * 86_400_000_000)
    tau = np.geomspace(1e-3, 1.0, 15)[:, None]
    np.testing.assert_allclose(later.total_variance(K, tau), surface.total_variance(K, tau), rtol=1e-9)
