"""Laws of the market's path: exact transitions, one law at every cadence, shared happenings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.simulate.happenings import LAWS
from volgrad.simulate.listing import DAY_US
from volgrad.simulate.path import FACTORS, MarketState, Walk, autoregress

START_US = 1_767_571_200_000_000  # 2026-01-05, a Monday
MINUTE_US = 60_000_000


def walked(seed: int, every_us: int, ticks: int, restless: bool = True, pieces: int = 1):
    walk = Walk([seed], MarketState(90_000.0), START_US, (0.38, 0.47), restless)
    stamps = START_US + np.arange(ticks) * every_us
    paths = [walk.advance(part, every_us) for part in np.array_split(stamps, pieces)]
    return walk, {name: np.concatenate([path.values[name] for path in paths]) for name in paths[0].values}, paths


@given(
    st.floats(-5.0, 5.0),
    st.sampled_from([0.0, 1e-9, 0.3, 0.999, 1.0]),
    st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=300),
)
def test_autoregress_is_the_recursion(start, keep, pushed):
    found, expected = autoregress(start, keep, np.array(pushed)), []
    for push in pushed:
        expected.append(keep * (expected[-1] if expected else start) + push)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_autoregress_runs_columns_side_by_side():
    pushed = np.arange(12.0).reshape(4, 3)
    start = np.array([1.0, 2.0, 3.0])
    both = autoregress(start, 0.7, pushed)
    for column in range(3):
        np.testing.assert_allclose(both[:, column], autoregress(start[column], 0.7, pushed[:, column]))


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_coarser_moments_are_on_the_same_path(seed, hours):
    """From five minutes on the inner steps are the same, so the hourly market is the 5-minute one looked at hourly."""
    fine = walked(seed, 5 * MINUTE_US, 12 * hours * 6 + 1)[1]
    coarse = walked(seed, 60 * hours * MINUTE_US, 7)[1]
    for name, column in coarse.items():
        np.testing.assert_allclose(column, fine[name][:: 12 * hours], rtol=1e-9, atol=1e-12)


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_switches_and_jumps_are_those_of_the_seed_at_every_cadence(seed):
    days = 20
    walks = [walked(seed, every, days * DAY_US // every + 1)[0] for every in (5 * MINUTE_US, 7 * MINUTE_US, DAY_US)]
    end = START_US + (days - 1) * DAY_US
    for walk in walks[1:]:
        for of_one, of_first in ((walk.switches, walks[0].switches), (walk.jumps, walks[0].jumps)):
            assert [one for one in of_one if one.ts_us < end] == [one for one in of_first if one.ts_us < end]


def moments(every_us: int, seeds: range) -> dict[str, np.ndarray]:
    """Means and deviations over seeds of the state six hours after the start."""
    ends = {name: [] for name in ("log_spot", *FACTORS)}
    for seed in seeds:
        values = walked(seed, every_us, 6 * 60 * MINUTE_US // every_us + 1)[1]
        ends["log_spot"].append(np.log(values["spot_usd"][-1] / 90_000.0))
        for name in FACTORS:
            ends[name].append(values[name][-1])
    return {name: np.array(column) for name, column in ends.items()}


def test_the_law_is_the_same_at_one_minute_and_at_five():
    one, five = moments(MINUTE_US, range(600)), moments(5 * MINUTE_US, range(1000, 1600))
    for name in one:
        low, high = (np.quantile(column[name], [0.16, 0.84]) for column in (one, five))
        assert np.subtract(*low[::-1]) == pytest.approx(np.subtract(*high[::-1]), rel=0.2)
        apart = (one[name].mean() - five[name].mean()) / np.hypot(one[name].std(), five[name].std()) * np.sqrt(600)
        assert abs(apart) < 4.0


def test_a_restful_factor_has_its_own_stationary_law():
    values = walked(3, 60 * MINUTE_US, 24 * 3000, restless=False)[1]
    for name, factor in FACTORS.items():
        if factor.half_life_days > 10.0:
            continue  # too few independent draws
        target = getattr(LAWS[0], name, 0.0)
        agitation = LAWS[0].agitation if name in ("fast", "short") else 1.0
        deviation = agitation * factor.stationary
        assert values[name].std() == pytest.approx(deviation, rel=0.15)
        assert values[name].mean() == pytest.approx(target, abs=0.25 * deviation)
        day = round(24 * factor.half_life_days) or 1
        if day > 1:
            assert np.corrcoef(values[name][:-day], values[name][day:])[0, 1] == pytest.approx(0.5, abs=0.12)


def test_spot_and_short_volatility_move_against_each_other():
    values = walked(4, 60 * MINUTE_US, 24 * 200, restless=False)[1]
    returns = np.diff(np.log(values["spot_usd"]))
    for name in ("fast", "short", "long"):
        assert np.corrcoef(returns, np.diff(values[name]))[0, 1] == pytest.approx(FACTORS[name].with_spot, abs=0.1)


@given(st.integers(2, 40))
def test_the_path_does_not_depend_on_how_it_is_cut(pieces):
    whole, cut = walked(9, 7 * MINUTE_US, 100)[1], walked(9, 7 * MINUTE_US, 100, pieces=pieces)[1]
    for name in whole:
        np.testing.assert_allclose(whole[name], cut[name], rtol=1e-10, atol=1e-13)


def test_variance_between_moments_is_that_of_the_inner_returns():
    _, values, (path,) = walked(2, 5 * MINUTE_US, 50)
    returns = np.diff(np.log(values["spot_usd"]), prepend=np.log(90_000.0))
    np.testing.assert_allclose(path.variance, returns**2, rtol=1e-6, atol=1e-18)
    assert path.variance[0] == 0.0


def test_the_mark_lags_and_catches_up():
    walk = Walk([1], MarketState(90_000.0), START_US, (0.38, 0.47), False)
    first = walk.advance(np.array([START_US]), MINUTE_US)
    walk.struck(first, 1.0)
    path = walk.advance(START_US + MINUTE_US * np.arange(1, 31), MINUTE_US)
    behind = path.values["stress"] - path.lagged["stress"]
    assert behind[0] > 0.5
    assert np.all(np.diff(behind) < 0.0)
    assert abs(behind[-1]) < 0.02


@pytest.mark.parametrize("size", [0.0, 0.5, 1.5])
def test_a_shock_lowers_spot_and_adds_stress(size):
    walk = Walk([1], MarketState(90_000.0), START_US, (0.38, 0.47), False)
    before = walk.advance(START_US + MINUTE_US * np.arange(2), MINUTE_US)
    after = walk.struck(before, size)
    assert after.state(0) == before.state(0)
    assert after.state(1).stress == before.state(1).stress + size
    assert np.log(after.state(1).spot_usd / before.state(1).spot_usd) == pytest.approx(-0.09 * size)
