"""Laws of the choice of a size: it is the least predicted cost, whatever the unit, and moves the right way."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.batching.size_choice import Bounds, Timed, Work, choose, most_samples, predicted

SIZES = tuple(1 << power for power in range(14))
WORK = Work(100_000, 32)


def ladder(call_s=1e-4, row_s=1e-6, sizes=SIZES):
    return tuple(Timed(size, size, call_s + row_s * size, 0.0, 100 * size) for size in sizes)


positive = st.floats(1e-7, 1e-2)
scales = st.floats(0.1, 1e5)


@given(positive, positive, scales)
def test_a_ladder_of_powers_of_two_loses_at_most_a_few_hundredths_to_the_best_of_all_sizes(call_s, row_s, noise):
    best = math.sqrt(call_s / row_s * noise)
    assume(1.0 <= best <= SIZES[-1])
    rungs = ladder(call_s, row_s)
    choice = choose(rungs, noise, WORK)
    least = WORK.least_steps(noise) * (math.sqrt(call_s) + math.sqrt(row_s * noise)) ** 2
    assert least * (1.0 - 1e-9) <= choice.predicted_s[choice.place] <= 1.031 * 1.02 * least


@given(positive, positive, scales, st.floats(0.01, 100.0))
def test_missing_the_best_by_a_factor_costs_no_more_than_the_bound(call_s, row_s, noise, factor):
    best = math.sqrt(call_s / row_s * noise)
    sizes = (best, factor * best)
    rungs = [Timed(size, 0, call_s + row_s * size, 0.0, 0) for size in sizes]
    costs = predicted(rungs, noise, WORK)
    assert costs[1] / costs[0] - 1.0 <= (factor + 1.0 / factor - 2.0) / 4.0 + 1e-9


@given(positive, positive, scales, st.floats(1.01, 10.0))
def test_more_noise_never_asks_for_a_smaller_size(call_s, row_s, noise, more):
    rungs = ladder(call_s, row_s)
    assert choose(rungs, more * noise, WORK).place >= choose(rungs, noise, WORK).place


@given(scales, st.floats(0.1, 10.0), st.integers(1, 10**9))
def test_the_choice_depends_neither_on_the_unit_of_time_nor_on_the_length_of_the_run(noise, unit, samples):
    faster = ladder(1e-4 * unit, 1e-6 * unit)
    assert choose(faster, noise, Work(samples, 32)).place == choose(ladder(), noise, WORK).place


def test_the_reference_size_takes_the_run_that_was_asked_for():
    rungs = ladder()
    at = SIZES.index(WORK.reference)
    assert predicted(rungs, 500.0, WORK)[at] == pytest.approx(WORK.samples / WORK.reference * rungs[at].step_s_median)
    assert choose(rungs, 500.0, WORK).samples[at] == pytest.approx(WORK.samples)


def test_a_cliff_is_seen_where_it_was_measured():
    rungs = list(ladder())
    place = choose(rungs, 1000.0, WORK).place
    rungs[place] = rungs[place]._replace(step_s_median=3.0 * rungs[place].step_s_median)
    assert choose(rungs, 1000.0, WORK).place in (place - 1, place + 1)


@given(scales)
def test_sparing_samples_needs_at_most_a_tenth_more_of_them(noise):
    choice = choose(ladder(), noise, WORK, "samples")
    assert choice.place == 0 or choice.samples[choice.place] <= 1.1 * WORK.least_steps(noise) * noise + 1e-6
    assert most_samples(noise) == pytest.approx(0.1 * noise)


@given(scales)
def test_sparing_memory_takes_the_least_that_is_not_much_slower(noise):
    rungs = ladder()
    choice, fastest = choose(rungs, noise, WORK, "memory"), choose(rungs, noise, WORK)
    assert rungs[choice.place].bytes <= rungs[fastest.place].bytes
    assert choice.predicted_s[choice.place] <= 1.25 * fastest.predicted_s[fastest.place]


@given(scales, st.integers(0, 13), st.integers(0, 13))
def test_bounds_hold(noise, one, other):
    least, most = sorted((SIZES[one], SIZES[other]))
    chosen = ladder()[choose(ladder(), noise, WORK, bounds=Bounds(least, most)).place].clusters
    assert least <= chosen <= most


def test_what_does_not_fit_is_not_chosen():
    rungs = [rung._replace(fits=rung.clusters <= 8) for rung in ladder()]
    choice = choose(rungs, 1e5, WORK)
    assert rungs[choice.place].clusters == 8
    assert choice.predicted_s[-1] == math.inf


def test_refusals_say_what_to_do():
    with pytest.raises(UnknownOptionError, match=r"did you mean 'samples'"):
        choose(ladder(), 1.0, WORK, "sample")
    with pytest.raises(InputError, match=r"no batch of 3 to 3 clusters: .* 1 to 8,192"):
        choose(ladder(), 1.0, WORK, bounds=Bounds(3, 3))
    with pytest.raises(InputError, match="not even the smallest"):
        choose([rung._replace(fits=False) for rung in ladder()], 1.0, WORK)
