"""Keyed permutations: bijections of any length, spread as evenly as chance would, and the same for the same key."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.batching.permutation import LONGEST, Permutation, digest_key, mixed_key, permute_each

SOME = 20_000


def excess(counts: np.ndarray, expected: float) -> float:
    """Chi-square of counts about what is expected, in standard deviations from its mean."""
    freedom = counts.size - 1
    return float(((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2.0 * freedom)


@settings(max_examples=40)
@given(n=st.integers(1, 70_000), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40))
def test_every_number_stands_at_one_place(n, seed, epoch):
    found = Permutation.of(n, seed, epoch).at(np.arange(n))
    assert np.array_equal(np.sort(found), np.arange(n))


@pytest.mark.parametrize("n", [2**28 + 1, 2**32 - 1, 2**32, 2**32 + 5, 2**40, 10**15 + 7, LONGEST])
def test_long_orders_stay_inside_and_do_not_repeat(n):
    places = np.unique(np.random.default_rng(1).integers(n, size=SOME))
    found = Permutation.of(n, 3).at(places)
    assert found.min() >= 0
    assert found.max() < n
    assert len(np.unique(found)) == len(places)
    assert abs(excess(np.bincount((found // (n // 64 + 1)), minlength=64), len(places) / 64)) < 5.0


@pytest.mark.parametrize("n", [0, -1, LONGEST + 1])
def test_lengths_that_cannot_be_are_refused(n):
    with pytest.raises(ValueError, match=f"a permutation of {n} numbers"):
        Permutation.of(n, 0)


def test_places_may_be_asked_for_in_any_order_and_pieces():
    order = Permutation.of(100_003, 1)
    places = np.random.default_rng(0).permutation(100_003)
    assert np.array_equal(order.at(places), order.at(np.arange(100_003))[places])
    assert order.at(places[:0]).size == 0


@pytest.mark.parametrize("n", [3, 4, 5])
def test_all_orders_of_a_few_are_equally_likely(n):
    keys = 8_000 * n
    found = permute_each(np.tile(np.arange(n), (keys, 1)), np.full(keys, n), mixed_key(digest_key(n), np.arange(keys)))
    code = (found * n ** np.arange(n)[None, :]).sum(axis=1)
    every = [sum(one * n**at for at, one in enumerate(order)) for order in itertools.permutations(range(n))]
    counts = np.array([(code == one).sum() for one in every])
    assert counts.sum() == keys
    assert excess(counts, keys / math.factorial(n)) < 4.0


@pytest.mark.parametrize("n", [3, 5, 9, 100])
def test_one_order_at_a_time_is_as_even(n):
    found = np.array([Permutation.of(n, "key", key).at(np.arange(n)) for key in range(1000)])
    cells = np.array([np.bincount(found[:, place], minlength=n) for place in range(n)])
    assert abs(excess(cells, len(found) / n)) < 5.0


@pytest.mark.parametrize("n", [4_096, 65_536, 500_000, 2**29])
def test_place_and_value_are_independent(n):
    places = np.arange(min(n, 500_000))
    found = Permutation.of(n, "cells", 2).at(places)
    cells = np.zeros((32, 32))
    np.add.at(cells, (places * 32 // len(places), found * 32 // n), 1.0)
    # of a whole permutation both margins are given: fewer degrees of freedom, and less than their number is lost
    assert abs(excess(cells, len(places) / 1024)) < 6.0
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5.0 / math.sqrt(len(places))
    assert abs(np.corrcoef(places, found)[0, 1]) < 5.0 / math.sqrt(len(places))


def test_neighbours_do_not_stay_together():
    found = Permutation.of(1_000_000, "steps", 1).at(np.arange(1_000_000))
    steps = np.diff(found) % 1_000_000
    counts = np.bincount(steps * 1000 // 1_000_000, minlength=1000)
    assert abs(excess(counts, len(steps) / 1000)) < 5.0
    assert np.bincount(steps).max() <= 12  # chance: the most of a million Poisson numbers of mean 1 is 8 to 11


def test_fixed_points_are_as_many_as_chance_has():
    fixed = [
        int((Permutation.of(2_000, "fixed", key).at(np.arange(2_000)) == np.arange(2_000)).sum()) for key in range(900)
    ]
    mean, variance = np.mean(fixed), np.var(fixed)
    assert abs(mean - 1.0) < 5.0 / 20.0  # Poisson of mean 1
    assert abs(variance - 1.0) < 0.5


def test_orders_of_two_keys_have_nothing_in_common():
    first, second = (Permutation.of(50_000, "two", key).at(np.arange(50_000)) for key in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert (first == second).sum() < 10


def test_words_of_a_key_are_not_added_up():
    assert len({digest_key(a, b) for a in range(20) for b in range(20)}) == 400
    assert digest_key("1", 2) != digest_key(1, 2)


def test_mixed_keys_differ():
    one, two = np.divmod(np.arange(40_000), 200)
    assert len(np.unique(mixed_key(7, one, two))) == 40_000


@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=12), seed=st.integers(0, 2**32))
def test_many_orders_at_once_are_bijections(sizes, seed):
    n = np.array(sizes)
    wide = n.max()
    places = np.minimum(np.arange(wide)[None, :], n[:, None] - 1)
    found = permute_each(places, n, mixed_key(seed, np.arange(len(n))))
    for line, size in zip(found, n, strict=True):
        assert np.array_equal(np.sort(line[:size]), np.arange(size))
