"""Laws of the quotes: on ticks, wider with vega and stress, standing while near enough, spoilt only where drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulate.test_pricing import example
from volgrad.simulate.listing import ask_on_tick, bid_on_tick
from volgrad.simulate.pricing import Priced
from volgrad.simulate.quoting import NO_QUIRKS, Around, Quirks, RowKind, half_spread, make_quotes, settle
from volgrad.simulate.refresh import PROCESSES

EMPTY = {name: np.full(1, np.nan) for name in ("bid", "ask")}


def quoted(seed: int, stress: float = 0.0, quirks: Quirks = NO_QUIRKS, rows: int = 2000, log_spread: float = 0.0):
    """Options out to four deviations, quoted for the first time."""
    options, truth = example(seed, rows)
    years = options.root_years**2
    random = np.random.default_rng(seed)
    around = Around(np.zeros(rows), np.full(rows, log_spread), np.full(rows, stress), years, 10.0)
    moods = random.standard_normal((rows, len(PROCESSES)))
    wanted = make_quotes(truth, around, moods, quirks, random)
    none = {name: np.full(rows, np.nan) for name in ("bid", "ask")}
    return truth, years, settle(wanted, none, np.arange(rows), [np.arange(rows)])


@given(st.integers(0, 2**32), st.floats(0.0, 1.5))
def test_first_quotes_lie_on_ticks_around_the_truth_and_have_sizes(seed, stress):
    truth, _, made = quoted(seed, stress, rows=300)
    for side, on_tick in (("bid", bid_on_tick), ("ask", ask_on_tick)):
        price = made[side][np.isfinite(made[side])]
        np.testing.assert_array_equal(on_tick(price), price)
        assert np.all(price > 0.0)
        assert np.all((made[f"{side}_size"] > 0.0) == np.isfinite(made[side]))
    both = np.isfinite(made["bid"]) & np.isfinite(made["ask"])
    assert np.all(made["bid"][both] < made["ask"][both])
    premium = truth.otm + truth.intrinsic
    inside = (made["bid"] <= premium) & (premium <= made["ask"])
    assert inside[both].mean() > 0.93
    assert np.all(made["kind"] == RowKind.NORMAL)


def test_spreads_widen_with_vega_life_and_stress():
    truth, years, calm = quoted(1)
    half = half_spread(truth, years)
    by_vega = np.argsort(truth.vega)
    assert half[by_vega[-200:]].mean() > 3.0 * half[by_vega[:200]].mean()
    assert np.all(half_spread(truth, years + 0.1) > half)
    stressed, wide = quoted(1, stress=1.0)[2], quoted(1, log_spread=0.5)[2]
    for other in (stressed, wide):
        outside = (truth.intrinsic == 0.0) & (truth.otm > 0.01)  # where neither depth nor ticks make the spread
        assert np.nanmedian(((other["ask"] - other["bid"]) / (calm["ask"] - calm["bid"]))[outside]) > 1.3


@pytest.mark.parametrize("kind", [RowKind.CROSSED, RowKind.LOCKED, RowKind.STALE, RowKind.JOKE])
def test_a_defect_is_what_it_says(kind):
    share = {one.name.lower(): float(one == kind) for one in RowKind if one}
    truth, _, made = quoted(2, quirks=Quirks(**share))
    hit = made["kind"] == kind
    assert hit.mean() > 0.6
    bid, ask = made["bid"][hit], made["ask"][hit]
    if kind == RowKind.CROSSED:
        assert np.all(bid > ask)
    elif kind == RowKind.LOCKED:
        assert np.all(bid == ask)
    elif kind == RowKind.JOKE:
        assert np.all(ask >= 1.0)
    else:
        assert np.all((np.abs(made["drift"]) >= 5e-4) & (np.abs(made["drift"]) <= 25e-4))
    assert np.all((made["drift"] == 0.0) | (kind == RowKind.STALE))
    assert truth.otm.size == hit.size


prices = st.floats(1e-4, 0.5)


@given(st.lists(prices, min_size=1, max_size=8), st.floats(0.0, 0.01))
def test_a_standing_price_stays_while_it_is_near_enough(wished, slack):
    """One option, refreshed again and again: each price is on a tick within the slack of what was wished for."""
    wish = np.array(wished)
    steps = wish.size
    made = {
        "bid": wish,
        "ask": wish + 0.02,
        "slack": np.full(steps, slack),
        "kind": np.zeros(steps, int),
    }
    found = settle(made, EMPTY, np.zeros(steps, int), [np.array([step]) for step in range(steps)])
    for side, on_tick in (("bid", bid_on_tick), ("ask", ask_on_tick)):
        before = np.nan
        for want, got in zip(made[side], found[side], strict=True):
            low, high = on_tick(np.array([want - slack, want + slack]))
            assert low <= got <= high
            assert got == before if low <= before <= high else got == on_tick(np.array([want]))[0]
            before = got


def test_a_missing_side_breaks_the_standing_price():
    made = {name: np.array([0.01, np.nan, 0.0101]) for name in ("bid", "ask")}
    made |= {"slack": np.full(3, 1.0), "kind": np.zeros(3, int)}
    found = settle(made, EMPTY, np.zeros(3, int), [np.array([step]) for step in range(3)])
    assert found["bid"].tolist()[0] == 0.01
    assert np.isnan(found["bid"][1])
    assert found["ask"].tolist()[2] == 0.0105


def test_columns_are_of_one_length():
    truth, _, made = quoted(3, rows=11)
    assert {column.size for column in made.values()} == {11}
    assert isinstance(truth, Priced)
