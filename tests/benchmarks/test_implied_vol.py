"""The race of implied volatilities: its options are right and its runner tells answers from failures."""

import dataclasses

import numpy as np
import pytest

from benchmarks import implied_vol as race
from volgrad.market import black


@pytest.mark.parametrize("name", list(race.SETS))
def test_prices_are_blacks(name):
    options = race.draw(name, 500, seed=4)
    ours = black.price(options.log_moneyness, options.total_volatility, options.is_call)
    np.testing.assert_allclose(options.premium, ours, rtol=1e-12)


@pytest.mark.parametrize("name", list(race.SETS))
def test_sets_are_what_they_say(name):
    nearest, farthest, in_the_money = race.SETS[name]
    options = race.draw(name, 500, seed=4)
    deviations = np.abs(options.log_moneyness) / options.total_volatility
    assert np.all((deviations >= nearest - 1e-9) & (deviations <= farthest + 1e-9))
    np.testing.assert_array_equal(options.is_call == (options.log_moneyness < 0), in_the_money)
    again = race.draw(name, 500, seed=4)
    np.testing.assert_array_equal(options.premium, again.premium)


def test_ours_has_no_failure_and_a_bad_solver_has():
    options = race.draw("A", 500, seed=4)
    (ours, *_), _ = race.entries()
    assert ours.name == race.OURS
    good = race.errors(ours, options)
    assert good["failures"] == good["no_answer"] == 0
    assert good["max_units"] < 8

    def careless(o):
        solved = o.total_volatility * (1 + 1e-5)
        solved[:3] = np.nan
        return solved

    bad = race.errors(dataclasses.replace(ours, name="careless", solve=careless), options)
    assert bad["no_answer"] == 3
    assert bad["failures"] == 500
