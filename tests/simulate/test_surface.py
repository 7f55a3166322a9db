"""Laws of the map from a market's state to its surface: free of arbitrage in any state, one formula in two forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.market.arbitrage import calendar_gap, grid_durrleman_g
from volgrad.models.certificate import certify
from volgrad.simulate.listing import DAY_US, HOUR_US, listed_expiries
from volgrad.simulate.path import MarketState
from volgrad.simulate.surface import (
    Skew,
    clock_integrals,
    day_weight,
    ends,
    smiles_of,
    surface_of,
    theta_of,
)
from volgrad.simulate.truth import essvi_variance, mixed

GRID = 1.5 * np.sinh(np.linspace(-5.0, 5.0, 401)) / np.sinh(5.0)
stamps = st.integers(1_600_000_000_000_000, 2_200_000_000_000_000)
wild = st.floats(-30.0, 30.0)
near = st.floats(-0.4, 0.4)


@st.composite
def states(draw: st.DrawFn, factor: st.SearchStrategy = wild) -> MarketState:
    """States near and far beyond what any path reaches."""
    one = st.one_of(near, factor)
    stress = draw(st.floats(0.0, 30.0))
    return MarketState(9e4, draw(one), draw(one), draw(one), draw(one), 0.0, 0.0, stress)


def columns(state: MarketState) -> dict[str, np.ndarray]:
    return {name: np.array([getattr(state, name)]) for name in ("fast", "short", "long", "stress", "skew")}


def surface(ts_us: int, state: MarketState, tilt: float, vols=(0.52, 0.65)):
    curve = tuple(float(end[0]) for end in ends(columns(state), *vols))
    return surface_of(ts_us, curve, Skew(tilt, state.skew, state.stress))


@settings(max_examples=40)
@given(stamps, states(), st.sampled_from([0.0, -0.15]))
def test_any_state_at_any_time_gives_a_surface_free_of_arbitrage(ts_us, state, tilt):
    truth = surface(ts_us, state, tilt)
    years = np.concatenate([[1e-6, 1e-4], (listed_expiries(ts_us) - ts_us) / (365 * DAY_US), [1.3]])
    variance = jnp.asarray(truth.total_variance(GRID, np.sort(years)[:, None]))
    assert bool(jnp.all(jnp.isfinite(variance)))
    assert float(grid_durrleman_g(jnp.asarray(GRID), variance).min()) > -5e-4  # the finite differences' error
    assert float(calendar_gap(variance).min()) > 0.0


@settings(max_examples=10)
@given(stamps, states(near))
def test_the_certificate_of_the_fits_finds_it_clean(ts_us, state):
    assert certify(surface(ts_us, state, 0.0), np.geomspace(0.002, 1.1, 40)).clean


@settings(max_examples=40)
@given(stamps, states(), st.integers(1, 2 * HOUR_US))
def test_many_moments_at_once_are_each_one_by_itself(ts_us, state, span):
    ticks = np.unique(np.linspace(ts_us, min(ts_us + span, ts_us // DAY_US * DAY_US + DAY_US - 1), 3).astype(np.int64))
    expiry_us = listed_expiries(int(ticks[-1]))
    values = {name: np.repeat(column, ticks.size) for name, column in columns(state).items()}
    theta = theta_of(clock_integrals(ticks, expiry_us), ends(values, 0.52, 0.65))
    smiles = smiles_of(theta, Skew(-0.15, values["skew"], values["stress"]))
    for tick, stamp in enumerate(ticks.tolist()):
        truth = surface(stamp, state, -0.15)
        years = (expiry_us - stamp) / (365 * DAY_US)
        np.testing.assert_allclose(theta[tick], truth.clock.theta(years), rtol=1e-9)
        k = 0.7 * np.sqrt(theta[tick])
        parts = essvi_variance(k, smiles.theta[:, tick], smiles.phi[:, tick], smiles.rho[:, tick])
        _, deviation = mixed(k, *np.sqrt(parts), smiles.wild_weight[tick])
        np.testing.assert_allclose(deviation**2, truth.total_variance(k, years), rtol=1e-9)


def test_a_week_has_its_seven_days_and_saturday_is_quiet():
    days = 1_767_571_200_000_000 + np.arange(7 * 19) * DAY_US  # 19 weeks from a Monday: every phase of the event days
    assert day_weight(days).mean() == pytest.approx(1.0, abs=0.07)  # the event days come on top
    usual = np.median(day_weight(days).reshape(19, 7), axis=0)
    assert np.argmin(usual) == 5
    assert usual[6] < usual[:5].min()


@given(stamps)
def test_stress_lifts_the_short_end_most_and_steepens_the_skew(ts_us):
    years = np.array([5.0, 40.0, 300.0]) / 365.0
    calm, shaken = (surface(ts_us, MarketState(9e4, stress=stress), 0.0) for stress in (0.0, 1.0))
    lift = np.sqrt(shaken.total_variance(0.0, years) / calm.total_variance(0.0, years))
    assert np.all(lift > 1.05)
    assert np.all(np.diff(lift) < 0.0)
