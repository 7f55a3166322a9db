"""Joining gives way exactly where it must, and what comes out is clean."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import YEARS, flat_slices, local_vol_surface, sliced
from volgrad.models.certificate import certify, dense_moneyness, grid_g
from volgrad.models.joining import certificate_times, join
from volgrad.models.slices import CARRIED, LINEAR

K = dense_moneyness(1.5)


def dirty_surface():
    """Slices that are clean, each with a skew of its own, so that the carried surface between them is not."""
    for seed in range(40):
        surface = local_vol_surface(0.6, seed, 1.0)
        at_expiries = certify(surface, YEARS)
        if at_expiries.clean and not certify(surface, certificate_times(YEARS)).clean:
            return surface
    raise AssertionError("no seed gives clean slices with a dirty interval between them")


def test_the_times_hold_the_expiries_and_the_intervals_between():
    times = certificate_times(YEARS)
    assert np.all(np.diff(times) > 0)
    assert np.isin(YEARS, times).all()
    for left, right in itertools.pairwise(YEARS):
        assert np.count_nonzero((times > left) & (times < right)) >= 3
    assert times[0] < YEARS[0]


@pytest.mark.parametrize("surface", [flat_slices(), local_vol_surface(), local_vol_surface(0.3)])
def test_a_clean_surface_is_left_as_it_is(surface):
    joined, certificate = join(surface)
    assert certificate.clean
    np.testing.assert_array_equal(joined.total_variance(K, 0.05), surface.total_variance(K, 0.05))


def test_a_dirty_interval_gives_way_and_the_others_do_not():
    surface = dirty_surface()
    joined, certificate = join(surface)
    assert certificate.clean
    assert joined.reach.shape == (YEARS.size - 1,)
    assert np.any(joined.reach < CARRIED)
    middle = 0.5 * (YEARS[:-1] + YEARS[1:])[:, None]
    before, after = surface.total_variance(K, middle), joined.total_variance(K, middle)
    kept = joined.reach == CARRIED
    np.testing.assert_array_equal(before[kept], after[kept])
    assert np.all(np.any(before[~kept] != after[~kept], axis=1))
    np.testing.assert_allclose(joined.total_variance(K, YEARS[:, None]), surface.total_variance(K, YEARS[:, None]))


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.6, 1.2]), st.floats(0.1, 1.0))
def test_whatever_slices_are_clean_the_joined_surface_is(seed, vol, scale):
    surface = local_vol_surface.__wrapped__(vol, seed, scale)
    _, certificate = join(surface)
    assert certificate.clean or not certify(surface, YEARS, certificate.k_range[1]).clean, certificate


def test_clean_means_clean_between_the_times_that_were_looked_at():
    joined, _ = join(dirty_surface())
    times = np.geomspace(YEARS[0], YEARS[-1], 150)
    assert grid_g(K, joined.total_variance(K[None, :], times[:, None])).min() > -0.02


def test_a_missing_value_makes_its_intervals_give_way():
    """A slice that is impossible far out has no smile to carry: NaN must not pass for clean."""
    variance = local_vol_surface().variance.copy()
    variance[3, -4:] = -0.001
    with np.errstate(invalid="ignore"):
        joined, certificate = join(sliced(variance))
    assert np.all(joined.reach[2:4] <= LINEAR)
    assert certificate.clean


def test_a_dirty_slice_cannot_be_joined_clean():
    surface = local_vol_surface()
    variance = surface.variance.copy()
    variance[3] *= 0.2  # a calendar fall
    _, certificate = join(dataclasses.replace(surface, variance=variance))
    assert not certificate.clean
    assert certificate.min_calendar < 0


def test_one_expiry_is_certified_without_intervals():
    surface = local_vol_surface()
    one = dataclasses.replace(
        surface,
        expiry_years=YEARS[3:4],
        forward_usd=surface.forward_usd[3:4],
        variance=surface.variance[3:4],
        quoted=surface.quoted[3:4],
    )
    joined, certificate = join(one)
    assert certificate.clean
    assert joined.reach.size == 0
