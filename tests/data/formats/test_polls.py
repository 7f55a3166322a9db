"""Polls in tables: each is one chain, at one time, whatever blocks its rows come in."""

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.formats.messages import (
    T0,
    canonical,
    pieces_of,
    read,
    read_blocks,
    rows_of,
    table_of,
)
from tests.data.formats.test_documents import OKX_TICKER, SUMMARY, at
from volgrad.data.columns import STAMP_TYPE
from volgrad.data.formats import tabular
from volgrad.data.formats.polls import Polls

NAMES = [f"BTC-16JUN25-{strike}-{side}" for strike in (100000, 105000, 110000, 115000) for side in "CP"]
STEP = 300_000


def summaries_at(*polls, names=NAMES):
    """Rows of book summaries: polls of all names, the row of each name some milliseconds later or earlier."""
    start = SUMMARY["creation_timestamp"]
    return [
        SUMMARY | {"instrument_name": name, "creation_timestamp": start + poll + (i * 7) % 11}
        for poll in polls
        for i, name in enumerate(names)
    ]


def chains(rows, size):
    """Cycle -> rows, of a table read in blocks of `size` rows."""
    whole = pa.table(table_of(*rows))
    reader = tabular(whole.column_names, "polls.csv")
    piece = read_blocks(reader, *(whole.slice(start, size) for start in range(0, len(rows), size)))
    cycles = canonical(piece).table["cycle"].to_pylist()
    assert len(cycles) == len(rows)
    return {cycle: cycles.count(cycle) for cycle in sorted(cycles)}


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_polls_in_a_table_are_chains_in_blocks_of_any_size(size):
    start = SUMMARY["creation_timestamp"]
    rows = summaries_at(0, STEP, 3 * STEP)
    latest = max(row["creation_timestamp"] for row in summaries_at(0))
    assert chains(rows, size) == {at(latest + poll): 8 for poll in (0, STEP, 3 * STEP)}
    assert chains(rows[:8], size) == {at(latest): 8}
    (document,) = {cycle for piece in pieces_of(rows[:8]) for cycle in piece.table["cycle"].to_pylist()}
    assert document == at(latest)
    # a new listing leads the second poll; the third holds only what the second had not
    listed = summaries_at(STEP, names=["BTC-16JUN25-90000-C", *NAMES])
    assert list(chains([*rows[:8], *listed], size).values()) == [8, 9]
    apart = [*summaries_at(0, names=NAMES[:3]), *summaries_at(STEP, names=NAMES[3:])]
    assert list(chains(apart, size).values()) == [3, 5]
    assert start < latest


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([0, 5, 70_000, 650_000, -90_000, None])), min_size=1),
    st.lists(st.integers(1, 5), min_size=40, max_size=40),
    st.booleans(),
)
def test_a_poll_is_short_and_names_an_option_once_whatever_the_blocks(steps, sizes, own_clock):
    stamps = [T0]
    for _, step in steps:
        stamps.append(stamps[-1] + (step or 0))
    rows = pa.table({"ts": [None if step is None else at(s) for (_, step), s in zip(steps, stamps[1:], strict=True)]})
    rows = rows.cast(pa.schema({"ts": STAMP_TYPE})).append_column("instrument", pa.array([name for name, _ in steps]))
    rows = rows.append_column("row", pa.array(range(len(steps))))
    whole = Polls("polls.csv", own_clock=own_clock)
    expected = pa.concat_tables([whole.add(rows), whole.finish()]).sort_by("row")
    parts, done, start = Polls("polls.csv", own_clock=own_clock), [], 0
    for size in sizes:
        done.append(parts.add(rows.slice(start, size)))
        start += size
    done += [parts.add(rows.slice(start)), parts.finish()]
    assert pa.concat_tables(done).sort_by("row").to_pylist() == expected.to_pylist()
    assert expected["row"].to_pylist() == list(range(len(steps)))
    for row in rows_of(expected):
        assert row["cycle"] is None or timedelta(0) <= row["cycle"] - row["ts"] <= timedelta(minutes=10)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_polls_of_two_underlyings_in_one_table_are_told_apart(size):
    ether = [name.replace("BTC", "ETH") for name in NAMES]
    rows = [row for poll in (0, STEP) for names in (NAMES, ether) for row in summaries_at(poll, names=names)]
    assert list(chains(rows, size).values()) == [16, 16]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_row_written_twice_does_not_break_its_poll(size):
    rows = [row for row in summaries_at(0) for _ in range(2)]
    assert list(chains(rows, size).values()) == [16]


def test_rows_without_a_time_are_of_the_poll_around_them():
    rows = summaries_at(0)
    rows[3] = rows[3] | {"creation_timestamp": None}
    assert list(chains(rows, 2).values()) == [8]


def test_polls_that_go_back_in_time_are_told():
    piece = read(table_of(*summaries_at(STEP, 0)), "polls.csv")
    assert any("sort the table by time" in note for note in piece.notes)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_clock_of_quiet_options_does_not_break_a_poll(size):
    names = [f"BTC-USD-220309-{strike}-C" for strike in (33000, 34000, 35000)]
    ages = (0, 200_000, 400_000)
    start = int(OKX_TICKER["ts"])
    rows = [
        OKX_TICKER | {"instId": name, "ts": str(start + poll - (0 if poll and not i else age))}
        for poll in (0, 10_000)
        for i, (name, age) in enumerate(zip(names, ages, strict=True))
    ]
    assert chains(rows, size) == {at(start): 3, at(start + 10_000): 3}
