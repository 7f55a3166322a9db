"""Blocks of hashes against sets of pairs, with keys that collide on purpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.store.identity import Lanes
from volgrad.data.store.known import Block, HashCache, known_rows, merged, order_of, repeated_rows

# few upper halves, so that keys are shared; few lower halves and second lanes, so that rows are
words = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1))
rows = st.lists(st.tuples(words, st.integers(0, 5)), min_size=1, max_size=30)


def arrays(some):
    first = np.array([(key << 32) + low for (key, low, _), _ in some], np.uint64)
    second = np.array([last for (_, _, last), _ in some], np.uint64)
    return np.array([stamp for _, stamp in some]), Lanes(first, second)


def block(some):
    stamp, hashes = arrays(some)
    return Block.of(stamp, hashes, order_of(hashes))


@given(rows)
def test_repeated_rows_are_those_that_stand_before(some):
    _, hashes = arrays(some)
    words_only = [word for word, _ in some]
    expected = [word in words_only[:place] for place, word in enumerate(words_only)]
    assert repeated_rows(hashes, order_of(hashes)).tolist() == expected


@given(rows, st.lists(rows, max_size=4))
def test_known_rows_are_those_of_a_block_whose_times_overlap(some, others):
    stamp, hashes = arrays(some)
    blocks = [block(one) for one in others]
    expected = [
        any(word in [w for w, _ in one] and min(s for _, s in one) <= when <= max(s for _, s in one) for one in others)
        for word, when in some
    ]
    assert known_rows(stamp, hashes, order_of(hashes), blocks).tolist() == expected
    if blocks:
        one = merged(blocks)
        stamps = [when for several in others for _, when in several]
        assert (one.from_us, one.to_us) == (min(stamps), max(stamps))
        assert (np.diff(one.keys.astype(np.int64)) >= 0).all()
        assert sorted(zip(*one.hashes, strict=True)) == sorted(
            pair for several in blocks for pair in zip(*several.hashes, strict=True)
        )


@given(rows)
def test_order_is_that_of_the_upper_half_and_stable(some):
    _, hashes = arrays(some)
    assert order_of(hashes).tolist() == sorted(range(len(some)), key=lambda row: some[row][0][0])


class Named:
    """A part as far as the cache looks."""

    def __init__(self, path):
        self.path = path


@pytest.mark.parametrize(("limit", "reads"), [(10**6, "abc"), (100, "abcabcabc"), (0, "abcabcabc")])
def test_the_cache_keeps_what_fits_and_reads_the_rest_again(limit, reads):
    read = []

    def from_file(entry):
        read.append(entry.path)
        return block([((ord(entry.path), 0, 0), 0)] * 4)

    cache = HashCache(from_file, limit)
    for _ in range(3):
        for name in "abc":
            assert cache.block(Named(name)).keys[0] == ord(name)
    assert "".join(read) == reads
    cache.forget(Named("a"))
    cache.block(Named("a"))
    assert read[-1] == "a"
