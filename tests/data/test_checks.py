"""Checks over a stream: the same verdict however the rows are cut into blocks, once there are enough of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.checks import CellCheck, MedianCheck
from volgrad.data.schema import SourceKind
from volgrad.errors import SchemaError, UnitsError


def judged(values, liquid, sizes, kind=SourceKind.SNAPSHOT):
    check = MedianCheck("q", kind)
    start = 0
    for size in [*sizes, len(values)]:
        check.add("mark_iv", values[start : start + size], liquid[start : start + size])
        start += size
    check.finish()


@given(st.lists(st.integers(0, 900), max_size=8), st.integers(1, 5000), st.booleans())
def test_the_unit_is_judged_alike_in_any_blocks(sizes, rows, swapped):
    rng = np.random.default_rng(rows)
    values = rng.normal(0.6, 0.05, rows) / (100 if swapped else 1)
    liquid = rng.random(rows) < 0.5
    if swapped:
        with pytest.raises(UnitsError, match=r"mark_iv has median 0\.[56]"):
            judged(values, liquid, sizes)
    else:
        judged(values, liquid, sizes)


@given(st.lists(st.integers(0, 900), max_size=8))
def test_rows_without_two_sides_do_not_speak_where_others_do(sizes):
    values = np.where(np.arange(4000) % 100 == 0, 0.6, 400.0)
    judged(values, np.arange(4000) % 100 == 0, sizes)
    with pytest.raises(UnitsError):
        judged(values, np.zeros(4000, bool), sizes, SourceKind.CANONICAL)


def test_a_swap_in_the_middle_is_found():
    values = np.append(np.full(5000, 0.6), np.full(5000, 0.006))
    with pytest.raises(UnitsError):
        judged(values, np.ones(10_000, bool), [1000] * 9)


def test_nothing_to_judge_is_no_error():
    judged(np.array([]), np.array([], bool), [])
    judged(np.full(10, np.nan), np.ones(10, bool), [])


@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(1, 50))
def test_a_column_is_none_where_most_cells_are_none(bad, size):
    check = CellCheck("q")

    def run():
        for start in range(0, len(bad), size):
            part = np.array(bad[start : start + size])
            check.add("bid", len(part), part, start, ("n.a.", "a number"))
        check.finish()

    if 2 * sum(bad) > len(bad):
        with pytest.raises(
            SchemaError, match=f"q: column bid holds 'n.a.' in row {bad.index(True)}, expected a number"
        ):
            run()
    else:
        run()
