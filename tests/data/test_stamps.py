"""Columns of time: the same instant however it is written, and cells that are none are marked, not guessed."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.columns import NO_STAMP, stamp_us
from volgrad.data.stamps import stamp, stamps
from volgrad.errors import SchemaError

MOMENTS = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2099, 1, 1), timezones=st.just(datetime.UTC))


def micros(moment):
    return round((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(microseconds=1))


def column(values, dtype=None):
    return pa.chunked_array([pa.array(values, dtype)])


@given(st.lists(st.none() | MOMENTS, min_size=1))
def test_stamps_text_and_epochs_are_the_same_instants(moments):
    expected = [NO_STAMP if moment is None else micros(moment) for moment in moments]
    whole = [None if moment is None else moment.isoformat() for moment in moments]
    epoch = [None if moment is None else micros(moment) for moment in moments]
    ways = [
        stamps(column(moments, pa.timestamp("us", "UTC")), "ts", "q"),
        stamps(column(moments, pa.timestamp("us", "Asia/Tokyo")), "ts", "q"),
        stamps(column(whole, pa.string()), "ts", "q"),
        stamps(column(epoch, pa.int64()), "ts", "q", "us"),
        stamps(column([None if e is None else str(e) for e in epoch], pa.string()), "ts", "q", "us"),
    ]
    for way in ways:
        assert way.column.type == pa.timestamp("us", "UTC")
        np.testing.assert_array_equal(stamp_us(way.column), expected)
        assert way.bad is None


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**6), ("ms", 1000), ("us", 1)])
def test_an_epoch_has_the_unit_that_its_format_says(unit, factor):
    read = stamps(column([1_767_690_000, None, 2**62, -(2**62)]), "ts", "q", unit)
    assert stamp_us(read.column).tolist() == [1_767_690_000 * factor, NO_STAMP, NO_STAMP, NO_STAMP]


def test_an_epoch_of_no_said_unit_is_refused():
    with pytest.raises(SchemaError, match="q: column ts holds int64, expected a timestamp"):
        stamps(column([1_767_690_000]), "ts", "q")


@given(
    st.lists(
        st.sampled_from(["2026-01-06T08:00:00Z", "2026-13-01T00:00:00Z", "soon", "", "2026-01-06 08:00"]), min_size=1
    )
)
def test_cells_that_are_no_time_are_marked(cells):
    read = stamps(column(cells), "ts", "q")
    wrong = [cell in ("2026-13-01T00:00:00Z", "soon") for cell in cells]
    assert (read.bad is None and not any(wrong)) or read.bad.tolist() == wrong
    at_eight = 1_767_686_400_000_000
    right = [cell.startswith("2026-01-06") for cell in cells]
    np.testing.assert_array_equal(stamp_us(read.column), np.where(right, at_eight, NO_STAMP))
    assert (read.note is not None) == ("2026-01-06 08:00" in cells)


def test_a_bare_date_is_eight_o_clock_of_an_expiry_and_midnight_else():
    dates = column(["2026-03-27"])
    (expiry, told), (ts, _) = stamp(dates, "expiry", "q"), stamp(dates, "ts", "q")
    assert (expiry[0].as_py().hour, ts[0].as_py().hour) == (8, 0)
    assert told == "q: expiry holds dates, taken as 08:00 UTC of the day"


def test_the_first_bad_cell_is_named_where_none_may_be_bad():
    with pytest.raises(SchemaError, match="q: column ts holds 'soon' in row 1, expected a time such as"):
        stamp(column(["2026-01-06T08:00:00Z", "soon"]), "ts", "q")


def test_what_a_cell_says_does_not_depend_on_its_neighbours():
    cells = ["2026-03-27", "2026-03-27T10:30:00Z", "2026-03-27 09:00:00", None, "soon"]
    alone = [stamps(pa.chunked_array([[cell]], pa.string()), "expiry", "q").column[0].as_py() for cell in cells]
    assert stamps(pa.chunked_array([cells]), "expiry", "q").column.to_pylist() == alone
    assert [at and at.hour for at in alone] == [8, 10, 9, None, None]


@pytest.mark.parametrize("kind", [pa.string(), pa.timestamp("ns")])
def test_expiries_at_midnight_are_told(kind):
    midnight = pa.chunked_array([["2026-03-27 00:00:00", "2026-04-24 00:00:00"]]).cast(kind)
    read = stamps(midnight, "expiry", "q")
    assert [at.hour for at in read.column.to_pylist()] == [0, 0]
    assert "every expiry stands at 00:00 UTC" in read.note
    assert "00:00" not in (stamps(midnight, "ts", "q").note or "")
