"""One forward an expiry, by a stated rule (fault 44)."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market.black import price
from volgrad.market.forward import ForwardRule, QuoteRows, expiry_forwards
from volgrad.market.instruments import Settlement, parse_options

MISSING = float("nan")
SETTLEMENTS = st.sampled_from(Settlement)


def a_market(forward_usd, settlement, strikes=9, spread=0.002, seed=0, underlying_usd=MISSING) -> QuoteRows:
    """Calls and puts around a forward; each bid and ask at random below and above the true premium."""
    chance = np.random.default_rng(seed)
    k = np.tile(np.linspace(-0.3, 0.3, strikes), 2)
    is_call = np.repeat([True, False], strikes)
    fair = np.asarray(price(k, np.full(2 * strikes, 0.2), is_call))
    below, above = spread * chance.uniform(0.5, 1, (2, 2 * strikes))
    unit = 1.0 if settlement is Settlement.INVERSE else forward_usd
    return QuoteRows(
        group=np.zeros(2 * strikes, int),
        strike_usd=forward_usd * np.exp(k),
        is_call=is_call,
        bid=np.maximum(fair - below, fair / 2) * unit,
        ask=(fair + above) * unit,
        underlying_usd=np.full(2 * strikes, underlying_usd),
    )


def joined(*markets: QuoteRows) -> QuoteRows:
    columns = [np.concatenate(columns) for columns in zip(*markets, strict=True)]
    group = np.repeat(np.arange(len(markets)), [len(market.group) for market in markets])
    return QuoteRows(*columns)._replace(group=group)


def permuted(rows: QuoteRows, seed: int) -> QuoteRows:
    order = np.random.default_rng(seed).permutation(len(rows.group))
    return QuoteRows(*(column[order] for column in rows))


# ------------------------------------------------------------------ median


@given(st.lists(st.lists(st.floats(1, 1e6), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 9))
def test_the_median_is_that_of_each_expirys_printed_forwards(printed, seed):
    value = np.concatenate(printed)
    nothing = np.full(len(value), MISSING)
    group = np.repeat(np.arange(len(printed)), [len(values) for values in printed])
    rows = QuoteRows(group, value, np.ones(len(value), bool), nothing, nothing, value)
    found = expiry_forwards(permuted(rows, seed), Settlement.INVERSE)
    expected = np.array([np.median(values) for values in printed])
    np.testing.assert_array_equal(found.forward_usd, expected)
    np.testing.assert_array_equal(found.rows, [len(values) for values in printed])
    apart = np.array([np.ptp(values) for values in printed])
    np.testing.assert_allclose(found.disagreement_bp, 1e4 * apart / expected)
    assert (found.rule == ForwardRule.MEDIAN).all()


def test_one_stray_print_moves_the_report_and_not_the_forward():
    rows = a_market(1e5, Settlement.INVERSE, underlying_usd=1e5)
    rows.underlying_usd[3] = 1.0041e5
    found = expiry_forwards(rows, Settlement.INVERSE)
    assert found.forward_usd[0] == 1e5
    np.testing.assert_allclose(found.disagreement_bp, 41)
    assert "median of 18 printed forwards, 41.0 bp apart" in found.describe(0)


# ------------------------------------------------------------------ parity


@given(SETTLEMENTS, st.floats(0.5, 1e5), st.floats(1e-6, 1e-2), st.integers(0, 10**6))
def test_parity_finds_the_forward_within_what_the_quotes_leave_open(settlement, forward_usd, spread, seed):
    rows = a_market(forward_usd, settlement, spread=spread, seed=seed)
    found = expiry_forwards(rows, settlement, ForwardRule.PARITY)
    assert found.rule[0] == ForwardRule.PARITY
    assert found.rows[0] == 9
    # bids and asks are at most `spread` from fair, a pair at most that far from parity, times F/K <= e^.3
    np.testing.assert_allclose(found.forward_usd, forward_usd, rtol=2.1 * spread)


@given(SETTLEMENTS, st.integers(0, 10**6))
def test_parity_is_not_moved_by_a_third_of_the_pairs(settlement, seed):
    rows = a_market(1e4, settlement, spread=1e-4, seed=seed)
    for strike in (0, 4, 8):
        for side in (rows.bid, rows.ask):
            side[strike] *= 1.5  # these calls are quoted far too high
    found = expiry_forwards(rows, settlement, ForwardRule.PARITY)
    np.testing.assert_allclose(found.forward_usd, 1e4, rtol=1e-3)


@given(SETTLEMENTS, st.sampled_from([ForwardRule.MEDIAN, ForwardRule.PARITY]), st.integers(0, 10**6))
def test_neither_order_nor_company_changes_an_expirys_forward(settlement, rule, seed):
    markets = [a_market(f, settlement, seed=seed + int(f), underlying_usd=f) for f in (1e3, 7e3, 2e4)]
    together = expiry_forwards(permuted(joined(*markets), seed), settlement, rule)
    alone = [expiry_forwards(market, settlement, rule) for market in markets]
    np.testing.assert_allclose(together.forward_usd, [a.forward_usd[0] for a in alone], rtol=1e-12)
    np.testing.assert_allclose(together.disagreement_bp, [a.disagreement_bp[0] for a in alone], rtol=1e-6, atol=1e-9)


def test_the_settlements_read_parity_differently():
    dollars = a_market(1e5, Settlement.LINEAR, spread=1e-4)
    as_linear = expiry_forwards(dollars, Settlement.LINEAR).forward_usd[0]
    np.testing.assert_allclose(as_linear, 1e5, rtol=1e-3)
    as_inverse = expiry_forwards(dollars, Settlement.INVERSE).forward_usd[0]
    assert as_inverse != pytest.approx(1e5, rel=0.05)


def test_the_rules_are_compared_in_basis_points():
    rows = a_market(1e5, Settlement.INVERSE, spread=1e-6, underlying_usd=1e5 / 1.001)
    np.testing.assert_allclose(expiry_forwards(rows, Settlement.INVERSE).gap_bp, 10, atol=0.1)


# ------------------------------------------------------------------ where a rule has nothing to work on


def test_each_rule_stands_in_for_the_other():
    pairs_only = a_market(1e5, Settlement.INVERSE)
    printed_only = a_market(2e5, Settlement.INVERSE, underlying_usd=2e5)._replace(bid=np.full(18, MISSING))
    neither = a_market(3e5, Settlement.INVERSE)._replace(bid=np.zeros(18))
    few = a_market(4e5, Settlement.INVERSE, underlying_usd=4e5)
    few.bid[3:] = 0.0
    rows = joined(pairs_only, printed_only, neither, few)
    median, parity, none = ForwardRule.MEDIAN, ForwardRule.PARITY, ForwardRule.NONE
    found = expiry_forwards(rows, Settlement.INVERSE, median)
    np.testing.assert_array_equal(found.rule, [parity, median, none, median])
    found = expiry_forwards(rows, Settlement.INVERSE, parity)
    np.testing.assert_array_equal(found.rule, [parity, median, none, median])
    np.testing.assert_array_equal(np.isnan(found.forward_usd), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(found.gap_bp), [True, True, True, True])
    assert found.describe(2).startswith("no forward: no row prints one")


def test_no_rows_and_missing_groups():
    nothing = QuoteRows(*(column[:0] for column in a_market(1e5, Settlement.INVERSE)))
    assert len(expiry_forwards(nothing, Settlement.INVERSE).forward_usd) == 0
    found = expiry_forwards(nothing, Settlement.INVERSE, groups=2)
    np.testing.assert_array_equal(found.rule, [ForwardRule.NONE] * 2)


def test_wrong_use_is_refused():
    rows = a_market(1e5, Settlement.INVERSE)
    with pytest.raises(InputError, match=r"differ in length.*'bid': 17"):
        expiry_forwards(rows._replace(bid=rows.bid[1:]), Settlement.INVERSE)
    with pytest.raises(InputError, match="groups run from 0 to 0"):
        expiry_forwards(rows, Settlement.INVERSE, groups=0)
    with pytest.raises(InputError, match="finds no forward"):
        expiry_forwards(rows, Settlement.INVERSE, ForwardRule.NONE)


# ------------------------------------------------------------------ real quotes


def test_a_day_of_real_tickers(shared_data: Path):
    """The default's claim, in small: held-out pairs bracket the median more often than the others' parity."""
    table = pq.read_table(shared_data / "deribit_ticker5m_20230412.parquet")
    names = parse_options(table["instrument_name"].to_pylist())
    cycle = table["cycle"].to_numpy().astype(np.int64)
    keys = np.stack([cycle, names.expiry_us, (names.base == "ETH").astype(np.int64)])
    _, group = np.unique(keys, axis=1, return_inverse=True)
    quote = {name: table[name].to_numpy().astype(np.float64) for name in ("best_bid_price", "best_ask_price")}
    rows = QuoteRows(
        group.reshape(-1),
        names.strike_usd,
        names.is_call,
        quote["best_bid_price"],
        quote["best_ask_price"],
        table["underlying_price"].to_numpy(),
    )
    median = expiry_forwards(rows, Settlement.INVERSE)
    assert (median.rule == ForwardRule.MEDIAN).all()
    assert median.disagreement_bp.max() < 50
    held_out = (rows.strike_usd.astype(np.int64) // 100) % 2 == 0
    seen = rows._replace(bid=np.where(held_out, 0.0, rows.bid))
    parity = expiry_forwards(seen, Settlement.INVERSE, ForwardRule.PARITY)
    inside = {rule: _share_inside(rows, held_out, found) for rule, found in (("median", median), ("parity", parity))}
    assert inside["median"] > 0.999
    assert inside["median"] > inside["parity"] > 0.97


def _share_inside(rows: QuoteRows, held_out: np.ndarray, found) -> float:
    """Share of held-out call-put pairs whose own bids and asks leave the forward open."""
    book = {
        (g, k, c): (b, a)
        for g, k, c, b, a in zip(*(column[held_out].tolist() for column in rows[:5]), strict=True)
        if 0 < b < a
    }
    inside = []
    for (group, strike, is_call), (bid, ask) in book.items():
        if is_call and (group, strike, False) in book and found.rule[group]:
            put_bid, put_ask = book[group, strike, False]
            difference = 1 - strike / found.forward_usd[group]
            inside.append(bid - put_ask <= difference <= ask - put_bid)
    return float(np.mean(inside))
