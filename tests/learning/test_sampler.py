"""The sampler: the same order for any way of asking, a new one each epoch."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.learning.batching.sampler import Sampler


@settings(max_examples=40)
@given(n=st.integers(40, 500), seed=st.integers(-(2**70), 2**70), cuts=st.lists(st.integers(0, 700), max_size=6))
def test_the_order_does_not_depend_on_how_it_is_asked_for(n, seed, cuts):
    whole = Sampler(n, seed).indices(0, 700)
    ends = [0, *sorted({cut for cut in cuts if 0 < cut < 700}), 700]
    pieces = [Sampler(n, seed).indices(first, last - first) for first, last in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), whole)


@settings(max_examples=30)
@given(n=st.integers(1, 3000), epoch=st.integers(0, 10**12), seed=st.integers(0, 99))
def test_every_epoch_has_everything_once(n, epoch, seed):
    assert np.array_equal(np.sort(Sampler(n, seed).indices(epoch * n, n)), np.arange(n))


def test_epochs_and_seeds_differ():
    n = 200
    orders = {tuple(Sampler(n, seed).indices(epoch * n, n).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100  # seed + epoch as a key would give 19


def test_where_each_thing_stands_is_even_over_epochs():
    n, epochs = 10, 1500
    found = Sampler(n, 5).indices(0, n * epochs).reshape(epochs, n)
    cells = np.array([np.bincount(found[:, place], minlength=n) for place in range(n)])
    expected = epochs / n
    assert ((cells - expected) ** 2 / expected).sum() < 81 + 5 * np.sqrt(2 * 81)


@pytest.mark.parametrize(
    ("n", "start", "count", "words"),
    [
        (0, 0, 1, "n is 0: give the number of things"),
        (2.5, 0, 1, "n is 2.5"),
        (5, -1, 1, "start is -1"),
        (5, 0, -2, "count -2"),
        (5, 0, 1.5, "count 1.5"),
    ],
)
def test_what_cannot_be_is_refused(n, start, count, words):
    with pytest.raises(InputError, match=words):
        Sampler(n, 0).indices(start, count)


def test_nothing_is_nothing():
    assert Sampler(3, 0).indices(7, 0).tolist() == []


def test_sampling_needs_no_jax():
    work = "from volgrad.learning.batching.sampler import Sampler; Sampler(9, 0).indices(0, 20)"
    code = f"import sys; {work}; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
