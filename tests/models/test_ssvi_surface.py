"""Surfaces of SSVI and eSSVI: the expiries are met, and nothing between or beyond them has arbitrage."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import YEARS, essvi_surface, ssvi_surface
from volgrad.models.certificate import certify
from volgrad.models.joining import certificate_times
from volgrad.models.ssvi import SsviSlices, slack, total_variance

K = np.linspace(-1.2, 1.2, 25)
kinds = pytest.mark.parametrize("make", [essvi_surface, ssvi_surface])


@kinds
def test_the_expiries_are_met(make):
    surface = make(3, 0.5)
    rho = np.broadcast_to(surface.rho, surface.theta.shape)
    slices = SsviSlices(*(values[:, None] for values in (surface.theta, rho, surface.psi)))
    found = surface.total_variance(K[None, :], YEARS[:, None])
    np.testing.assert_allclose(found, total_variance(slices, K[None, :]), rtol=1e-12)


@kinds
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.3, 1.0, 3.0]),
    years=st.lists(st.floats(1e-4, 3.0), min_size=2, max_size=12, unique=True),
)
def test_all_conditions_hold_at_and_between_any_times(make, seed, scale, years):
    """The proof in models.ssvi_surface, on numbers: any times, in order, the expiries among them."""
    surface = make(seed, scale)
    times = np.sort(np.concatenate([years, YEARS]))
    for name, values in slack(surface.slices(times)).items():
        assert values.min() >= -1e-9, name


@kinds
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.3, 1.0, 2.0]))
def test_the_certificate_is_always_clean(make, seed, scale):
    told = certify(make(seed, scale), certificate_times(YEARS))
    assert told.clean, told


def test_between_two_expiries_the_wings_go_straight_together():
    surface = essvi_surface(4, 0.5)
    middle = np.linspace(YEARS[3], YEARS[4], 7)
    theta, rho, psi = surface.slices(middle)
    part = (theta - theta[0]) / (theta[-1] - theta[0])
    for values in (psi, rho * psi):
        np.testing.assert_allclose(values, values[0] + part * (values[-1] - values[0]), rtol=1e-9)


@kinds
def test_there_is_no_answer_at_or_before_the_surfaces_own_time(make):
    found = make().total_variance(0.1, np.array([0.0, -1.0, np.nan, 0.1]))
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3])


@kinds
def test_one_expiry_is_a_surface(make):
    whole = make()
    cut = {name: getattr(whole, name)[:1] for name in ("expiry_years", "forward_usd", "quoted", "theta")}
    own = {name: getattr(whole, name)[:1] for name in ("rho", "psi")} if make is essvi_surface else {}
    one = dataclasses.replace(whole, **cut, **own)
    assert certify(one, certificate_times(one.expiry_years)).clean
