"""Answers to queries: every row has a volatility, or a reason that is counted."""

import dataclasses

import numpy as np
import pytest

from tests.tasks.chains import simulated_chains
from volgrad.data import Located, Unanswerable
from volgrad.tasks.answers import WHY_UNANSWERED, answer
from volgrad.tasks.fit import fit_chain


@pytest.fixture(scope="module")
def fitted():
    """Two chains, the second of which was not published."""
    good = fit_chain(simulated_chains()[0])
    return [good, dataclasses.replace(good, surface=None, status="refused")]


def located(chain, k, years, unanswerable):
    return Located(np.array(chain), np.array(k), np.array(years), np.array(unanswerable, np.int8))


def test_each_row_is_answered_by_its_own_chain_in_the_order_asked(fitted):
    k, years = [0.3, -0.2, 0.0, 0.1], [0.1, 0.3, 0.1, 0.02]
    vol, reasons = answer(located([0, 0, 0, 0], k, years, [0] * 4), fitted)
    np.testing.assert_array_equal(vol, fitted[0].surface.implied_vol(np.array(k), np.array(years)))
    assert reasons == {}


def test_every_missing_answer_has_a_counted_reason(fitted):
    asked = located(
        [0, 1, 1, -1, 0, 0],
        [0.0, 0.0, 0.1, 0.0, np.nan, 0.0],
        [0.1, 0.1, 0.1, 0.1, 0.1, np.nan],
        [0, 0, 0, Unanswerable.NO_CHAIN, Unanswerable.BAD_STRIKE, 0],
    )
    vol, reasons = answer(asked, fitted)
    assert np.isfinite(vol).tolist() == [True, False, False, False, False, False]
    assert reasons == {"no_chain": 1, "bad_strike": 1, "surface_not_published": 2, "no_finite_volatility": 1}
    assert sum(reasons.values()) == np.isnan(vol).sum()


def test_every_reason_is_explained():
    assert {code.label for code in Unanswerable if code} <= set(WHY_UNANSWERED)


def test_nothing_asked_is_nothing_answered(fitted):
    vol, reasons = answer(located([], [], [], []), fitted)
    assert (vol.size, reasons) == (0, {})
