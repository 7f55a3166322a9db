"""A run is cut into dispatches by position alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.learning.training.dispatch import Plan, Rung

rungs = st.lists(st.tuples(st.integers(1, 50_000), st.integers(1, 3000)), max_size=3)


def plan_of(first: int, later: list[tuple[int, int]], total: int, rows: int) -> Plan:
    found, position = [Rung(0, first)], 0
    for gap, clusters in later:
        position += gap
        found.append(Rung(position, clusters))
    return Plan(found, total, rows)


def walk(plan: Plan, position: int = 0):
    while (one := plan.next(position)) is not None:
        yield one
        position = one.stop


@given(st.integers(1, 3000), rungs, st.integers(1, 300_000), st.integers(1, 900))
def test_dispatches_follow_one_another_to_the_end(first, later, total, rows):
    plan = plan_of(first, later, total, rows)
    position = 0
    for one in walk(plan):
        assert one.start == position
        assert one.steps >= 1
        position = one.stop
    assert total <= position < total + max(first, *(clusters for _, clusters in later), 1)


@given(st.integers(1, 3000), rungs, st.integers(1, 300_000), st.integers(1, 900))
def test_whoever_goes_on_in_the_middle_makes_the_same_calls(first, later, total, rows):
    plan = plan_of(first, later, total, rows)
    whole = list(walk(plan))
    middle = whole[len(whole) // 2]
    assert list(walk(plan, middle.start)) == whole[len(whole) // 2 :]


@given(st.integers(1, 3000), rungs, st.integers(1, 300_000), st.integers(1, 900))
def test_every_shape_is_known_ahead(first, later, total, rows):
    plan = plan_of(first, later, total, rows)
    assert {(one.steps, one.clusters) for one in walk(plan)} == set(plan.ladder())


@given(st.integers(1, 3000), rungs, st.integers(1, 300_000))
def test_a_batch_size_begins_no_earlier_than_asked(first, later, total):
    plan = plan_of(first, later, total, 1)
    for one in walk(plan):
        due = [rung for rung in plan.rungs if rung.start <= one.start][-1]
        assert one.clusters == due.clusters


@pytest.mark.parametrize("bad", [[], [Rung(1, 4)], [Rung(0, 4), Rung(0, 8)], [Rung(0, 0)], [Rung(0, 4), Rung(9, -1)]])
def test_what_is_no_plan_is_refused(bad):
    with pytest.raises(InputError, match=r"batch"):
        Plan(bad, 100, 1)
