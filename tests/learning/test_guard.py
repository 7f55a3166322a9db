"""The guard on simulated losses: noise passes, divergence and NaN are rolled back, a plateau is told, and it ends."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.training.guard import Action, Guard, GuardRule

RULE = GuardRule()


def run(losses, per_dispatch=20, rule=RULE, guard=None, accepted=None):
    """Judge a sequence of losses, dispatch by dispatch; the verdicts."""
    guard, verdicts = Guard() if guard is None else guard, []
    accepted = np.isfinite(losses) if accepted is None else accepted
    for start in range(0, len(losses), per_dispatch):
        part = slice(start, start + per_dispatch)
        verdicts.append(guard.judge(losses[part], accepted[part], rule))
        guard = verdicts[-1].guard
    return verdicts


def actions(verdicts):
    return {verdict.action for verdict in verdicts}


def decay(steps, noise, seed=0, floor=0.02):
    random = np.random.default_rng(seed)
    return (floor + np.exp(-np.arange(steps) / 300.0)) * np.exp(noise * random.standard_normal(steps))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6), noise=st.floats(0.0, 0.4), per_dispatch=st.sampled_from([5, 32, 256]), low=st.booleans()
)
def test_noise_is_no_divergence(seed, noise, per_dispatch, low):
    losses = decay(3000, noise, seed) - (1.0 if low else 0.0)  # below zero, too
    assert actions(run(losses, per_dispatch)) == {Action.GO_ON}


def test_single_steps_with_heavy_tails_are_no_divergence():
    random = np.random.default_rng(1)
    assert actions(run(0.5 + 0.1 * np.abs(random.standard_t(3, 2000)), per_dispatch=1)) == {Action.GO_ON}


@pytest.mark.parametrize("per_dispatch", [1, 8, 64])
@pytest.mark.parametrize("speed", [0.02, 0.5])
def test_a_loss_that_runs_away_is_rolled_back_before_it_is_long_gone(per_dispatch, speed):
    sound = decay(640, 0.1)
    losses = np.concatenate([sound, sound[-1] * np.exp(speed * np.arange(640))])
    verdicts = run(losses, per_dispatch)
    first = next(index for index, one in enumerate(verdicts) if one.action is not Action.GO_ON)
    assert verdicts[first].action is Action.ROLL_BACK
    assert verdicts[first].factor == RULE.factor
    how = "drifted away" if (per_dispatch, speed) == (1, 0.02) else "ran away"  # the band goes along with the slowest
    assert how in verdicts[first].message
    assert first * per_dispatch >= 640
    if per_dispatch * speed < 5.0:
        assert np.median(losses[first * per_dispatch :][:per_dispatch]) < 100.0 * sound[0]


def test_a_roll_back_leaves_the_memory_of_good_losses_as_it_was():
    guard = run(decay(600, 0.1))[-1].guard
    verdict = guard.judge(np.full(20, 1e9), np.ones(20, bool), RULE)
    assert verdict.guard == guard._replace(rollbacks=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_few_bad_batches_are_skipped_and_many_are_rolled_back(bad):
    losses = decay(400, 0.1)
    losses[[50, 51, 200]] = bad
    assert actions(run(losses)) == {Action.GO_ON}
    losses[300:303] = bad
    verdicts = run(losses)
    assert verdicts[15].action is Action.ROLL_BACK
    assert "3 of 20 losses or gradients were not finite, 3 in a row" in verdicts[15].message


def test_steps_that_were_not_taken_count_across_dispatches_whatever_their_loss():
    """A dispatch of one step: the gradient, not the loss, is at fault."""
    verdicts = run(np.ones(6), per_dispatch=1, accepted=np.array([True, False, False, True, False, False]))
    assert actions(verdicts) == {Action.GO_ON}
    verdicts = run(np.ones(4), per_dispatch=1, accepted=np.array([True, False, False, False]))
    assert [one.action for one in verdicts][-1] is Action.ROLL_BACK
    assert verdicts[-1].guard.refused == 0


def test_after_so_many_roll_backs_it_gives_up_and_says_what_to_do():
    verdicts = run(np.full(20 * 7, np.nan))
    assert [one.action for one in verdicts[:6]] == [Action.ROLL_BACK] * 5 + [Action.GIVE_UP]
    assert "after 5 roll-backs: gave up; lower the learning rate" in verdicts[5].message
    assert verdicts[5].factor == 1.0


def test_a_plateau_is_stalled_has_remedies_and_an_end():
    rule = GuardRule(patience=1000)
    verdicts = run(np.concatenate([decay(3000, 0.05, floor=0.0)[:1000], np.full(9000, 0.05)]), rule=rule)
    told = [one for one in verdicts if one.action is not Action.GO_ON]
    assert [one.action for one in told[:4]] == [Action.REMEDY] * 3 + [Action.GIVE_UP]
    assert "has not fallen by 0.1% in 1,000 steps: stalled, step times 0.333 (remedy 1 of 3)" in told[0].message
    assert "after 3 remedies: gave up" in told[3].message


def test_slow_progress_is_no_plateau_and_without_patience_there_is_none():
    slow = 1.0 - 0.5 * np.arange(20_000) / 20_000
    assert actions(run(slow, rule=GuardRule(patience=2000))) == {Action.GO_ON}
    assert actions(run(np.ones(20_000))) == {Action.GO_ON}


def test_exact_data_are_no_divergence():
    """A loss that goes to zero: a thousand times next to nothing is still nothing."""
    losses = np.concatenate([np.exp(-np.arange(2000) / 50.0), np.full(500, 1e-14)])
    assert actions(run(losses)) == {Action.GO_ON}


@settings(max_examples=40)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=80), st.integers(1, 9))
def test_it_is_a_function_of_what_it_was_shown_and_goes_through_json(losses, per_dispatch):
    losses = np.asarray(losses)
    whole = run(losses, per_dispatch)
    half = len(whole) // 2
    stored = json.dumps((whole[half - 1].guard if half else Guard()).as_dict(), allow_nan=False)
    rest = run(losses[half * per_dispatch :], per_dispatch, guard=Guard.from_dict(json.loads(stored)))
    assert rest == whole[half:]
