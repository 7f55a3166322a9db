"""Laws of the autocorrelation time: series whose time is known, gaps, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.batching.autocorrelation import autocorrelation_time, autocovariance


def autoregressive(seed, count, phi):
    """A stationary AR(1): its integrated autocorrelation time is (1 + phi) / (1 - phi)."""
    noise = np.random.default_rng(seed).standard_normal(count)
    series = np.empty(count)
    series[0] = noise[0]
    for at in range(1, count):
        series[at] = phi * series[at - 1] + math.sqrt(1 - phi**2) * noise[at]
    return series


def effective(count, phi):
    """Independent values with the variance of the mean of an AR(1): exact."""
    lag = np.arange(1, count)
    return count / (1 + 2 * np.sum((1 - lag / count) * phi**lag))


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.5, 0.8])
def test_the_time_of_an_autoregression_lies_in_its_interval(phi):
    held, worth, times = 0, 0, []
    for seed in range(40):
        found = autocorrelation_time(autoregressive(seed, 500, phi), np.arange(500.0))
        held += found.low <= (1 + phi) / (1 - phi) <= found.high
        worth += found.effective_low <= effective(500, phi) <= found.effective_high
        times.append(found.time)
    assert held >= 33  # of 40 at 95 %: fewer has a chance of 2e-4
    assert worth >= 33
    assert np.exp(np.mean(np.log(times))) == pytest.approx((1 + phi) / (1 - phi), rel=0.12)


def test_the_time_of_a_moving_average_is_found():
    noise = np.random.default_rng(1).standard_normal(20_001)
    found = autocorrelation_time(noise[1:] + 0.6 * noise[:-1], np.arange(20_000.0))
    assert found.time == pytest.approx(1 + 2 * 0.6 / (1 + 0.36), rel=0.05)
    assert found.variance_time == pytest.approx(1 + 2 * (0.6 / 1.36) ** 2, rel=0.05)
    assert found.resolved


def test_autocovariances_are_mean_products():
    series = autoregressive(1, 50, 0.6)
    covariance, pairs = autocovariance(series[:, None], np.arange(50.0), 1.0, 5)
    centred = series - series.mean()
    expected = [centred.var(), *(np.mean(centred[lag:] * centred[:-lag]) for lag in range(1, 6))]
    np.testing.assert_allclose(covariance, expected)
    assert pairs.tolist() == [0, 49, 48, 47, 46, 45]


@given(seed=st.integers(0, 1000), shift=st.floats(-1e9, 1e9), unit=st.floats(0.001, 1000.0), scale=st.floats(0.1, 10.0))
@settings(max_examples=25)
def test_units_and_origins_do_not_matter(seed, shift, unit, scale):
    series, times = autoregressive(seed, 60, 0.5), np.arange(60.0)
    plain = autocorrelation_time(series, times)
    other = autocorrelation_time(5.0 - scale * series, np.rint(shift) + unit * times, step=unit)
    assert other.time == pytest.approx(plain.time, rel=1e-6)
    assert other.effective == pytest.approx(plain.effective, rel=1e-6)


@given(seed=st.integers(0, 1000), jitter=st.floats(0.0, 0.4))
@settings(max_examples=25)
def test_times_that_round_to_the_same_lags_are_the_same_series(seed, jitter):
    series, rng = autoregressive(seed, 60, 0.5), np.random.default_rng(seed)
    moved = np.arange(60.0) + 0.5 * jitter * rng.uniform(-1, 1, 60)
    plain, other = autocorrelation_time(series, np.arange(60.0)), autocorrelation_time(series, moved, step=1.0)
    assert other.time == pytest.approx(plain.time)


def test_a_gap_takes_pairs_away_and_nothing_else():
    series = np.concatenate([autoregressive(seed, 1500, 0.8) for seed in (1, 2)])
    apart = np.concatenate([np.arange(1500.0), 1e6 + np.arange(1500.0)])
    covariance, pairs = autocovariance(series[:, None], apart, 1.0, 3)
    assert pairs.tolist() == [0, 2 * 1499, 2 * 1498, 2 * 1497]
    found = autocorrelation_time(series, apart)
    assert found.low < 9.0 < found.high
    assert found.effective == pytest.approx(3000 / found.time, rel=0.05)
    assert covariance[1] / covariance[0] == pytest.approx(0.8, abs=0.05)


def test_missing_values_leave_the_estimate_where_it_was():
    series, rng = autoregressive(3, 3000, 0.8), np.random.default_rng(3)
    kept = np.sort(rng.permutation(3000)[:1500])
    found = autocorrelation_time(series[kept], kept.astype(float), step=1.0)
    assert found.low < 9.0 < found.high
    lag = np.rint(np.subtract.outer(kept, kept))
    exact = kept.size**2 / np.sum(0.8 ** np.abs(lag))
    assert found.effective_low < exact < found.effective_high


def test_values_at_one_time_are_worth_one():
    series, times = autoregressive(1, 4000, 0.0), np.arange(4000.0)
    twice = autocorrelation_time(np.repeat(series, 2), np.repeat(times, 2))
    assert twice.effective == pytest.approx(4000, rel=0.15)
    assert twice.effective == pytest.approx(autocorrelation_time(series, times).effective, rel=0.05)


def test_a_vector_of_copies_is_the_series():
    series, times = autoregressive(1, 200, 0.5), np.arange(200.0)
    both = autocorrelation_time(np.stack([series, -2 * series], axis=1), times)
    assert both.time == pytest.approx(autocorrelation_time(series, times).time)


def test_a_short_series_is_told_from_a_long_one():
    assert not autocorrelation_time(autoregressive(1, 60, 0.95), np.arange(60.0)).resolved
    assert autocorrelation_time(autoregressive(1, 4000, 0.95), np.arange(4000.0)).resolved


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [2.0] * 9])
def test_nothing_is_made_of_nothing(values):
    found = autocorrelation_time(np.array(values), np.arange(float(len(values))))
    assert math.isnan(found.time)
    assert math.isnan(found.effective)
    assert not found.resolved


def test_times_all_alike_are_no_series():
    assert math.isnan(autocorrelation_time(np.arange(5.0), np.zeros(5)).time)


@pytest.mark.parametrize(
    ("values", "times"), [([1.0, 2.0], [1.0, 0.0]), ([1.0, math.nan], [0.0, 1.0]), ([1.0, 2.0], [0.0])]
)
def test_what_cannot_be_meant_is_refused(values, times):
    with pytest.raises(ValueError, match="order of time"):
        autocorrelation_time(np.array(values), np.array(times))
