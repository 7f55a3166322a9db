"""Laws of the listed options: one rising key for each, and what they carry stays with them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from volgrad.simulate.contracts import Contracts, Standing, StrikeBook
from volgrad.simulate.listing import DAY_US, HOUR_US

FIRST_US = 20_000 * DAY_US + 8 * HOUR_US
strikes = st.lists(st.integers(1, 10**6).map(lambda cents: cents / 4.0), min_size=1, max_size=12, unique=True).map(
    sorted
)
listings = st.dictionaries(st.integers(0, 400), strikes, min_size=1, max_size=5)


def contracts(listing: dict[int, list[float]]) -> Contracts:
    days = sorted(listing)
    expiry_us = FIRST_US + np.array(days, np.int64) * DAY_US
    return Contracts.of(expiry_us, [np.array(listing[day]) for day in days])


@given(listings)
def test_rows_come_by_expiry_strike_and_call_before_put_and_keys_rise(listing):
    listed = contracts(listing)
    rows = [(day, strike, side) for day in sorted(listing) for strike in listing[day] for side in (True, False)]
    found = zip(
        (listed.expiry_us[listed.expiry_index] - FIRST_US) // DAY_US, listed.strike_usd, listed.is_call, strict=True
    )
    assert [(int(day), float(strike), bool(call)) for day, strike, call in found] == rows
    assert np.all(np.diff(listed.key) > 0)


@given(listings, listings)
def test_what_an_option_carries_goes_with_it(before, after):
    old, new = contracts(before), contracts(after)
    random = np.random.default_rng(0)
    standing = Standing.fresh(old.rows, 3, 7, random)
    standing.is_new[:] = False
    for column in standing.quote.values():
        column[:] = np.arange(old.rows)
    carried = standing.carried(old, new, 9, random)
    place = {key: row for row, key in enumerate(old.key.tolist())}
    for row, key in enumerate(new.key.tolist()):
        known = place.get(key)
        assert carried.is_new[row] == (known is None)
        assert carried.refreshed_us[row] == (9 if known is None else 7)
        if known is not None:
            np.testing.assert_array_equal(carried.moods[row], standing.moods[known])
            assert carried.quote["bid"][row] == known
            assert carried.oi[row] == standing.oi[known]
        else:
            assert np.isnan(carried.quote["bid"][row])


@given(st.integers(0, 2**32), st.lists(st.floats(-0.15, 0.15), min_size=1, max_size=6))
def test_strikes_are_added_as_the_forward_moves_and_never_taken_away(seed, moves):
    book = StrikeBook(np.random.default_rng(seed))
    forward, years, vol = np.array([9e4, 9.1e4]), np.array([0.02, 0.3]), np.array([0.5, 0.5])
    listed = book.update(4.2e4, np.array([FIRST_US, FIRST_US + 100 * DAY_US]), years, forward, vol)
    for move in moves:
        forward = forward * np.exp(move)
        now = book.update(4.2e4, np.array([FIRST_US, FIRST_US + 100 * DAY_US]), years, forward, vol)
        for before, after, level in zip(listed, now, forward, strict=True):
            assert set(before) <= set(after)
            assert after[0] < level < after[-1]
        listed = now
    assert len(book.update(4.2e4, np.array([FIRST_US + 100 * DAY_US]), years[1:], forward[1:], vol[1:])) == 1
