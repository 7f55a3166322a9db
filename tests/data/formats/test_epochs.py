"""Clocks in tables: each cell is in the unit of its size."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.formats.messages import (
    read,
    rows_of,
)
from tests.data.formats.test_bars import BARS
from volgrad.data.formats.epochs import stamp_column


@pytest.mark.parametrize(
    ("values", "unit"),
    [([1.641e9], "s"), ([1.641e12], None), ([1.641e15], "us"), ([1.641e18], "ns"), (["1641000000"], "s")],
)
def test_the_unit_of_a_clock_is_told_unless_it_is_milliseconds(values, unit):
    column, note = stamp_column(pa.chunked_array([values]), "t", "x")
    assert column[0].as_py() == datetime.fromtimestamp(1.641e9, UTC)
    assert note == (unit and f"t is taken as {unit} since 1970 by its size")


@pytest.mark.parametrize("as_text", [False, True])
def test_each_cell_of_a_clock_has_its_own_unit(as_text):
    seconds = [1735600000, 1735603600, 1735607200, 1735610800]
    values = [seconds[0], seconds[1] * 10**3, seconds[2] * 10**6, seconds[3] * 10**9]
    values += [0, 7, -(10**12), 10**11, 10**14, 5 * 10**12, 9 * 10**18]
    cells = [str(value) for value in values] if as_text else values
    column, note = stamp_column(pa.chunked_array([cells]), "open_time", "x")
    assert column.to_pylist() == [*(datetime.fromtimestamp(s, UTC) for s in seconds), *[None] * 7]
    assert note == "open_time is taken as s or ms or us or ns since 1970, each cell by its size"
    bars = {"open_time": [value * 1000 for value in seconds[:1]] + [seconds[1] * 10**6], **BARS, "volume": [1.0, 1.0]}
    assert [row["ts"].year for row in rows_of(read(bars, "btcusdt.csv").table)] == [2024, 2024]


def test_numbers_and_texts_in_one_clock_are_both_read():
    column, note = stamp_column(pa.chunked_array([["2024-12-30T23:06:40Z", "1735600000000", "soon"]]), "t", "x")
    assert column.to_pylist() == [datetime(2024, 12, 30, 23, 6, 40, tzinfo=UTC)] * 2 + [None]
    assert note is None


@given(st.integers(1_230_768_000, 4_133_980_799), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_a_time_of_this_century_is_the_same_in_every_unit(second, factor):
    column, _ = stamp_column(pa.chunked_array([[second * factor]]), "t", "x")
    assert column[0].as_py() == datetime.fromtimestamp(second, UTC)
