"""Splits forward in time: nothing leaks, whatever the stamps; and what a split is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.image import Feature, Image
from volgrad.errors import EmptyInputError, InputError, SchemaError
from volgrad.learning.batching.splits import Splits, effective_size

GAPS = st.integers(0, 400)


@given(
    steps=st.lists(st.integers(0, 50), min_size=3, max_size=120),
    delays=st.lists(st.integers(0, 900), min_size=120, max_size=120),
    shares=st.tuples(st.floats(0.0, 0.6), st.floats(0.0, 0.39)),
    purge=GAPS,
    embargo=GAPS,
)
def test_no_label_of_an_earlier_part_is_known_after_a_later_part_begins(steps, delays, shares, purge, embargo):
    start = np.cumsum(np.array(steps, np.int64))
    known = start + np.array(delays[: len(start)])
    validation, test = shares
    try:
        found = Splits.forward(start, known, validation=validation, test=test, purge_us=purge, embargo_us=embargo)
    except EmptyInputError:
        return
    parts = [found.train, found.validation, found.test]
    assert [len(part) > 0 for part in parts] == [True, validation > 0.0, test > 0.0]
    there = [part for part in parts if len(part)]
    for number, earlier in enumerate(there):
        for later in there[number + 1 :]:
            assert known[earlier.start : earlier.stop].max() <= start[later.start] - purge - embargo
            assert earlier.stop <= later.start


def test_shares_are_of_clusters():
    stamps = np.arange(1000)
    found = Splits.forward(stamps, stamps, validation=0.2, test=0.1)
    assert (found.train, found.validation, found.test) == (range(700), range(700, 900), range(900, 1000))
    alone = Splits.forward(stamps, stamps, validation=0.0, test=0.0)
    assert (alone.train, len(alone.validation), len(alone.test)) == (range(1000), 0, 0)


def test_clusters_of_one_stamp_stay_together():
    stamps = np.repeat(np.arange(10), 4)
    found = Splits.forward(stamps, stamps + 0, validation=0.33, test=0.21)
    for part in (found.validation, found.test):
        assert part.start % 4 == 0
    # labels known at the very stamp of the boundary are not after it
    assert found.train.stop == found.validation.start


def test_one_late_label_ends_a_part():
    start = np.arange(100)
    known = start.copy()
    known[30] = 95
    assert Splits.forward(start, known, validation=0.2, test=0.2).train == range(30)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation": 0.6, "test": 0.4}, "together below 1"),
        ({"validation": -0.1}, "validation is -0.1"),
        ({"purge_us": -1}, "purge is -1 us"),
        ({"known_us": np.arange(9)}, "10 starts, 9 label times"),
        ({"start_us": np.arange(10)[::-1]}, "order of start_us"),
        ({"known_us": np.arange(10) - 1}, "known_us not before"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        Splits.forward(**{"start_us": np.arange(10), "known_us": np.arange(10)} | change)


@pytest.mark.parametrize(("gap", "part"), [({"purge_us": 1000}, "train"), ({"embargo_us": 1000}, "validation")])
def test_nothing_left_is_told(gap, part):
    with pytest.raises(EmptyInputError, match=rf"no cluster is left for {part}: 10 clusters .* smaller gaps"):
        Splits.forward(np.arange(10), np.arange(10), **gap)


def image_of(values, clusters):
    counts = np.full(clusters, len(values) // clusters)
    stamps = np.arange(clusters) * 3_600_000_000
    return Image.of(values[:, None].astype(np.float32), counts, stamps, stamps, [Feature("y", "1")])


def test_independent_rows_are_worth_what_they_are():
    found = effective_size(image_of(np.random.default_rng(0).standard_normal(8000), 400), range(400), "y")
    assert (found.rows, found.clusters) == (8000, 400)
    assert found.design_effect < 1.25
    assert found.effective_rows > 5500


def test_rows_that_are_alike_are_worth_less():
    random = np.random.default_rng(1)
    shared = np.repeat(random.standard_normal(1000), 20)
    found = effective_size(image_of(shared + random.standard_normal(20_000), 1000), range(1000), "y")
    assert found.correlation == pytest.approx(0.5, abs=0.06)
    assert found.design_effect == pytest.approx(1.0 + 19 * 0.5, rel=0.12)
    assert found.effective_rows < 1.2 * 20_000 / 10.5


def test_clusters_that_are_alike_over_time_are_worth_less():
    random = np.random.default_rng(2)
    level, noise = np.zeros(2000), random.standard_normal(2000)
    for at in range(1, 2000):
        level[at] = 0.8 * level[at - 1] + noise[at]
    found = effective_size(image_of(np.repeat(level, 2), 2000), range(2000), "y")
    assert 2000 / 9 / 1.8 < found.effective_clusters < 2000 / 9 * 1.8  # (1 + .8) / (1 - .8) = 9
    assert found.effective_rows <= found.effective_clusters * 1.05


def test_the_effective_size_needs_a_column_and_clusters():
    image = image_of(np.arange(10.0), 5)
    with pytest.raises(SchemaError, match="no feature 'x'"):
        effective_size(image, range(5), "x")
    with pytest.raises(EmptyInputError, match="no cluster"):
        effective_size(image, range(0), "y")
