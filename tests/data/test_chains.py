"""Chains: every row has one named outcome, and what is used gives back the volatility that was quoted."""

import re
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tables import (
    DAYS,
    FORWARDS,
    NOW,
    RATIOS,
    chain_rows,
    expiry,
    quote,
    table_of,
    ticker_rows,
    volatility,
)
from volgrad.data import Limits, Reason, advice, build, build_chains, read_quotes
from volgrad.errors import InputError, UnitsError
from volgrad.market.instruments import Settlement

NAN = float("nan")


def built(rows, **changes):
    return build(read_quotes(table_of(rows, **changes)))


def only_chain(rows, **changes):
    (chain,) = built(rows, **changes).chains
    return chain


def test_used_quotes_give_back_the_quoted_volatility():
    chain = only_chain(chain_rows())
    truth = volatility(chain.log_moneyness, chain.row_expiry_years)
    np.testing.assert_allclose(chain.bid_iv, truth - 0.005, rtol=1e-9)
    np.testing.assert_allclose(chain.ask_iv, truth + 0.005, rtol=1e-9)
    assert chain.n_expiries == len(DAYS)
    assert chain.n_rows == len(DAYS) * len(RATIOS)
    assert chain.ts_us == int(NOW.timestamp() * 1e6)
    assert (chain.ccy, chain.split, chain.settlement) == ("BTC", None, Settlement.INVERSE)


def test_linear_premiums_give_the_same_chain():
    inverse = only_chain(chain_rows())
    rows = chain_rows(linear=True)
    linear = only_chain(rows, settlement=["linear"] * len(rows))
    assert linear.settlement is Settlement.LINEAR
    for name in ("bid", "ask", "bid_iv", "ask_iv", "log_moneyness"):
        np.testing.assert_allclose(getattr(linear, name), getattr(inverse, name), rtol=1e-9)


@pytest.mark.parametrize(("settlement", "linear", "hint"), [("inverse", True, "dollars"), ("linear", False, "coin")])
def test_one_settlement_taken_for_the_other_is_refused(settlement, linear, hint):
    rows = chain_rows(linear=linear, ratios=(0.7, 0.85, 0.95, 0.99, 1.01, 1.05, 1.1, 1.3))
    with pytest.raises(UnitsError, match=f"(?s)table.*{hint}"):
        built(rows, settlement=[settlement] * len(rows))


SICK = {
    "no bid: null": ({"bid": None}, "one_sided"),
    "no bid: NaN": ({"bid": NAN}, "one_sided"),
    "no bid: 0": ({"bid": 0.0}, "one_sided"),
    "no ask: 0": ({"ask": 0.0}, "one_sided"),
    "no quote": ({"bid": None, "ask": 0.0}, "no_quote"),
    "negative bid": ({"bid": -0.01}, "bad_price"),
    "infinite ask": ({"ask": float("inf")}, "bad_price"),
    "crossed": ({"bid": 0.2, "ask": 0.1}, "crossed"),
    "locked": ({"bid": 0.1, "ask": 0.1}, "locked"),
    "joke ask": ({"ask": 1.0}, "above_bound"),
    "wide": ({"bid": 0.0001, "ask": 0.3}, "wide"),
    "expired": ({"expiry": NOW - timedelta(days=1)}, "expired"),
    "expires now": ({"expiry": NOW}, "expired"),
    "28 seconds": ({"expiry": NOW + timedelta(seconds=28)}, "too_short"),
    "no expiry": ({"expiry": None}, "bad_expiry"),
    "strike 0": ({"strike": 0.0}, "bad_strike"),
    "strike negative": ({"strike": -5.0}, "bad_strike"),
    "strike NaN": ({"strike": NAN}, "bad_strike"),
    "strike infinite": ({"strike": float("inf")}, "bad_strike"),
    "no strike": ({"strike": None}, "bad_strike"),
    "cp unknown": ({"cp": "X"}, "bad_type"),
    "no cp": ({"cp": None}, "bad_type"),
    "in the money": ({"cp": "P", "bid": 0.14, "ask": 0.15}, "itm"),
    "below intrinsic": ({"cp": "P", "bid": 0.05, "ask": 0.15}, "below_intrinsic"),
    "own expiry without forward": ({"expiry": expiry(50), "underlying": None}, "no_forward"),
    "forward 0": ({"expiry": expiry(50), "underlying": 0.0}, "no_forward"),
    "forward negative": ({"expiry": expiry(50), "underlying": -1.0}, "no_forward"),
}


@pytest.mark.parametrize(("change", "reason"), SICK.values(), ids=SICK)
def test_a_sick_row_is_left_out_by_its_reason_and_no_other_row_changes(change, reason):
    sick = quote(ratio=1.1234) | change
    healthy = only_chain(chain_rows())
    result = built([*chain_rows(), sick])
    (chain,) = result.chains
    left = dict(healthy.left_out)
    left[reason] = left.get(reason, 0) + 1
    assert chain.left_out == left
    assert {**result.rejections.by_reason()} == left
    np.testing.assert_array_equal(chain.bid_iv, healthy.bid_iv)
    np.testing.assert_array_equal(chain.strike_usd, healthy.strike_usd)


IVS = {
    "0": (0.0, "bad_iv"),
    "NaN": (NAN, "bad_iv"),
    "negative": (-0.3, "bad_iv"),
    "999": (9.99, "iv_cap"),
    "999 unscaled": (999.0, "iv_cap"),
}


@pytest.mark.parametrize(("value", "reason"), IVS.values(), ids=IVS)
def test_an_impossible_volatility_in_the_file_is_rejected_and_counted(value, reason):
    rows = chain_rows(ratios=(0.9, 1.1))
    iv = [0.6] * len(rows)
    target = next(i for i, row in enumerate(rows) if row["cp"] == "C" and row["strike"] > row["underlying"])
    iv[target] = value
    quotes = read_quotes(table_of(rows, ask_iv=iv))
    (chain,) = build_chains(quotes)
    assert chain.left_out[reason] == 1
    assert sum(quotes.sources[0].bad_values["ask_iv"].values()) == 1
    assert np.isfinite(chain.ask_iv).all()


def test_a_null_volatility_is_merely_not_given():
    rows = chain_rows()
    chain = only_chain(rows, bid_iv=pa.nulls(len(rows), pa.float64()), mark_iv=pa.nulls(len(rows)))
    assert chain.left_out.keys() == {"itm"}


def test_rows_without_a_chain_are_counted_by_source():
    rows = [*chain_rows(), quote() | {"ts": None}, quote() | {"ccy": None}]
    result = built(rows)
    assert result.rejections.by_reason().items() >= {"bad_timestamp": 1, "bad_underlying": 1}.items()
    assert result.rejections.used + result.rejections.total == len(rows)


@settings(max_examples=20)
@given(st.data())
def test_used_and_left_out_are_all_rows_of_each_chain(data):
    rows = chain_rows() + chain_rows("ETH")
    for row in data.draw(st.lists(st.sampled_from(rows), max_size=12), label="sick rows"):
        row.update(data.draw(st.sampled_from([change for change, _ in SICK.values()]), label="sickness"))
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=5), label="repeated")
    result = built(rows)
    for chain in result.chains:
        of_chain = sum(row["ccy"] == chain.ccy for row in rows)
        assert chain.n_rows + sum(chain.left_out.values()) == of_chain
    assert result.rejections.used == sum(chain.n_rows for chain in result.chains)
    assert result.rejections.used + result.rejections.total == len(rows)


def test_a_repeated_row_changes_nothing_and_the_latest_counts():
    row = ticker_rows(days=(24,), ratios=(1.02, 1.1, 1.3))
    late = row[2] | {
        "timestamp_ms": row[2]["timestamp_ms"] + 5,
        "best_ask_price": row[2]["best_ask_price"] * 1.01,
    }
    once, twice = only_chain(row), only_chain([late, *row, row[0]])
    assert twice.left_out == {**once.left_out, "duplicate": 2}
    changed = np.flatnonzero(twice.ask != once.ask)
    assert len(changed) == 1
    assert twice.ask[changed] == pytest.approx(1.01 * once.ask[changed])


def test_one_forward_an_expiry_by_the_median_and_it_is_told():
    rows = chain_rows(days=(24,))
    wobble = [row["underlying"] * (1 + 0.002 * (i % 3 == 0)) for i, row in enumerate(rows)]
    result = built(rows, underlying=wobble)
    assert result.chains[0].forward_usd.tolist() == [FORWARDS["BTC"]]
    assert any("20.0 bp apart" in note for note in result.notes)


@pytest.mark.parametrize("linear", [False, True])
def test_without_any_forward_put_call_parity_gives_it(linear):
    rows = chain_rows(linear=linear, spread=1e-6)
    table = table_of(rows, drop=("underlying",), settlement=["linear" if linear else "inverse"] * len(rows))
    result = build(read_quotes(table))
    np.testing.assert_allclose(result.chains[0].forward_usd, FORWARDS["BTC"], rtol=1e-6)
    assert any("parity" in note for note in result.notes)


def test_given_forward_time_and_moneyness_are_used_as_they_are():
    rows = chain_rows(days=(24,))
    forward = FORWARDS["BTC"] * 1.0001
    k = [np.log(row["strike"] / forward) + 1e-6 for row in rows]
    chain = only_chain(rows, forward=[forward] * len(rows), tau_years=[0.0625] * len(rows), log_moneyness=k)
    assert chain.forward_usd.tolist() == [forward]
    assert chain.expiry_years.tolist() == [0.0625]
    assert set(chain.log_moneyness) <= set(k)


def test_moneyness_of_another_forward_is_computed_anew_and_told():
    rows = chain_rows(days=(24,))
    own = [row["underlying"] * (1.003 if i == 3 else 1.0) for i, row in enumerate(rows)]
    k = [np.log(row["strike"] / f) for row, f in zip(rows, own, strict=True)]
    result = built(rows, forward=own, log_moneyness=k)
    (chain,) = result.chains
    np.testing.assert_allclose(chain.log_moneyness, np.log(chain.strike_usd / chain.row_forward_usd), atol=1e-12)
    assert any("log_moneyness of 1 rows" in note for note in result.notes)


def test_something_else_called_log_moneyness_is_refused():
    rows = chain_rows()
    with pytest.raises(InputError, match=r"table: log_moneyness is not ln\(strike/forward\)"):
        built(rows, log_moneyness=lambda row: row["strike"] / row["underlying"])


@pytest.mark.parametrize("quotes", [1, 2, 3])
def test_an_expiry_with_few_quotes_is_kept(quotes):
    rows = chain_rows(days=(3,)) + [quote(days=24, ratio=r) for r in RATIOS[:quotes]]
    assert only_chain(rows).n_rows == len(RATIOS) + quotes


def test_an_expiry_of_one_sided_quotes_is_left_out_by_name_and_the_rest_is_used():
    rows = chain_rows()
    for row in rows:
        if row["expiry"] == expiry(24):
            row["bid"] = None
    result = built(rows)
    (chain,) = result.chains
    assert chain.n_expiries == len(DAYS) - 1
    (left,) = result.left_out_expiries
    assert left.expiry_us == int(expiry(24).timestamp() * 1e6)
    assert left.left_out == {"one_sided": 2 * len(RATIOS)}


def test_a_chain_without_a_usable_quote_is_refused_with_the_reasons():
    rows = chain_rows() + [row | {"ask": 0.0} for row in chain_rows("ETH")]
    result = built(rows)
    assert [chain.ccy for chain in result.chains] == ["BTC"]
    (refused,) = result.refused
    assert (refused.ccy, refused.left_out) == ("ETH", {"one_sided": len(rows) // 2})
    assert "none of 36 quotes is usable: 36 one_sided" in refused.why


def test_a_chain_that_contradicts_itself_is_refused_alone():
    rows = chain_rows() + chain_rows("ETH")
    result = built(rows, tau_years=lambda row: 0.1 if row["ccy"] == "ETH" else None)
    assert [chain.ccy for chain in result.chains] == ["BTC"]
    (refused,) = result.refused
    assert "expiry_years" in refused.why
    assert refused.left_out["chain_refused"] == len(rows) // 4
    assert result.rejections.used == result.chains[0].n_rows


def test_chains_of_splits_and_settlements_are_separate():
    rows = chain_rows()
    result = built(
        rows + chain_rows(linear=True),
        split=["interp", "wing"] * len(rows),
        settlement=["inverse"] * len(rows) + ["linear"] * len(rows),
    )
    keys = [(chain.split, chain.settlement.value) for chain in result.chains]
    assert keys == [("interp", "inverse"), ("interp", "linear"), ("wing", "inverse"), ("wing", "linear")]


def test_an_unknown_settlement_is_a_named_reason():
    rows = chain_rows(days=(24,))
    chain = only_chain(rows, settlement=["quanto"] + ["inverse"] * (len(rows) - 1))
    assert chain.left_out["bad_settlement"] == 1


def test_tickers_are_chains_by_cycle_with_time_from_the_cycle():
    later = NOW + timedelta(minutes=5)
    result = built(ticker_rows() + ticker_rows(cycle=later))
    assert [chain.ts_us for chain in result.chains] == [int(t.timestamp() * 1e6) for t in (NOW, later)]
    first = result.chains[0]
    np.testing.assert_allclose(first.mid_iv, volatility(first.log_moneyness, first.row_expiry_years), atol=2e-3)
    assert any("collection cycles" in note for note in result.notes)


def test_instrument_names_are_read_to_the_letter():
    rows = ticker_rows(days=(24,), ratios=(0.95, 1.02, 1.1))
    odd = ["BTC-PERPETUAL", "BTC-30JAN26", "BTC-FS-30JAN26_PERP", "BTC-30JAN26-oops-C", None]
    rows += [rows[0] | {"instrument_name": name} for name in odd]
    chain = only_chain(rows)
    assert chain.left_out["not_an_option"] == 3
    assert chain.left_out["bad_instrument"] == 2
    assert chain.n_rows == 3


def test_d_is_the_point_of_a_strike_and_usdc_is_linear():
    row = ticker_rows(days=(24,), ratios=(1.1,))[0]
    row |= {"instrument_name": "XRP_USDC-30JAN26-0d625-C", "ccy": "XRP", "underlying_price": 0.6}
    row |= {"best_bid_price": 0.02, "best_ask_price": 0.021, "bid_iv": None, "ask_iv": None, "mark_iv": None}
    chain = only_chain([row])
    assert chain.strike_usd.tolist() == [0.625]
    assert chain.settlement is Settlement.LINEAR
    assert chain.bid[0] == pytest.approx(0.02 / 0.6)


def test_limits_are_arguments():
    rows = chain_rows(spread=0.05)
    wide = build(read_quotes(table_of(rows)), Limits(widest_spread=0.01))
    assert wide.chains == []
    assert wide.refused[0].left_out["wide"] == len(rows) // 2
    long = build(read_quotes(table_of(rows)), Limits(shortest_years=10 / 365))
    assert long.chains[0].n_expiries == len(DAYS) - 1


def test_volatilities_that_contradict_their_prices_are_refused_or_told():
    rows = chain_rows()
    with pytest.raises(UnitsError, match=r"mark_iv is .* times the volatility implied by the prices"):
        built(rows, mark_iv=[0.05] * len(rows))
    assert any(re.search(r"mark_iv is 1\.\d+ times", note) for note in built(rows, mark_iv=[1.0] * len(rows)).notes)


def test_every_reason_has_advice():
    assert all(advice(reason.label) for reason in Reason)
