"""Laws of choosing: what is chosen is what was predicted or proved, it is said in words, and nothing is touched."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from tests.learning.subjects import Clock, mean_noise, mean_subject, same_bits, waves_subject
from volgrad.learning.batch_size.chooser import Effort, Wish, choose_size, effort_for
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batching.size_choice import OBJECTIVES, Bounds
from volgrad.learning.batching.size_policy import steering

EFFORT = Effort(timing=0.05, pilot=0.05, branches=0.05, sharpness=True, whole_ladder=True)
FEW = Wish(bounds=Bounds(1, 8))
INTERFACE = {"chosen", "ladder", "noise", "branches", "probe_s", "compile_s", "reason"}


@pytest.fixture(scope="module")
def decided():
    subject = waves_subject(model={"width": 4, "depth": 1})
    before = jax.tree.map(jnp.copy, subject.state)
    told = []
    decision = choose_size(subject, Wish(bounds=Bounds(4, 100)), EFFORT, Clock(), told.append)
    return subject, before, decision, told


def test_the_state_is_left_as_it_was_to_the_bit(decided):
    subject, before, _, _ = decided
    assert same_bits(subject.state, before)


def test_everything_that_was_promised_is_told_and_json_can_hold_it(decided):
    _, _, decision, _ = decided
    told = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert told.keys() >= INTERFACE
    assert {"clusters", "rows_per_cluster", "rows"} <= told["chosen"].keys()
    for rung in told["ladder"]:
        assert {"rows", "step_s_median", "step_s_iqr", "bytes", "predicted_s"} <= rung.keys()
    assert {"rows", "lo", "hi", "significant"} <= told["noise"].keys()
    assert decision["chosen"]["rows"] == decision.chosen.rows


def test_the_ladder_ends_at_the_bound_and_the_choice_is_allowed(decided):
    _, _, decision, _ = decided
    assert [rung.clusters for rung in decision.ladder] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert 4 <= decision.clusters <= 100


def test_the_choice_is_what_was_predicted_or_what_branches_proved(decided):
    _, _, decision, _ = decided
    allowed = [at for at, rung in enumerate(decision.ladder) if rung.clusters >= 4]
    best = min(decision.predicted_s[at] for at in allowed)
    here = [rung.clusters for rung in decision.ladder].index(decision.clusters)
    if "got clearly further every time" in decision.reason:
        assert decision.clusters in [branch["clusters"] for branch in decision.branches]
    else:
        assert decision.predicted_s[here] <= 1.02 * best


def test_minima_of_a_small_the_chosen_and_a_large_size_are_compared(decided):
    _, _, decision, _ = decided
    sizes = [one["clusters"] for one in decision.sharpness]
    assert {4, 100} <= set(sizes)
    assert all(math.isfinite(one["eigenvalue"]) for one in decision.sharpness)


def test_sizes_below_what_is_normalised_together_are_no_sizes():
    subject = waves_subject("ghost", model={"width": 4, "depth": 1})
    decision = choose_size(subject, Wish(bounds=Bounds(1, 64)), Effort(0.02, 0.02, 0.0), Clock())
    assert [rung.clusters for rung in decision.ladder] == [32, 64]


def test_a_learning_rate_that_diverges_is_told_and_what_was_measured_before_is_used():
    subject = waves_subject(rate_scale=1e12)
    decision = choose_size(subject, Wish(bounds=Bounds(1, 16)), Effort(0.02, 0.02, 0.0), Clock())
    assert any("no longer finite" in note and "lr-range" in note for note in decision.notes)
    assert math.isfinite(decision.noise.lo)


def test_a_run_that_is_over_before_a_choice_could_pay_keeps_the_size_that_its_rate_is_meant_for():
    decision = choose_size(waves_subject(samples=200, reference=8), clock=Clock(1e-4))
    assert decision.clusters == 8
    assert "less than choosing would" in decision.reason
    assert json.dumps(decision.to_dict(), allow_nan=False)


def test_the_reason_names_the_size_the_noise_and_what_others_would_cost(decided):
    _, _, decision, told = decided
    assert f"Batches of {decision.clusters} cluster" in decision.reason
    assert decision.noise.words() in decision.reason
    assert "times as long" in decision.reason
    assert any("compiling" in text for text in told)


def test_seconds_of_probing_are_those_of_the_clock():
    clock = Clock()
    began = clock.now
    decision = choose_size(mean_subject(), FEW, Effort(0.02, 0.02, 0.0), clock)
    assert 0.0 < decision.probe_s + decision.compile_s <= clock.now - began
    assert decision.branches == ()


def test_a_noise_scale_that_was_planted_is_what_the_choice_goes_by():
    subject = mean_subject(0.3, clusters=4000, rows=2, columns=16, intraclass=0.5)
    found = NoiseProbe(subject).at(subject, 0)
    assert steering(found) == found.clusters == pytest.approx(mean_noise(0.3, 2, 0.5), rel=0.15)


def test_where_the_slope_is_lost_in_noise_the_lower_bound_is_gone_by():
    subject = mean_subject(1e-4, rows=2, columns=32)
    found = NoiseProbe(subject).at(subject, 0)
    assert steering(found) == found.lo


def test_alike_rows_are_drawn_thin_where_that_is_asked_for():
    subject = mean_subject(0.3, clusters=4000, rows=16, columns=8, intraclass=0.6)
    whole = choose_size(subject, FEW, Effort(0.02, 0.02, 0.0), Clock())
    thin = choose_size(subject, FEW._replace(rows=True), Effort(0.02, 0.02, 0.0), Clock())
    assert whole.chosen.rows_per_cluster == 16
    assert thin.chosen.rows_per_cluster == thin.rows_drawn < 16
    assert whole.rows_drawn is None
    assert [one["rows_per_cluster"] for one in thin.rows_choice if one["best"]] == [thin.chosen.rows_per_cluster]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_told_in_words(objective):
    decision = choose_size(mean_subject(), FEW._replace(objective=objective), Effort(0.02, 0.02, 0.0), Clock())
    assert decision.objective == objective
    assert (f"spare {objective.replace('samples', 'data')}" in decision.reason) == (objective != "time")


def test_effort_is_a_share_of_the_run_within_bounds():
    efforts = [effort_for(run_s) for run_s in (1.0, 100.0, 1000.0, 1e6)]
    sums = [effort.timing + effort.pilot + effort.branches for effort in efforts]
    assert sums == sorted(sums)
    assert sums[2] == pytest.approx(20.0)
    assert sums[3] == pytest.approx(60.0)
    assert efforts[0].branches == 0.0
