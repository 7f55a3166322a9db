"""A chain accepts what it promises and refuses the rest with row and value (faults 10 to 13, 17)."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import EmptyInputError, InputError, UnitsError
from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement


def a_chain(counts=(3, 4), vol=0.6, half_spread=0.01) -> Chain:
    """A chain of `counts` strikes an expiry around the forward; premiums are some fraction of their bound."""
    expiries = len(counts)
    tau = np.arange(1, expiries + 1) * 30 / 365
    forward = 1e5 * (1 + 0.01 * np.arange(expiries))
    index = np.repeat(np.arange(expiries, dtype=np.int32), counts)
    k = np.concatenate([np.linspace(-0.3, 0.25, count) for count in counts])
    is_call = k >= 0
    bound = np.exp(np.minimum(k, 0.0))
    bid_iv, ask_iv = np.full(len(k), vol - half_spread), np.full(len(k), vol + half_spread)
    return Chain(
        ts_us=1_767_258_000_000_000,
        ccy="BTC",
        split="interp",
        settlement=Settlement.INVERSE,
        expiry_us=1_767_258_000_000_000 + np.arange(1, expiries + 1) * 30 * 86_400_000_000,
        expiry_years=tau,
        forward_usd=forward,
        expiry_index=index,
        strike_usd=forward[index] * np.exp(k),
        log_moneyness=k,
        is_call=is_call,
        bid=0.02 * bound,
        ask=0.03 * bound,
        bid_iv=bid_iv,
        ask_iv=ask_iv,
        left_out={"no bid": 2},
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_rows_of_the_expiries_partition_the_chain(counts):
    chain = a_chain(counts)
    assert (chain.n_expiries, chain.n_rows) == (len(counts), sum(counts))
    rows = np.arange(chain.n_rows)
    parts = [rows[chain.rows(expiry)] for expiry in range(chain.n_expiries)]
    assert [len(part) for part in parts] == counts
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    np.testing.assert_array_equal(chain.row_expiry_years, chain.expiry_years[chain.expiry_index])
    np.testing.assert_array_equal(chain.row_forward_usd, chain.forward_usd[chain.expiry_index])


def test_what_is_derived():
    chain = a_chain()
    np.testing.assert_allclose(chain.mid_iv, 0.6)
    np.testing.assert_allclose(chain.half_spread_iv, 0.01)
    assert chain.otm.all()
    with pytest.raises(IndexError, match="expiry 2 of a chain with 2"):
        chain.rows(2)


def test_an_expiry_without_rows_is_allowed():
    chain = a_chain((3, 4))
    per_row = ("strike_usd", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv", "expiry_index")
    last = dataclasses.replace(chain, **{name: getattr(chain, name)[chain.rows(1)] for name in per_row})
    assert last.n_expiries == 2
    assert last.rows(0) == slice(0, 0)


@pytest.mark.parametrize(
    ("name", "row", "value", "why"),
    [
        ("expiry_years", 0, 0.0, "must be positive: leave expired"),
        ("expiry_years", 1, np.inf, "must be finite"),
        ("expiry_years", 1, 0.01, "must ascend"),
        ("expiry_us", 1, 0, "must ascend"),
        ("forward_usd", 1, np.nan, "must be positive"),
        ("expiry_index", 2, 7, "there are 2 expiries"),
        ("expiry_index", 1, 1, "sorted by expiry"),
        ("strike_usd", 3, -5.0, "must be positive"),
        ("strike_usd", 1, 1e3, "must ascend within an expiry"),
        ("log_moneyness", 4, 0.4, "must be ln"),
        ("log_moneyness", 4, np.nan, "must be ln"),
        ("is_call", 0, True, "calls from the forward upwards"),
        ("bid", 2, 0.0, "a missing side is no quote"),
        ("bid", 2, np.nan, "a missing side is no quote"),
        ("ask", 5, 1e-9, "must be above the bid"),
        ("bid_iv", 5, np.nan, "must be finite"),
        ("bid_iv", 5, 0.0, "below intrinsic"),
        ("ask_iv", 6, 0.5, "must be above bid_iv"),
    ],
)
def test_a_bad_entry_is_named(name, row, value, why):
    chain = a_chain()
    column = getattr(chain, name).copy()
    column[row] = value
    at = row + 1 if (name, row) == ("expiry_index", 1) else row  # an order is broken by the later of two
    with pytest.raises(InputError, match=rf"BTC 2026-01-01.* interp: {name} of row {at} is .*: .*{why}"):
        dataclasses.replace(chain, **{name: column})


def test_columns_of_different_length_are_refused():
    chain = a_chain()
    with pytest.raises(InputError, match=r"of one length.*'bid': \(6,\)"):
        dataclasses.replace(chain, bid=chain.bid[1:])
    with pytest.raises(InputError, match="of one length"):
        dataclasses.replace(chain, forward_usd=chain.forward_usd[1:])


def test_an_empty_chain_says_why():
    chain = a_chain((1,))
    per_row = ("strike_usd", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv", "expiry_index")
    empty = {name: getattr(chain, name)[:0] for name in per_row}
    with pytest.raises(EmptyInputError, match=r"no usable quote \(2 no bid\)"):
        dataclasses.replace(chain, **empty)


def test_percent_is_not_a_fraction():
    chain = a_chain()
    with pytest.raises(UnitsError, match="60, which looks like percent"):
        dataclasses.replace(chain, bid_iv=100 * chain.bid_iv, ask_iv=100 * chain.ask_iv)
    with pytest.raises(UnitsError, match=r"0\.006, which looks like fractions of a percentage"):
        dataclasses.replace(chain, bid_iv=chain.bid_iv / 100, ask_iv=chain.ask_iv / 100)


def test_dollars_are_not_coin():
    chain = a_chain()
    dollars = {name: getattr(chain, name) * chain.row_forward_usd for name in ("bid", "ask")}
    with pytest.raises(UnitsError, match=r"bid of row 0 is .*dollars are not coin"):
        dataclasses.replace(chain, **dollars)


def test_a_settlement_is_never_a_string():
    with pytest.raises(TypeError, match="settlement is 'linear'"):
        dataclasses.replace(a_chain(), settlement="linear")
