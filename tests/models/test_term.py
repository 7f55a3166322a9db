"""At-the-money variance between expiries: met, never falling where it need not, flat where it is flat."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.models.examples import TS_US, YEARS, clock
from volgrad.models.term import Place, locate, surface_clock


def test_the_expiries_are_met_to_the_last_digits():
    theta = np.cumsum(np.linspace(0.01, 0.05, YEARS.size))
    place = locate(TS_US, YEARS, theta, YEARS)
    np.testing.assert_allclose(place.theta, theta, rtol=1e-13)
    np.testing.assert_array_equal(place.left, np.arange(YEARS.size))
    np.testing.assert_allclose(place.part, 0.0, atol=1e-12)


def test_a_flat_volatility_stays_flat_everywhere():
    times = np.geomspace(0.2 * YEARS[0], 3.0 * YEARS[-1], 50)
    place = locate(TS_US, YEARS, 0.36 * clock(), times)
    np.testing.assert_allclose(place.theta, 0.36 * surface_clock(TS_US, times), rtol=1e-12)


@given(
    st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=9),
    st.lists(st.floats(1e-6, 1.0), min_size=9, max_size=9),
    st.lists(st.floats(1e-5, 10.0), min_size=2, max_size=30),
)
def test_variance_that_rises_from_expiry_to_expiry_rises_between_them(gaps, growth, asked):
    node = np.cumsum(gaps)
    theta = np.cumsum(growth)[: node.size]
    place = Place(node, theta, np.sort(asked))
    assert np.all(np.diff(place.theta) >= -1e-12 * place.theta[1:])
    assert np.all((place.part >= 0.0) & (place.part <= 1.0))


def test_variance_that_falls_is_followed():
    node, theta = np.array([1.0, 2.0, 3.0]), np.array([0.3, 0.2, 0.4])
    place = Place(node, theta, np.array([1.5, 2.5]))
    assert 0.2 < place.theta[0] < 0.3
    assert 0.2 < place.theta[1] < 0.4
