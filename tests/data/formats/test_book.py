"""An order book after changes is the book from scratch."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.formats.book import Book, BookGapError
from volgrad.data.formats.frames import Data

PRICES = st.integers(1, 12).map(lambda tick: tick * 0.0005)
AMOUNTS = st.floats(0.1, 100)
SIDES = st.dictionaries(PRICES, AMOUNTS, max_size=8)
CHANGES = st.lists(st.tuples(st.booleans(), PRICES, st.none() | AMOUNTS), max_size=6)


def raw(entries):
    return msgspec.Raw(json.dumps(entries).encode())


def entries(levels):
    return raw([["new", price, amount] for price, amount in levels.items()])


@given(SIDES, SIDES, st.lists(CHANGES, max_size=6))
def test_changes_give_the_book_from_scratch(bids, asks, frames):
    book = Book(Data(change_id=0, bids=entries(bids), asks=entries(asks)))
    sides = (dict(bids), dict(asks))
    for number, changes in enumerate(frames):
        sent = ([], [])
        for is_ask, price, amount in changes:
            if amount is None:
                sent[is_ask].append(["delete", price, 0.0])
                sides[is_ask].pop(price, None)
            else:
                sent[is_ask].append(["change" if price in sides[is_ask] else "new", price, amount])
                sides[is_ask][price] = amount
        book.change(Data(change_id=number + 1, prev_change_id=number, bids=raw(sent[0]), asks=raw(sent[1])))
    scratch = Book(Data(change_id=9, bids=entries(sides[0]), asks=entries(sides[1])))
    assert book.levels == scratch.levels == sides
    assert book.top == scratch.top
    bid, bid_size, ask, ask_size = book.top
    assert (bid, bid_size) == max(sides[0].items(), default=(0.0, 0.0))
    assert (ask, ask_size) == min(sides[1].items(), default=(0.0, 0.0))


@given(SIDES, st.integers(-5, 5))
def test_a_change_is_taken_only_after_the_one_before(bids, previous):
    book = Book(Data(change_id=0, bids=entries(bids)))
    change = Data(change_id=7, prev_change_id=previous, asks=raw([["new", 0.5, 1.0]]))
    if previous == 0:
        book.change(change)
        assert book.top[2] == 0.5
    else:
        with pytest.raises(BookGapError):
            book.change(change)
        assert book.levels == (bids, {})


@given(SIDES, st.sampled_from([["shift", 0.1, 1.0], ["new", 0.0, 1.0], ["new", 0.1, -1.0], ["new", 0.1], "new", [1]]))
def test_a_broken_change_leaves_the_book_as_it_was(bids, wrong):
    book = Book(Data(change_id=0, bids=entries(bids)))
    with pytest.raises(ValueError):  # noqa: PT011 # msgspec's own and ours
        book.change(Data(change_id=1, prev_change_id=0, bids=raw([["new", 0.2, 1.0]]), asks=raw([wrong])))
    assert book.levels == (bids, {})
