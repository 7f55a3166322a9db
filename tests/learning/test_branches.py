"""Laws of paired branches: they repeat, leave no trace, and overturn a prediction on clear evidence only."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from tests.learning.subjects import Clock, mean_subject, same_bits, waves_subject
from volgrad.learning.batch_size.branches import Branch, prove, winner
from volgrad.learning.batch_size.timing import time_ladder


def branch(size, *losses):
    return Branch(size, size, 1, size, 1.0, 1, losses, None)


def test_only_what_is_ahead_in_every_replicate_overturns_the_prediction():
    results = {8: branch(8, 0.5, 0.5), 16: branch(16, 0.3, 0.6), 32: branch(32, 0.45, 0.45)}
    assert winner(results, 8, [8, 16], before=1.0) == 8
    assert winner(results, 8, [8, 16, 32], before=1.0) == 32


def test_a_lead_of_less_than_three_hundredths_of_what_was_gained_is_no_lead():
    results = {8: branch(8, 0.50, 0.50), 16: branch(16, 0.49, 0.49)}
    assert winner(results, 8, [8, 16], before=1.0) == 8


def test_what_diverged_never_wins_and_always_loses():
    nan = float("nan")
    assert winner({8: branch(8, 0.5, 0.5), 16: branch(16, nan, 0.1)}, 8, [8, 16], before=1.0) == 8
    assert winner({8: branch(8, nan, nan), 16: branch(16, 0.9, 0.9)}, 8, [8, 16], before=1.0) == 16


@pytest.fixture(scope="module")
def proved():
    subject = waves_subject("batch")
    before = jax.tree.map(jnp.copy, subject.state)
    ladder = time_ladder(subject, [4, 16, 64, 256], Clock(), 1.0)
    rungs = [rung._replace(step_s_median=1e-4 * (1.0 + rung.clusters / 64.0)) for rung in ladder.rungs]
    run = [prove(subject, ladder.trials, rungs, [1.0, 0.5, 0.7, 2.0], budget_s=1.0) for _ in range(2)]
    return subject, before, run


def test_the_state_is_left_as_it_was_to_the_bit(proved):
    subject, before, _ = proved
    assert same_bits(subject.state, before)


def test_branches_repeat_to_the_bit(proved):
    one, other = proved[2]
    assert [branch.losses for branch in one.branches] == [branch.losses for branch in other.branches]
    assert same_bits([branch.state for branch in one.branches], [branch.state for branch in other.branches])


def test_finalists_had_the_same_seconds_and_the_predicted_size_is_one(proved):
    proof = proved[2][0]
    last = max(branch.rounds for branch in proof.branches)
    finalists = [branch for branch in proof.branches if branch.rounds == last]
    assert 16 in [branch.clusters for branch in finalists]
    assert len(finalists) == 2
    seconds = [branch.seconds for branch in finalists]
    assert max(seconds) / min(seconds) < 1.2
    assert 2.0 * sum(branch.seconds for branch in proof.branches) <= 1.2  # two replicates, of a budget of 1 s
    assert all(branch.loss < proof.before for branch in finalists)


def test_a_size_that_learns_ten_times_faster_is_found():
    # without noise in its slope a step of any size brings the same: the cheapest wins, whatever was predicted
    subject = mean_subject(3.0, columns=4, rate=1e-4, reference=1)
    still = subject.optimizers(1, None)
    subject = dataclasses.replace(subject, optimizers=lambda clusters, noise: still)
    ladder = time_ladder(subject, [16, 256], Clock(), 1.0)
    rungs = [rung._replace(step_s_median=1e-4 * rung.clusters / 16) for rung in ladder.rungs]
    proof = prove(subject, ladder.trials, rungs, [1.0, 0.1], budget_s=0.4)
    assert (proof.confirmed, proof.clusters) == (False, 16)
