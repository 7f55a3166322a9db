"""The laws by which hyperparameters follow the batch size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.training.batch_rules import RULES, Hyperparameters, hyperparameters
from volgrad.learning.training.first_order import NAMES

BASE = Hyperparameters(1e-3, 0.9, 0.999, 1e-8, 1e-2)
every = pytest.mark.parametrize("name", RULES)
sizes = st.integers(4, 256)  # of which no moment's bounds are reached
noise = st.none() | st.floats(1.0, 1e4)


def test_every_optimizer_has_a_rule():
    assert set(RULES) == set(NAMES)


@every
@given(size=sizes, scale=noise, betas=st.sampled_from(["half-life", "linear"]))
def test_at_the_reference_nothing_changes(name, size, scale, betas):
    assert hyperparameters(name, BASE, size, size, scale, betas) == BASE


@every
@given(first=sizes, middle=st.integers(16, 128), last=sizes, scale=noise)
def test_going_by_way_of_another_size_is_going_there(name, first, middle, last, scale):
    straight = hyperparameters(name, BASE, last, first, scale)
    around = hyperparameters(name, hyperparameters(name, BASE, middle, first, scale), last, middle, scale)
    if first * 8 >= last:  # else the second moment's bound is reached on the way
        assert around == pytest.approx(straight, rel=1e-9, abs=1e-12)


@every
@given(one=sizes, other=sizes, scale=noise)
def test_the_learning_rate_rises_with_the_batch_up_to_the_noise_scale_and_stays(name, one, other, scale):
    small, large = sorted((one, other))
    rates = [hyperparameters(name, BASE, size, 32, scale).learning_rate for size in (small, large)]
    assert rates[0] <= rates[1]
    if scale is not None and small >= scale:
        assert rates[0] == rates[1]
    elif small < large:
        assert rates[0] < rates[1]


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
@given(size=sizes)
def test_half_lives_in_samples_are_kept(name, size):
    moved = hyperparameters(name, BASE, size, 32)
    for before, after in ((BASE.beta1, moved.beta1), (BASE.beta2, moved.beta2)):
        assert size / math.log2(1.0 / after) == pytest.approx(32.0 / math.log2(1.0 / before), rel=1e-9)


@given(size=st.integers(28, 36))
def test_the_linear_rule_is_the_half_lifes_first_order(size):
    linear, exact = (hyperparameters("adam", BASE, size, 32, None, rule) for rule in ("linear", "half-life"))
    assert linear.beta2 == pytest.approx(exact.beta2, abs=1e-7)
    assert 1.0 - linear.beta2 == pytest.approx((1.0 - BASE.beta2) * size / 32.0)


def test_the_stated_laws():
    sgd, adam = (hyperparameters(name, BASE, 128, 32) for name in ("sgd", "adam"))
    assert sgd.learning_rate == pytest.approx(4e-3)
    assert (sgd.beta1, sgd.beta2, sgd.eps) == (BASE.beta1, BASE.beta2, BASE.eps)
    assert adam.learning_rate == pytest.approx(2e-3)
    assert adam.eps == pytest.approx(5e-9)
    assert hyperparameters("schedule-free", BASE, 128, 32).beta1 == BASE.beta1


@every
@given(size=sizes, scale=noise)
def test_weights_decay_by_the_same_factor_per_sample(name, size, scale):
    moved = hyperparameters(name, BASE, size, 32, scale)
    per_sample = moved.learning_rate * moved.weight_decay / size
    assert per_sample == pytest.approx(BASE.learning_rate * BASE.weight_decay / 32.0, rel=1e-9)


@every
@given(size=st.integers(1, 10**7), reference=st.integers(1, 10**7), betas=st.sampled_from(["half-life", "linear"]))
def test_no_ratio_leads_out_of_what_an_optimizer_can_use(name, size, reference, betas):
    moved = hyperparameters(name, BASE, size, reference, None, betas)
    assert 0.0 <= moved.beta1 < 1.0
    assert 0.0 < moved.beta2 < 1.0
    assert moved.learning_rate > 0.0
    assert moved.eps > 0.0


def test_what_does_not_exist_is_refused():
    with pytest.raises(UnknownOptionError, match="did you mean 'adam'"):
        hyperparameters("adm", BASE, 8, 8)
    with pytest.raises(UnknownOptionError, match="rule for betas"):
        hyperparameters("adam", BASE, 8, 8, None, "halflife")
    for arguments, what in (((0, 8), "batch is 0"), ((8, -1), "reference is -1"), ((8, 8, 0.0), "noise_scale is 0")):
        with pytest.raises(InputError, match=what):
            hyperparameters("adam", BASE, *arguments)
