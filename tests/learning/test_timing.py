"""Laws of timing: sizes take turns, compilation is not counted, and memory that does not suffice is a finding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.learning.subjects import Clock, waves_subject
from volgrad.learning.batch_size.timing import Trial, row_cost, time_calls, time_ladder


def test_sizes_take_turns_so_that_a_machine_that_slows_down_slows_all_alike():
    seen = []

    def call(name, seconds):
        def run():
            seen.append(name)
            slow = 1.0 + len(seen) // 2
            return seconds * slow, seconds * slow

        return run

    rounds, spent = time_calls([call("a", 1.0), call("b", 2.0)], budget_s=0.0)
    assert "".join(seen) == "ababab"  # three rounds, whatever the budget
    assert spent == pytest.approx(rounds.sum())
    assert np.median(rounds[:, 1] / rounds[:, 0]) == pytest.approx(2.0, rel=0.5)


def test_more_rounds_are_taken_while_the_budget_lasts():
    rounds, spent = time_calls([lambda: (0.1, 0.1)], budget_s=1.0)
    assert len(rounds) == 10
    assert spent == pytest.approx(1.0)
    assert len(time_calls([lambda: (1e-9, 1e-9)], budget_s=1.0)[0]) == 15


def test_every_size_is_timed_and_its_memory_told():
    subject = waves_subject()
    ladder = time_ladder(subject, [1, 8, 64], Clock(), 1.0)
    assert [rung.clusters for rung in ladder.rungs] == [1, 8, 64]
    assert [rung.rows for rung in ladder.rungs] == [3, 24, 192]
    assert all(rung.fits and rung.measured and rung.step_s_median > 0.0 for rung in ladder.rungs)
    assert ladder.rungs[0].bytes < ladder.rungs[1].bytes < ladder.rungs[2].bytes
    assert sorted(ladder.trials) == [1, 8, 64]


def test_seconds_are_a_step_s_and_not_a_call_s():
    subject = waves_subject()
    tick = 1e-3
    ladder = time_ladder(subject, [1, 800], Clock(tick), 10.0)
    for rung in ladder.rungs:  # the clock goes on by a tick between any two looks
        assert rung.step_s_median == pytest.approx(tick / ladder.trials[rung.clusters].steps)


def test_sizes_too_long_to_time_are_drawn_on_and_said_to_be():
    ladder = time_ladder(waves_subject(), [1, 2, 4, 512, 800], Clock(1.0), budget_s=10.0)
    assert [rung.measured for rung in ladder.rungs] == [True, False, False, False, False]
    assert ladder.rungs[3].step_s_median == pytest.approx(512 * ladder.rungs[0].step_s_median)
    assert "were not timed" in ladder.notes[0]
    stopped = time_ladder(waves_subject(), [1, 2, 4], Clock(), 1.0, hopeless=lambda clusters, _: clusters == 2)
    assert [rung.measured for rung in stopped.rungs] == [True, True, False]


def test_memory_that_does_not_suffice_is_found_before_the_trial():
    subject = waves_subject(model={"needs": 1 << 40})
    ladder = time_ladder(subject, [1, 2, 4], Clock(), 1.0)
    assert [rung.fits for rung in ladder.rungs] == [False, False, False]
    assert ladder.rungs[0].bytes > 1 << 40
    assert "do not fit into memory" in ladder.notes[0]


def test_rows_cost_something_and_clusters_no_less_than_nothing():
    cost, spent, compiled = row_cost(waves_subject(), Clock(), 0.1)
    assert cost.row_s > 0.0
    assert cost.cluster_s >= 0.0
    assert min(spent, compiled) > 0.0


def test_a_trial_sees_the_samples_that_it_says():
    subject = waves_subject()
    trial = Trial(subject, 16)
    after = trial.call(jax.tree.map(jnp.copy, subject.state), trial.load(0))
    assert int(after.samples) == trial.samples == 16 * trial.steps
