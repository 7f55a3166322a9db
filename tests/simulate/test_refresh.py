"""Laws of the refreshes: Poisson in time and in variance, one law however it is drawn; processes keep their law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.simulate.contracts import Standing
from volgrad.simulate.refresh import HALF_LIVES_MINUTES, PROCESSES, refresh_rates, refreshes, renew

MINUTE_US = 60_000_000
ROWS = 40


def drawn(ticks: int, a_tick: float, seed: int, variance: np.ndarray | None = None, new: bool = False):
    rates = (np.full(ROWS, a_tick / MINUTE_US), np.linspace(0.5, 2.0, ROWS))
    variance = np.zeros(ticks) if variance is None else variance
    return refreshes(MINUTE_US, variance, rates, np.full(ROWS, new), np.random.default_rng(seed))


@settings(max_examples=40)
@given(st.integers(1, 30), st.sampled_from([0.001, 0.1, 0.5, 3.0]), st.integers(0, 2**32), st.booleans())
def test_the_list_is_in_order_and_knows_its_own(ticks, a_tick, seed, new):
    found = drawn(ticks, a_tick, seed, np.full(ticks, 0.05), new)
    cell = found.tick * ROWS + found.row
    assert np.all(np.diff(cell) > 0)
    latest = found.latest(ticks)
    for place, (tick, row) in enumerate(zip(found.tick, found.row, strict=True)):
        assert latest[tick, row] == place
        assert found.before[place] == (latest[tick - 1, row] if tick else -1)
    np.testing.assert_array_equal(found.final, latest[-1])
    if new:
        assert np.all(latest[0] >= 0)


@pytest.mark.parametrize("a_tick", [0.02, 0.29, 0.31, 1.5], ids=lambda rate: f"{rate} a moment")
def test_the_chance_of_a_refresh_is_poissons_either_way_of_drawing(a_tick):
    ticks = 4000
    variance = np.where(np.arange(ticks) % 2 == 0, 0.0, 0.4 * a_tick)
    found = drawn(ticks, a_tick, 3, variance)
    hit = np.zeros((ticks, ROWS))
    hit[found.tick, found.row] = 1.0
    quiet, moved = hit[::2].mean(), hit[1::2].mean(axis=0)
    assert quiet == pytest.approx(-np.expm1(-a_tick), rel=0.05)
    expected = -np.expm1(-a_tick * (1.0 + 0.4 * np.linspace(0.5, 2.0, ROWS)))
    assert np.all(np.abs(moved - expected) < 5.0 * np.sqrt(expected / ticks * 2.0))


def test_two_short_moments_refresh_as_often_as_a_long_one():
    rates = (np.full(ROWS, 0.4 / MINUTE_US), np.zeros(ROWS))
    none = np.zeros(ROWS, bool)
    long = refreshes(2 * MINUTE_US, np.zeros(3000), rates, none, np.random.default_rng(1))
    short = refreshes(MINUTE_US, np.zeros(6000), rates, none, np.random.default_rng(2))
    pairs = np.unique(short.tick // 2 * ROWS + short.row).size
    assert pairs == pytest.approx(long.tick.size, rel=0.02)


@pytest.mark.parametrize("every_us", [MINUTE_US // 600, MINUTE_US, 30 * MINUTE_US])
def test_processes_keep_variance_one_and_their_half_lives(every_us):
    random = np.random.default_rng(7)
    standing = Standing.fresh(4000, len(PROCESSES), 0, random)
    first = standing.moods.copy()
    lag = 60 * MINUTE_US
    ticks = lag // every_us if every_us >= MINUTE_US else 20
    steps = np.linspace(lag / ticks, lag, ticks).astype(np.int64)
    rates = (np.full(4000, 3.0 / lag), np.zeros(4000))
    at = refreshes(lag // ticks, np.zeros(ticks), rates, np.zeros(4000, bool), random)
    renew(standing, at, steps, random)
    all_at_end = refreshes(1, np.zeros(1), rates, np.ones(4000, bool), random)
    moods, rounds = renew(standing, all_at_end, np.array([lag]), random)
    assert len(rounds) == 1
    np.testing.assert_allclose(moods.std(axis=0), 1.0, atol=0.05)
    for place, half_life in enumerate(HALF_LIVES_MINUTES.values()):
        kept = np.corrcoef(first[:, place], moods[:, place])[0, 1]
        assert kept == pytest.approx(0.5 ** (60.0 / half_life), abs=0.06)


def test_rounds_hold_each_option_once_and_in_time():
    random = np.random.default_rng(1)
    standing = Standing.fresh(ROWS, len(PROCESSES), 0, random)
    found = drawn(30, 0.8, 5)
    _, rounds = renew(standing, found, np.arange(1, 31) * MINUTE_US, random)
    assert np.array_equal(np.sort(np.concatenate(rounds)), np.arange(found.row.size))
    seen = np.full(ROWS, -1)
    for part in rounds:
        assert np.unique(found.row[part]).size == part.size
        assert np.all(found.tick[part] > seen[found.row[part]])
        seen[found.row[part]] = found.tick[part]
    np.testing.assert_array_equal(standing.refreshed_us, np.where(found.final >= 0, (seen + 1) * MINUTE_US, 0))


def test_near_short_and_out_of_the_money_is_quoted_anew_most_often():
    delta, years = np.array([0.02, 0.1, 0.4]), np.full(3, 0.1)
    outside, inside = np.zeros(3, bool), np.ones(3, bool)
    half, net = np.full(3, 1e-3), np.full(3, 0.3)
    by_time, by_variance = refresh_rates(delta, outside, years, half, net)
    assert np.all(np.diff(by_time) > 0.0)
    assert np.all(refresh_rates(delta, outside, years / 20.0, half, net)[0] > by_time)
    assert np.all(refresh_rates(delta, inside, years, half, net)[0] <= by_time)
    assert np.all(refresh_rates(delta, outside, years, 2.0 * half, net)[1] < by_variance)
