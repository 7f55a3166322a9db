"""Stacks ahead of their use: the same stacks, errors where they are seen, and an end to the thread."""

import threading

import numpy as np
import pytest

from tests.learning.images import in_memory, uneven
from volgrad.errors import InputError
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.prefetch import Prefetch


@pytest.fixture
def loader():
    loader = Loader(in_memory(uneven(60, 7)), range(60), 1, rows_per_cluster=3)
    yield loader
    loader.close()


def running():
    return [thread for thread in threading.enumerate() if thread.name == "volgrad-prefetch"]


@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize("ahead", [1, 3])
def test_stacks_are_those_of_the_loader(loader, release, ahead):
    requests = [(0, 2, 10), (20, 2, 10), (40, 2, 10), (60, 1, 60), (120, 2, 10), (140, 2, 10)]
    with Prefetch(loader, requests, ahead) as stacks:
        for request, stack in zip(requests, stacks, strict=True):
            for found, wanted in zip(stack, loader.stack(*request), strict=True):
                assert np.array_equal(found, wanted)
            if release:
                stacks.release(stack)
        assert list(stacks) == []
    assert not running()


def test_a_stack_stays_as_it_is_until_it_is_released(loader):
    with Prefetch(loader, [(at, 1, 20) for at in range(0, 200, 20)]) as stacks:
        kept = list(stacks)
    for number, stack in enumerate(kept):
        assert np.array_equal(stack.values, loader.stack(20 * number, 1, 20).values)


def test_an_error_is_raised_where_the_stack_is_asked_for(loader):
    with Prefetch(loader, [(0, 1, 5), (-5, 1, 5), (5, 1, 5)]) as stacks:
        assert next(stacks).values.shape[1] == 5
        with pytest.raises(InputError, match="from -5"):
            next(stacks)
        with pytest.raises(StopIteration):
            next(stacks)


def test_an_error_of_the_requests_is_raised_too(loader):
    def requests():
        yield 0, 1, 5
        raise KeyError("mine")

    with Prefetch(loader, requests()) as stacks:
        next(stacks)
        with pytest.raises(KeyError, match="mine"):
            next(stacks)


def test_closing_early_ends_the_thread(loader):
    stacks = Prefetch(loader, ((at, 1, 5) for at in range(0, 10**9, 5)))
    next(stacks)
    stacks.close()
    stacks.close()
    assert not running()
    assert list(stacks) == []


def test_at_least_one_is_ready_ahead(loader):
    with pytest.raises(ValueError, match="ahead is 0"):
        Prefetch(loader, [], 0)
