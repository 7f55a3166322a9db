"""Descent: optax's steps on packed variables, clocked in samples, refused where not finite, averaged for serving."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.learning.problems import Regression, data, flat
from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.batching.batch import take
from volgrad.learning.training.averaging import Averaging
from volgrad.learning.training.first_order import NAMES, adam, named, rescale
from volgrad.learning.training.loop import begin, make_step
from volgrad.learning.training.schedules import schedule
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import Task

every = pytest.mark.parametrize("name", NAMES)
STEPS = 6


class Layer(Task):
    """A matrix and a level, with statistics: how often the loss was asked for, and the mean of what it saw."""

    def init(self, key):
        start = 0.1 * jnp.arange(6.0, dtype=jnp.float32).reshape(3, 2)
        return {"matrix": start, "level": jnp.ones(2, jnp.float32)}, {
            "calls": jnp.zeros((), jnp.int32),
            "sum": jnp.zeros((), jnp.float32),
        }

    def loss(self, variables, statistics, batch, key):
        features, target = batch.rows
        found = (features[:, :, None] * variables["matrix"][None]).sum(1) + variables["level"][None, :]
        losses = ((found - target[:, None]) ** 2).sum(1)
        seen = jnp.where(batch.mask, target, 0.0).sum()
        return losses, {"calls": statistics["calls"] + 1, "sum": statistics["sum"] + seen}

    def evaluate(self, variables, statistics, batch):
        return {}


def batch(rows=12, places=None, seed=0):
    return data(rows, places, seed=seed, dtype=np.float32)


@eqx.filter_jit
def step(optimizer, state, one):
    return optimizer.step(Layer(), state, one)


def walk(optimizer, batches):
    state, infos = begin(Layer(), optimizer, jax.random.key(0)), []
    for one in batches:
        state, info = step(optimizer, state, one)
        infos.append(info)
    return state, infos


def same(one, other):
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_array_equal(left, right)


def kind(leaf):
    return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)  # keys have none


def by_optax(transformation):
    """The same walk with optax alone, leaf by leaf."""
    task = Layer()
    variables, statistics = task.init(None)
    inner = transformation.init(variables)

    @jax.jit
    def follow(variables, inner, one):
        slope = jax.grad(lambda v: mean_loss(task.loss(v, statistics, one, None)[0], one))(variables)
        updates, inner = transformation.update(slope, inner, variables)
        return optax.apply_updates(variables, updates), inner

    for seed in range(STEPS):
        variables, inner = follow(variables, inner, batch(seed=seed))
    return variables, inner


MATRICES = {"matrix": True, "level": False}
THEIRS = {
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.5, mask=MATRICES),
    "lion": lambda: optax.chain(optax.scale_by_lion(0.9, 0.99), optax.scale(-0.1)),
    "sgd": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "schedule-free": lambda: optax.contrib.schedule_free(optax.adam(0.1, b1=0.0), 0.1, b1=0.9),
}
MORE = {"adamw": {"weight_decay": 0.5}, "sgd": {"clip": 1.0}}


@every
def test_steps_are_optaxs(name):
    optimizer = named(name, learning_rate=0.1, **MORE.get(name, {}))
    state, _ = walk(optimizer, [batch(seed=seed) for seed in range(STEPS)])
    variables, inner = by_optax(THEIRS[name]())
    for key, value in variables.items():
        np.testing.assert_allclose(state.variables[key], value, rtol=2e-5, atol=2e-6)
    if name == "schedule-free":
        serving = optax.contrib.schedule_free_eval_params(inner, variables)
        np.testing.assert_allclose(optimizer.serving(state)["matrix"], serving["matrix"], rtol=2e-5, atol=2e-6)


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_leaf_changes_its_type_from_step_to_step(name, dtype):
    """As `scan` and a checkpoint need it; single precision stays so in a process that counts in double."""
    task, one = Regression(jnp.ones((), dtype)), data(8, dtype=dtype)
    averaging = None if name == "schedule-free" else Averaging(100.0)
    curve = None if name == "schedule-free" else schedule("one-cycle", 1000)
    optimizer = named(name, curve, clip=1.0, averaging=averaging, micro_batches=2, weight_decay=0.1)
    state = begin(task, optimizer, jax.random.key(0))
    moved, info = jax.eval_shape(make_step(task, optimizer), state, one)
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        assert kind(before) == kind(after)
    floats = [leaf for leaf in jax.tree.leaves((moved, info)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {np.dtype(dtype)}
    assert jax.tree.map(jnp.shape, optimizer.serving(state)) == jax.tree.map(jnp.shape, state.variables)


@every
def test_a_state_may_be_donated_from_the_first_step_on(name):
    averaging = None if name == "schedule-free" else Averaging()
    optimizer = named(name, averaging=averaging)
    donating = jax.jit(make_step(Layer(), optimizer), donate_argnums=0)
    state = begin(Layer(), optimizer, jax.random.key(0))
    for seed in range(3):
        state, info = donating(state, batch(seed=seed))
    assert bool(info.accepted)


@pytest.mark.parametrize("places", [12, 16])  # the last micro-batch is padding throughout
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_over_micro_batches_a_step_is_that_of_the_whole(parts, places):
    one = batch(12, places)
    one = dataclasses.replace(one, weight=jnp.linspace(0.5, 1.5, places, dtype=jnp.float32))
    (whole, told), (split, infos) = (
        walk(named("sgd", learning_rate=0.1, micro_batches=count), [one] * 3) for count in (1, parts)
    )
    np.testing.assert_allclose(split.variables["matrix"], whole.variables["matrix"], rtol=1e-5)
    np.testing.assert_allclose(infos[2].loss, told[2].loss, rtol=1e-5)
    np.testing.assert_allclose(infos[2].gradient_norm, told[2].gradient_norm, rtol=1e-5)
    assert int(split.samples) == int(whole.samples) == 36
    assert int(split.statistics["calls"]) == parts * int(whole.statistics["calls"])
    np.testing.assert_allclose(split.statistics["sum"], whole.statistics["sum"], rtol=1e-5, atol=1e-5)


def test_micro_batches_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(InputError, match="12 clusters does not divide into 5"):
        walk(named("adam", micro_batches=5), [batch(12)])


@every
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken_and_leaves_no_trace_but_its_samples(name, where):
    value = jnp.nan if where == "loss" else 1e19  # whose gradient overflows when squared, not the loss
    good, more = batch(seed=1), batch(seed=2)
    features, target = good.rows
    bad = dataclasses.replace(
        good, rows=(features, target.at[3].set(jnp.nan)) if where == "loss" else (features * value, target)
    )
    averaging = None if name == "schedule-free" else Averaging(50.0)
    optimizer = named(name, averaging=averaging)
    (before, _), (state, infos), (skipped, _), (without, _) = (
        walk(optimizer, list(batches)) for batches in ([good], [good, bad], [good, bad, more], [good, more])
    )
    assert [bool(info.accepted) for info in infos] == [True, False]
    same(state.variables, before.variables)
    same(state.statistics, before.statistics)
    same(state.optimizer, before.optimizer)
    assert int(state.samples) == 24
    same(skipped.variables, without.variables)


def test_gradients_are_cut_to_length_and_their_own_length_is_told():
    plain, cut = (named("sgd", learning_rate=1.0, beta1=0.0, clip=clip) for clip in (None, 0.5))
    start = Layer().init(None)[0]
    steps = []
    for optimizer in (plain, cut):
        state, infos = walk(optimizer, [batch()])
        steps.append(np.concatenate([np.ravel(state.variables[key] - start[key]) for key in start]))
        assert float(infos[0].gradient_norm) == pytest.approx(np.linalg.norm(steps[0]), rel=1e-5)
    assert np.linalg.norm(steps[1]) == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(steps[1] / 0.5, steps[0] / np.linalg.norm(steps[0]), rtol=1e-4)


def test_a_rate_is_that_of_the_samples_seen_whatever_the_batch_size():
    optimizer = named("adam", schedule("warm-up-cosine", 96, warm_up=24, end=0.1), learning_rate=0.4)
    small, large = (walk(optimizer, [batch(size)] * (96 // size))[1] for size in (8, 24))
    for index, info in enumerate(large):
        assert float(info.learning_rate) == float(small[3 * index].learning_rate)
    assert float(large[1].learning_rate) == pytest.approx(0.4)


def test_scales_and_shrinking_reach_the_rate():
    optimizer = named("adam", learning_rate=0.3)
    state = begin(Layer(), optimizer, jax.random.key(0))
    for descent, rate in (
        (state.optimizer, 0.3),
        (rescale(state.optimizer, 0.5), 0.15),
        (optimizer.shrink(state.optimizer), 0.1),
    ):
        _, info = step(optimizer, dataclasses.replace(state, optimizer=descent), batch())
        assert float(info.learning_rate) == pytest.approx(rate, rel=1e-6)


def test_one_cycle_moves_the_momentum_of_a_step():
    """At the top of the cycle SGD forgets faster than its own momentum says."""
    high = schedule("one-cycle", 100, warm_up=0.5, momentum_low=0.2, momentum_high=0.9)
    steps = []
    for curve in (high, schedule("constant")):
        optimizer = named("sgd", curve, learning_rate=1e-3, beta1=0.9)
        state = begin(Layer(), optimizer, jax.random.key(0))
        trace = jax.tree.map(jnp.ones_like, state.optimizer.inner)
        state = dataclasses.replace(
            state, optimizer=state.optimizer._replace(inner=trace), samples=jnp.full_like(state.samples, 50)
        )
        moved, info = step(optimizer, state, batch())
        assert float(info.learning_rate) == pytest.approx(1e-3, rel=1e-3)
        steps.append(np.asarray(moved.optimizer.inner.trace))
    np.testing.assert_allclose(steps[1] - steps[0], 0.9 - 0.2, rtol=1e-3)


def test_what_serves_is_the_average_of_the_variables_after_each_step():
    path, served = [], None
    for count in range(1, 5):
        batches = [batch(seed=seed) for seed in range(count)]
        averaged = named("adam", learning_rate=0.1, averaging=Averaging())
        state, _ = walk(averaged, batches)
        path.append(np.asarray(state.variables["matrix"]))
        served = averaged.serving(state)["matrix"]
        plain = named("adam", learning_rate=0.1)
        same(plain.serving(walk(plain, batches)[0]), state.variables)  # averaging moves no step
    np.testing.assert_allclose(served, np.mean(path, axis=0), rtol=1e-5)
    late = named("adam", averaging=Averaging(start=1000))
    state, _ = walk(late, [batch()])
    same(late.serving(state), state.variables)


def test_the_schedule_free_average_weighs_by_samples():
    """Where the sequence that steps stands still, one large batch moves the average as two halves do."""
    optimizer = named("schedule-free", learning_rate=1.0, beta1=0.9)
    task, found = Layer(), []
    for sizes in ([12], [6, 6]):
        state = begin(task, optimizer, jax.random.key(0))
        free = state.optimizer.free
        state = dataclasses.replace(
            state,
            optimizer=state.optimizer._replace(
                free=free._replace(stepped=free.stepped + 1.0, peak=jnp.ones_like(free.peak)),
                average=state.optimizer.average._replace(weight=jnp.full_like(state.optimizer.average.weight, 36.0)),
                scale=jnp.full_like(state.optimizer.scale, 1e-12),
            ),
        )
        for size in sizes:
            state, _ = optimizer.step(task, state, batch(size))
        found.append(np.asarray(state.optimizer.average.value))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_the_state_of_one_batch_size_serves_another():
    optimizer = named("adam", learning_rate=1e-2)
    state, _ = walk(optimizer, [batch()])
    larger = optimizer.at(48, 12)
    moved, info = step(larger, state, take(batch(48), jnp.arange(48)))
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    assert float(info.learning_rate) == pytest.approx(2e-2)
    assert optimizer.at(12, 12) == optimizer


def test_one_program_serves_all_learning_rates():
    optimizer = named("adam")

    @jax.jit
    def first(rate):
        hyper = optimizer.hyper._replace(learning_rate=rate)
        one = dataclasses.replace(optimizer, hyper=hyper)
        return one.step(Layer(), begin(Layer(), one, jax.random.key(0)), batch())[1].learning_rate

    assert [float(first(rate)) for rate in (0.25, 0.5)] == [0.25, 0.5]
    assert first._cache_size() == 1


def test_convenience_for_one_fit_still_counts_steps():
    optimizer = adam(0.1, steps=400)
    moved, info = optimizer.step(Regression(), begin(Regression(), optimizer, jax.random.key(0)), data())
    assert bool(info.accepted)
    np.testing.assert_allclose(np.abs(flat(moved.variables)), 0.01, rtol=1e-4)  # Adam's first: a tenth of the rate


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"learning_rate": -1.0}, "learning_rate is -1.0: it must be a finite number of at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"beta1": 1.0}, r"beta1 is 1.0: it must be in \[0, 1\)"),
        ({"clip": 0.0}, "must be positive"),
        ({"micro_batches": 0}, "must be positive"),
    ],
)
def test_values_out_of_range_are_refused(arguments, why):
    with pytest.raises(InputError, match=why):
        named("adam", **arguments)


def test_what_does_not_exist_or_go_together_is_refused():
    with pytest.raises(UnknownOptionError, match="unknown optimizer 'adan': did you mean 'adam'"):
        named("adan")
    with pytest.raises(UnknownOptionError, match="did you mean 'learning_rate'"):
        named("adam", learning_rat=1.0)
    with pytest.raises(InputError, match="averages by itself"):
        named("schedule-free", averaging=Averaging())
    with pytest.raises(InputError, match="not 'warm-up-cosine'"):
        named("schedule-free", schedule("warm-up-cosine", 100))
