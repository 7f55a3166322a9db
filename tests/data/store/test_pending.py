"""Which parts are merged: few stay, no row is rewritten often."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.store.manifest import PartEntry
from volgrad.data.store.pending import to_merge


def parts(rows):
    return [PartEntry(f"{n}", "", 1, count, n, n, {}, {}) for n, count in enumerate(rows)]


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 10), st.integers(50, 400))
def test_merging_brings_a_partition_down_to_its_limit_where_rows_allow(rows, most, limit):
    before = parts(rows)
    chosen = to_merge(before, most, limit)
    total = sum(part.rows for part in chosen)
    after = len(before) - len(chosen) + bool(chosen)
    assert len(chosen) != 1
    assert total <= limit
    assert chosen == sorted(chosen, key=lambda part: part.from_us)
    if len(before) <= most:
        assert chosen == []
    elif after > most:  # the next larger part would have made it too large
        ascending = sorted(part.rows for part in before)
        assert sum(ascending[: max(len(chosen), 1) + 1]) > limit


def test_a_row_is_rewritten_as_often_as_the_logarithm_of_the_rows():
    rewritten, stored = Counter(), []
    for number in range(2000):
        stored.append((1, {number}))
        entries = parts([size for size, _ in stored])
        chosen = {int(part.path) for part in to_merge(entries, 8, 10**6)}
        if chosen:
            together = set().union(*(stored[n][1] for n in chosen))
            rewritten.update(together)
            stored = [one for n, one in enumerate(stored) if n not in chosen] + [(len(together), together)]
    assert len(stored) <= 8
    assert max(rewritten.values()) <= 40
    assert sum(rewritten.values()) / 2000 < 25
