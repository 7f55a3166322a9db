"""Lengths of time: exact, read back, and refused in one sentence."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market.duration import format_duration, parse_duration

UNITS = {
    "us": 1,
    "ms": 10**3,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
    "w": 7 * 86400 * 10**6,
}


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNITS)))
def test_a_whole_number_of_units_is_that_many_microseconds(count, unit):
    assert parse_duration(f"{count}{unit}") == count * UNITS[unit]
    assert parse_duration(f" {count} {unit} ") == count * UNITS[unit]


@given(st.integers(1, 2**63 - 1))
def test_what_is_written_is_read_back_exactly(duration_us):
    assert parse_duration(format_duration(duration_us)) == duration_us


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_longer_is_longer(one, other):
    assert (one < other) == (parse_duration(f"{one}ms") < parse_duration(f"{other}ms"))


def test_the_standard_library_agrees():
    assert timedelta(microseconds=parse_duration("1.5h")) == timedelta(hours=1.5)
    assert timedelta(microseconds=parse_duration("0.1s")) == timedelta(milliseconds=100)


BAD = ["", "5", "m", "0s", "0.0d", "-5m", "+5m", "5min", "5M", "1h30m", "nan s", "inf d", "1e3s", "٥m", "0.1us", "5,5m"]


@pytest.mark.parametrize("text", [*BAD, "9" * 20 + "s", "99999999999999w"])
def test_what_is_no_length_is_refused_with_its_value(text):
    with pytest.raises(InputError, match=r"^--every is ") as refusal:
        parse_duration(text, "--every")
    assert repr(text) in str(refusal.value)
    assert "\n" not in str(refusal.value)
