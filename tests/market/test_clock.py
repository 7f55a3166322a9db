"""The variance clock is a clock; the carried level and smile meet their nodes and stay where they must."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market import clock
from volgrad.market.instruments import YEAR_US

DAY_US = 86_400_000_000
WEEK_US = 7 * DAY_US
MONDAY_US = 1_772_409_600_000_000  # 2026-03-02, 00:00 UTC
times_us = st.integers(1_600_000_000_000_000, 1_900_000_000_000_000)
gaps = st.lists(st.floats(0.2, 60.0), min_size=2, max_size=12)


def chain(day_gaps, seed=0):
    """Clock years and total variances of a chain whose volatility wanders, total variance increasing."""
    years = np.cumsum(day_gaps) / 365
    steps = np.random.default_rng(seed).uniform(0.2, 1.2, len(years))
    return years, np.cumsum(steps**2 * np.diff(years, prepend=0.0))


@given(start=times_us, weeks=st.integers(0, 100))
def test_whole_weeks_are_calendar_time(start, weeks):
    assert clock.clock_years(start, start + weeks * WEEK_US) == pytest.approx(weeks * WEEK_US / YEAR_US, abs=1e-12)


@given(times=st.tuples(times_us, times_us, times_us))
def test_the_clock_is_additive_and_increasing(times):
    first, middle, last = sorted(times)
    whole = clock.clock_years(first, last)
    assert clock.clock_years(first, middle) + clock.clock_years(middle, last) == pytest.approx(whole, abs=1e-12)
    assert clock.clock_years(last, first) == pytest.approx(-whole, abs=1e-12)
    assert clock.clock_years(first, last + 1_000_000) > whole >= 0


@given(start=times_us, length_us=st.integers(1_000_000, 400 * DAY_US))
def test_the_clock_stays_near_calendar_time(start, length_us):
    lag_days = 365 * clock.clock_years(start, start + length_us) - length_us / DAY_US
    assert abs(lag_days) < 1.0


def test_the_weights_are_a_week_that_rests_on_saturday():
    days = clock.WEEK_WEIGHTS.reshape(7, 24).mean(axis=1)
    assert clock.WEEK_WEIGHTS.shape == (168,)
    assert clock.WEEK_WEIGHTS.min() > 0
    assert days.mean() == pytest.approx(1.0)
    assert days.argmin() == 5
    assert days[5] < 0.5 * days[6] < days[:5].min()
    # the hour that straddles the American open is the busiest of a working day
    assert clock.WEEK_WEIGHTS[:24].argmax() in range(13, 16)


def test_hours_are_counted_with_their_own_weight():
    hours = MONDAY_US + np.arange(169) * (DAY_US // 24)
    counted = np.diff(clock.clock_years(MONDAY_US, hours)) * 365 * 24
    np.testing.assert_allclose(counted, clock.WEEK_WEIGHTS, rtol=1e-9)


@given(day_gaps=gaps, vol=st.floats(0.05, 3.0))
def test_flat_volatility_stays_flat(day_gaps, vol):
    years = np.cumsum(day_gaps) / 365
    asked = np.concatenate([years[:1] / 3, 0.5 * (years[1:] + years[:-1]), 2 * years[-1:]])
    carried = clock.carried_level(years, vol**2 * years, asked)
    np.testing.assert_allclose(carried, vol**2 * asked, rtol=1e-7)


@given(day_gaps=gaps, seed=st.integers(0, 99))
def test_every_expiry_keeps_its_own_level_and_smile(day_gaps, seed):
    years, level = chain(day_gaps, seed)
    smile = np.random.default_rng(seed).normal(0.0, 0.2, (len(years), 5))
    np.testing.assert_allclose(clock.carried_level(years, level, years), level, rtol=1e-9)
    np.testing.assert_allclose(clock.carried_smile(years, smile, years, np.zeros_like(smile)), smile, atol=1e-9)


@given(day_gaps=gaps, seed=st.integers(0, 99))
def test_the_level_lies_between_the_expiries_around(day_gaps, seed):
    years, level = chain(day_gaps, seed)
    asked = np.sort(np.concatenate([np.linspace(a, b, 9)[1:-1] for a, b in itertools.pairwise(years)]))
    carried = clock.carried_level(years, level, asked).reshape(-1, 7)
    assert np.all(carried >= level[:-1, None])
    assert np.all(carried <= level[1:, None])
    assert 0 < clock.carried_level(years, level, years[:1] / 2)[0] <= level[0]
    assert clock.carried_level(years, level, 2 * years[-1:])[0] >= level[-1]


@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10.0))
def test_the_level_scales_with_variance(seed, scale):
    years, level = chain([1.5, 1.0, 4.0, 7.0, 20.0, 60.0], seed)
    asked = np.array([3.0, 10.0, 50.0]) / 365
    carried = clock.carried_level(years, level, asked)
    np.testing.assert_allclose(clock.carried_level(years, scale * level, asked), scale * carried, rtol=1e-9)


def test_an_expiry_that_is_left_out_comes_back_nearer_than_by_linear_variance():
    years = np.array([1.5, 2.5, 6.0, 13.0, 34.0, 62.0, 90.0, 180.0, 300.0]) / 365
    for slope in (-0.05, 0.05):  # backwardation and contango, as smooth in ln c as the market's
        vol = 0.5 + slope * np.tanh(0.5 * np.log(years / 0.1))
        level = vol**2 * years
        for out in range(1, len(years) - 1):
            kept = np.arange(len(years)) != out
            carried = clock.carried_level(years[kept], level[kept], years[out : out + 1])[0]
            linear = np.interp(years[out], years[kept], level[kept])
            error, linear_error = (abs(np.sqrt(w / years[out]) - vol[out]) for w in (carried, linear))
            assert error < min(0.003, linear_error)


def test_the_level_is_continuous_in_time():
    years, level = chain([1.5, 1.0, 1.0, 4.0, 7.0, 20.0, 60.0], seed=3)
    asked = np.geomspace(years[0] / 4, 2 * years[-1], 20_001)
    carried = clock.carried_level(years, level, asked)
    assert np.abs(np.diff(np.log(carried))).max() < 0.002


def test_a_noisy_node_is_smoothed_and_a_worthless_one_ignored():
    years, _ = chain([1.5, 1.0, 4.0, 7.0, 20.0, 60.0])
    level = 0.5**2 * years
    level[2] *= 1.1**2
    error = np.where(np.arange(6) == 2, 0.1, 0.0)
    exact, smoothed, ignored = (
        np.sqrt(clock.carried_level(years, level, years[2:3], e) / years[2])[0] for e in (0.0, error, 1e6 * error)
    )
    assert exact == pytest.approx(0.55)
    assert 0.5 < smoothed < 0.55
    assert ignored == pytest.approx(0.5, abs=1e-6)


def test_an_unquoted_wing_leans_on_the_expiries_that_quote_it():
    years = np.array([2.0, 9.0, 30.0]) / 365
    x = np.array([-5.0, 0.0, 1.0])
    smile = np.array([[0.6, 0.0, 0.1], [3.0, 0.0, 0.1], [0.6, 0.0, 0.1]])  # the middle one's left wing is a guess
    error = clock.smile_error(x, np.array([-6.0, -1.0, -6.0]), np.full(3, 2.0))
    at_node = clock.carried_smile(years, smile, years[1:2], error)[0]
    assert at_node[0] < 1.5
    np.testing.assert_allclose(at_node[1:], smile[1, 1:], atol=1e-9)


def test_the_smile_error_grows_outside_the_quotes_only():
    x = np.array([-8.0, -4.0, -2.0, 0.0, 1.0, 3.0])
    error = clock.smile_error(x, np.array([-2.0, -8.0]), np.array([1.0, 3.0]))
    assert error.shape == (2, 6)
    assert np.all(error[1] == 0)
    assert np.all(error[0, 2:5] == 0)
    assert error[0, 0] > error[0, 1] > 0 < error[0, 5]


def test_one_expiry_alone_carries_its_volatility():
    years = np.array([0.1])
    assert clock.carried_level(years, np.array([0.025]), np.array([0.2]))[0] == pytest.approx(0.05)


@pytest.mark.parametrize("years", [[], [0.0, 0.1], [0.2, 0.1], [0.1, 0.1], [np.nan, 0.1]])
def test_expiries_out_of_order_are_refused(years):
    with pytest.raises(InputError, match="must ascend from above 0"):
        clock.carried_level(np.array(years, np.float64), np.ones(len(years)), np.array([0.1]))


def test_a_total_variance_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match=r"total variance -0\.1 at expiry 1 of 2"):
        clock.carried_level(np.array([0.1, 0.2]), np.array([0.1, -0.1]), np.array([0.15]))


def at_the_money_chains(table, stamps):
    """Years, clock years and total variances of each chain's expiries, from the marks nearest the forward."""
    table = table.filter(pl.col("ts").is_in(stamps.implode())).with_columns(
        away=(pl.col("strike") / pl.col("underlying")).log().abs(),
        years=(pl.col("expiry") - pl.col("ts")).dt.total_seconds() / (365 * 86_400),
    )
    near = table.filter(pl.col("years") > 1 / 365).sort("away").group_by("ts", "ccy", "expiry").head(4)
    expiries = near.group_by("ts", "ccy", "expiry").agg(pl.col("mark_iv").mean() / 100, pl.col("years").first())
    for _, one in expiries.sort("expiry").group_by("ts", "ccy"):
        ts_us, expiry_us = (one[name].dt.epoch("us").to_numpy() for name in ("ts", "expiry"))
        years = clock.clock_years(ts_us, expiry_us)
        yield one["years"].to_numpy(), years, (one["mark_iv"] ** 2 * one["years"]).to_numpy()


def test_real_expiries_left_out_come_back_nearer_than_by_linear_variance(shared_data):
    table = pl.read_parquet(shared_data / "deribit_snap_202603.parquet")
    stamps = table["ts"].unique().sort()[::5]
    errors = []
    for calendar, years, level in at_the_money_chains(table, stamps):
        for out in range(1, len(years) - 1):
            kept = np.arange(len(years)) != out
            carried = clock.carried_level(years[kept], level[kept], years[out : out + 1])[0]
            linear = np.interp(calendar[out], calendar[kept], level[kept])
            errors.append([np.sqrt(w / calendar[out]) - np.sqrt(level[out] / calendar[out]) for w in (carried, linear)])
    kriged, linear = np.sqrt(np.mean(np.square(errors), axis=0))
    assert len(errors) > 300
    assert kriged < 0.6 * linear
    assert kriged < 0.006


@pytest.mark.parametrize("time", [0.0, -0.1, np.nan])
def test_a_time_that_has_passed_is_refused(time):
    years = np.array([0.1, 0.2])
    with pytest.raises(InputError, match="ask for times above 0"):
        clock.carried_level(years, years, np.array([time]))
    with pytest.raises(InputError, match="ask for times above 0"):
        clock.carried_smile(years, np.zeros((2, 1)), np.array([time]), np.zeros((2, 1)))
