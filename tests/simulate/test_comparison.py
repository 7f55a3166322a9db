"""Laws of the distance from the truth."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.chains import build_chains
from volgrad.data.read import read_quotes
from volgrad.market.chain import Chain
from volgrad.simulate.comparison import truth_error
from volgrad.simulate.market import SimulatedChain, simulate


class Flat:
    """A flat surface, with no answer beyond `limit`."""

    def __init__(self, vol: float, limit: float = np.inf) -> None:
        self.vol, self.limit = vol, limit

    def total_variance(self, log_moneyness: np.ndarray, expiry_years: np.ndarray) -> np.ndarray:
        return np.where(np.abs(log_moneyness) < self.limit, self.vol**2 * expiry_years, np.nan)


@cache
def simulated() -> SimulatedChain:
    return next(simulate(2, 1))


@cache
def chain() -> Chain:
    """A simulated chain, read and cleaned as a user's file would be."""
    return build_chains(read_quotes(simulated().quotes))[0]


def test_the_truth_is_at_distance_zero() -> None:
    truth = simulated().truth
    error = truth_error(truth, truth, chain())
    assert (error.rmse, error.largest, error.atm_rmse, error.unanswered) == (0.0, 0.0, 0.0, 0)


def test_cleaning_finds_the_true_forwards_and_keeps_what_can_be_fitted() -> None:
    true = dict(zip(simulated().expiry_us.tolist(), simulated().forward_usd.tolist(), strict=True))
    assert set(chain().expiry_us.tolist()) == set(true)
    for expiry, forward in zip(chain().expiry_us.tolist(), chain().forward_usd.tolist(), strict=True):
        assert forward == pytest.approx(true[expiry], rel=1e-12)
    assert chain().log_moneyness.size > 0.35 * simulated().quotes.num_rows  # half of the rows are in the money
    assert 0.8 < 100.0 * np.median(chain().ask_iv - chain().bid_iv) < 1.6  # recorded: 1.0 to 1.2


@given(st.floats(0.05, 2.0), st.floats(0.2, 1.0))
def test_a_shifted_level_is_its_shift_in_vol_points(fitted: float, true: float) -> None:
    error = truth_error(Flat(fitted), Flat(true), chain())
    for figure in (error.rmse, error.largest, error.atm_rmse):
        assert figure == pytest.approx(100.0 * abs(fitted - true), abs=1e-9)


def test_only_quotes_within_reach_count() -> None:
    k = chain().log_moneyness
    deviation = 0.5 * np.sqrt(chain().expiry_years[chain().expiry_index])
    assert truth_error(Flat(0.5), Flat(0.5), chain()).points == np.sum(np.abs(k) <= 2.5 * deviation)
    assert truth_error(Flat(0.5), Flat(0.5), chain(), reach=0.5).points < k.size / 2


def test_points_without_an_answer_are_counted_not_averaged() -> None:
    error = truth_error(Flat(0.6, limit=0.05), Flat(0.5), chain())
    assert error.unanswered > 0
    assert error.rmse == pytest.approx(10.0)
    nothing = truth_error(Flat(0.6, limit=0.0), Flat(0.5), chain())
    assert nothing.unanswered == nothing.points + chain().expiry_years.size
    assert np.isnan(nothing.rmse)
