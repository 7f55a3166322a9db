"""Laws of the true surface: free of arbitrage for any parameters that it accepts, and exact far out."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market.arbitrage import calendar_gap, grid_durrleman_g
from volgrad.market.black import price
from volgrad.simulate.truth import (
    ExtendedSSVI,
    Slope,
    TrueSurface,
    VarianceClock,
    implied_deviation,
    log_otm_call,
    mills_ratio,
)

# 401 points, dense at the money, |k| <= 1.5
GRID = 1.5 * np.sinh(np.linspace(-5.0, 5.0, 401)) / np.sinh(5.0)
DAYS = np.array([1e-3, 0.05, 0.3, 1.0, 2.0, 4.0, 7.0, 8.0, 21.0, 60.0, 61.0, 180.0, 270.0, 365.0])

slopes = st.builds(Slope, st.floats(0.19, 1.9), st.floats(0.1, 1.9), st.floats(1e-4, 1e-1))
smiles = st.builds(ExtendedSSVI, slopes, slopes)


@st.composite
def surfaces(draw: st.DrawFn) -> TrueSurface:
    forward_vols = draw(st.lists(st.floats(0.1, 0.9), min_size=3, max_size=8))
    years = np.linspace(0.0, 1.0, len(forward_vols) + 1)
    theta = np.concatenate([[0.0], np.cumsum(np.square(forward_vols) * np.diff(years))])
    weight, ratio = draw(st.floats(0.02, 0.4)), draw(st.floats(1.0, 2.2))
    return TrueSurface(VarianceClock(years, theta), draw(smiles), draw(smiles), weight, ratio)


@settings(max_examples=60)
@given(surfaces())
def test_whatever_it_accepts_is_free_of_arbitrage(surface: TrueSurface) -> None:
    variance = surface.total_variance(GRID, DAYS[:, None] / 365.0)
    assert np.all(np.isfinite(variance))
    # A kink of the sharpest smiles is a few grid points wide: the margin is the finite differences' error.
    assert float(grid_durrleman_g(jnp.asarray(GRID), jnp.asarray(variance)).min()) > -5e-4
    assert float(calendar_gap(jnp.asarray(variance)).min()) > 0.0


@settings(max_examples=60)
@given(smiles)
def test_wings_rise_and_curvature_falls_with_variance(smile: ExtendedSSVI) -> None:
    theta = np.geomspace(1e-9, 3.0, 400)
    left, right = smile.left.at(theta), smile.right.at(theta)
    assert np.all(np.diff(np.sqrt(theta) * left) > 0.0)
    assert np.all(np.diff(np.sqrt(theta) * right) > 0.0)
    assert np.all(np.diff((left + right) / np.sqrt(theta)) < 0.0)


@settings(max_examples=30)
@given(surfaces())
def test_price_lies_between_the_parts_and_agrees_with_black(surface: TrueSurface) -> None:
    k, years = np.linspace(-0.6, 0.6, 25), 0.25
    premium, deviation = surface.price_and_deviation(k, years)
    black = np.asarray(price(jnp.asarray(k), jnp.asarray(deviation), jnp.asarray(k >= 0.0)))
    np.testing.assert_allclose(premium, black, rtol=1e-10)
    theta = surface.clock.theta(np.full_like(k, years))
    calm, wild = (
        np.sqrt(part.total_variance(k, theta * ratio**2))
        for part, ratio in zip((surface.calm, surface.wild), surface.ratios, strict=True)
    )
    slack = 1e-12
    assert np.all(deviation >= np.minimum(calm, wild) - slack)
    assert np.all(deviation <= np.maximum(calm, wild) + slack)


def test_at_the_money_the_variance_is_the_clocks_for_short_expiries() -> None:
    smile = ExtendedSSVI(Slope(1.2, 0.9, 0.01), Slope(0.8, 0.5, 0.01))
    surface = TrueSurface(VarianceClock(np.array([0.0, 1.0]), np.array([0.0, 0.25])), smile, smile, 0.1, 1.8)
    for years in (1e-5, 1e-3):
        assert surface.total_variance(0.0, years) == pytest.approx(0.25 * years, rel=0.02 * years)


@given(st.floats(0.0, 2.0), st.floats(1e-4, 2.5), st.floats(0.7, 1.3))
def test_implied_deviation_inverts_the_log_price_even_where_the_price_underflows(
    distance: float, deviation: float, wrong: float
) -> None:
    if distance / deviation > 300.0:  # prices down to e^-45000
        return
    at = np.array([distance])
    target = log_otm_call(at, np.array([deviation]))
    found = implied_deviation(at, target, np.array([deviation * wrong]))
    found = implied_deviation(at, target, found)
    np.testing.assert_allclose(found, deviation, rtol=1e-9)


def test_mills_ratio_is_the_normal_tail_over_its_density() -> None:
    special = pytest.importorskip("scipy.special")
    x = np.linspace(-6.0, 400.0, 5000)
    expected = np.sqrt(np.pi / 2.0) * special.erfcx(x / np.sqrt(2.0))
    np.testing.assert_allclose(mills_ratio(x), expected, rtol=2e-14)


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        (Slope(2.1, 1.0, 0.01), Slope(1.9, 1.0, 0.01), "butterfly"),
        (Slope(0.05, 1.0, 0.01), Slope(0.5, 0.5, 0.01), "left wing slope"),
        (Slope(0.5, 0.5, 0.01), Slope(0.5, -0.5, 0.01), "right wing slope"),
    ],
)
def test_a_smile_that_could_hold_arbitrage_is_refused(left: Slope, right: Slope, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ExtendedSSVI(left, right)


def test_a_surface_that_could_hold_arbitrage_is_refused() -> None:
    smile = ExtendedSSVI(Slope(1.2, 0.9, 0.01), Slope(0.8, 0.5, 0.01))
    calm = VarianceClock(np.array([0.0, 1.0]), np.array([0.0, 0.25]))
    with pytest.raises(InputError, match="wild_weight"):
        TrueSurface(calm, smile, smile, wild_weight=0.6, wild_ratio=2.0)
    with pytest.raises(InputError, match="must stay below 4"):
        TrueSurface(VarianceClock(np.array([0.0, 9.0]), np.array([0.0, 30.0])), smile, smile, 0.1, 1.5)
    with pytest.raises(InputError, match="rise strictly"):
        VarianceClock(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.2, 0.1]))
