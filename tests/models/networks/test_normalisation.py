"""The forms of normalisation against float64 numpy, against torch, and against what each promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tests.models.networks.rows import SHAPES, batch, normalised, pulled_back
from volgrad.errors import InputError, UnknownOptionError
from volgrad.models.networks.affine import Affine
from volgrad.models.networks.normalisation import (
    NORMALISATIONS,
    BatchNorm,
    BatchRenorm,
    GhostNorm,
    LayerNorm,
    StreamNorm,
    make_normalisation,
)
from volgrad.models.networks.statistics import Running


def start(layer, seed=0, kind=jnp.float64):
    """Variables near the start, and the start's statistics."""
    variables, statistics = layer.init(jax.random.key(0))
    random = np.random.default_rng(seed)
    variables = jax.tree.map(lambda v: jnp.asarray(v + 0.3 * random.standard_normal(v.shape), kind), variables)
    return variables, jax.tree.map(lambda s: jnp.asarray(s, kind), statistics)


@functools.partial(jax.jit, static_argnums=(0, 5))
def run(layer, variables, statistics, x, mask, training):
    return layer(variables, statistics, x, mask, training)


@functools.partial(jax.jit, static_argnums=0)
def slopes(layer, variables, statistics, x, mask, dy):
    """Gradients of `dy . y` in the variables and in `x`."""

    def along(variables, x):
        return (jnp.where(mask[..., None], layer(variables, statistics, x, mask, True)[0], 0.0) * dy).sum()

    return jax.grad(along, argnums=(0, 1))(variables, x)


@settings(max_examples=12)
@given(SHAPES)
def test_batch_norm_is_the_float64_reference_forward_and_backward(shape):
    x, mask = batch(*shape)
    layer = BatchNorm(x.shape[-1])
    variables, statistics = start(layer)
    y, running = run(layer, variables, statistics, jnp.asarray(x), jnp.asarray(mask), True)
    expected, mean, variance = normalised(x, mask, np.asarray(variables.scale), np.asarray(variables.shift), 1e-5)
    np.testing.assert_allclose(np.asarray(y)[mask], expected[mask], rtol=1e-7, atol=1e-7)
    dy = np.random.default_rng(1).standard_normal(x.shape)
    dx, dscale, dshift = pulled_back(x, mask, dy, np.asarray(variables.scale), 1e-5)
    found, found_dx = slopes(layer, variables, statistics, jnp.asarray(x), jnp.asarray(mask), dy)
    np.testing.assert_allclose(found_dx, dx, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.scale, dscale, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.shift, dshift, rtol=1e-9, atol=1e-9)
    if mask.sum() > 1:
        np.testing.assert_allclose(running.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(running.variance, variance * mask.sum() / (mask.sum() - 1), rtol=1e-8)


def test_batch_norm_is_that_of_torch():
    """torch 2.13.0 in float64: BatchNorm1d(2, eps=1e-5, momentum=0.25), weight (1.5, 0.5), bias
    (0.1, -0.2) from float32.

    Its running statistics start at 0 and 1 with weight 0.75: taken out, they are those of the batch.
    """
    x = jnp.asarray([[[1.0, -2.0], [2.5, 0.5], [-0.5, 4.0]], [[3.0, 1.0], [0.0, -1.5], [1.5, 2.0]]])
    dy = jnp.asarray([[[0.3, -0.1], [-0.2, 0.5], [0.1, 0.4]], [[0.7, -0.6], [-0.4, 0.2], [0.05, 0.15]]])
    layer, mask = BatchNorm(2), jnp.ones((2, 3), bool)
    variables = Affine(jnp.asarray([1.5, 0.5]), jnp.asarray(np.float32([0.1, -0.2]), jnp.float64))
    y, running = run(layer, variables, Running.start(2), x, mask, True)
    expected = [
        [-0.19999903851449186, -0.8553847476559828], [1.599995201513156, -0.24096154952246665],
        [-1.9999932785421397, 0.619230927864456], [2.1999932815223717, -0.11807690989576342],
        [-1.3999951985329238, -0.7325001080292796], [0.3999990414947241, 0.12769236935764305],
    ]  # fmt: skip
    np.testing.assert_allclose(y.reshape(6, 2), expected, rtol=1e-12)
    found, dx = slopes(layer, variables, Running.start(2), x, mask, dy)
    expected = [
        [0.2895988198468812, -0.018515237934322817], [-0.5479969792205821, 0.10214269781530222],
        [0.2871973069014423, 0.040040685366575214], [0.4528003251099239, -0.17356423572392865],
        [-0.3920000127938562, 0.04985481948121536], [-0.08959945984381921, 4.1270995158657936e-05],
    ]  # fmt: skip
    np.testing.assert_allclose(dx.reshape(6, 2), expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.scale, [0.9899968320152062, 0.5325001050490474], rtol=1e-10)
    np.testing.assert_allclose(found.shift, [0.55, 0.55], rtol=1e-12)
    np.testing.assert_allclose(running.mean, np.array([0.3125, 0.16666666666666666]) / 0.25, rtol=1e-6)
    np.testing.assert_allclose(running.variance, (np.array([1.21875, 1.9916666666666667]) - 0.75) / 0.25, rtol=1e-6)


def test_batch_norm_is_that_of_flax_on_scaled_rows():
    """flax 0.12.8's BatchNorm(epsilon=1e-5) in float32, variables at their start."""
    x = jnp.asarray([[[1.0, -2.0], [2.5, 0.5], [-0.5, 4.0]], [[3.0, 1.0], [0.0, -1.5], [1.5, 2.0]]], jnp.float32)
    y, _ = run(BatchNorm(2), *BatchNorm(2).init(jax.random.key(0)), x, jnp.ones((2, 3), bool), True)
    expected = [
        [-0.1999993622303009, -1.3107695579528809], [0.9999967813491821, -0.08192310482263565],
        [-1.3999955654144287, 1.638461947441101], [1.3999955654144287, 0.1638461798429489],
        [-0.9999967813491821, -1.065000295639038], [0.1999993622303009, 0.6553847193717957],
    ]  # fmt: skip
    np.testing.assert_allclose(y.reshape(6, 2), expected, rtol=3e-6)


def test_serving_by_a_level_of_60000_keeps_seven_digits_of_the_deviation():
    """The normalised rows of flax 0.12.8 have a standard deviation of 3154 there, not 1 (see test_statistics)."""
    rows = (60_000.0 + 10.0 * np.random.default_rng(0).standard_normal((4, 512, 1))).astype(np.float32)
    layer, mask = BatchNorm(1), jnp.ones((4, 512), bool)
    variables, statistics = layer.init(jax.random.key(0))
    y, statistics = run(layer, variables, statistics, jnp.asarray(rows), mask, True)
    served, _ = run(layer, variables, statistics, jnp.asarray(rows), mask, False)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(y, (exact - exact.mean()) / exact.std(), atol=2e-6)
    np.testing.assert_allclose(
        served, (exact - exact.mean()) / exact.std(ddof=1), atol=5e-4
    )  # of the mean's last place


def test_ghost_norm_does_not_know_of_the_batch():
    """A batch of two groups is two batches of one: outputs, statistics, and the mean of the gradients."""
    layer = GhostNorm(2, clusters_per_group=3)
    x, mask = (jnp.asarray(leaf) for leaf in batch(6, 4, 2, 5))
    variables, statistics = start(layer)
    dy = jnp.asarray(np.random.default_rng(2).standard_normal(x.shape))
    y, after = run(layer, variables, statistics, x, mask, True)
    whole, _ = slopes(layer, variables, statistics, x, mask, dy / 2.0)
    halves, parts = [], []
    one = statistics
    for part in (slice(0, 3), slice(3, 6)):
        half, one = run(layer, variables, one, x[part], mask[part], True)
        halves.append(half)
        parts.append(slopes(layer, variables, statistics, x[part], mask[part], dy[part])[0])
    np.testing.assert_allclose(y, jnp.concatenate(halves), rtol=1e-12)
    for found, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(found, (first + second) / 2.0, rtol=1e-12)
    for left, right in zip(after, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


def test_one_group_is_batch_norm_and_a_masked_cluster_is_not_there():
    x, mask = (jnp.asarray(leaf) for leaf in batch(5, 4, 2, 3))
    mask = mask.at[4].set(False)
    variables, statistics = start(BatchNorm(2))
    y, after = run(BatchNorm(2), variables, statistics, x, mask, True)
    for layer in (GhostNorm(2, 5), GhostNorm(2, 4)):  # 4: the fifth cluster, masked, is a group of none
        ghost, told = run(layer, variables, statistics, x, mask, True)
        np.testing.assert_allclose(ghost[np.asarray(mask)], y[np.asarray(mask)], rtol=1e-12)
        np.testing.assert_allclose(told.variance, after.variance, rtol=1e-12)


def renorm(**settings):
    return BatchRenorm(2, half_life_clusters=50.0, **settings)


def test_renormalisation_begins_as_batch_normalisation_and_ends_at_the_running_statistics():
    variables, statistics = start(renorm())
    batches = [[jnp.asarray(leaf) for leaf in batch(8, 6, 2, seed, 3.0, 2.0)] for seed in range(12)]
    layer = renorm(hold_clusters=30.0, ramp_clusters=20.0, r_max=100.0, d_max=100.0)
    for number, (x, mask) in enumerate(batches):
        y, after = run(layer, variables, statistics, x, mask, True)
        plain, _ = run(BatchNorm(2), variables, statistics.running, x, mask, True)
        served, _ = run(layer, variables, statistics, x, mask, False)
        real = np.asarray(mask)
        if number < 3:  # 24 clusters at most were seen
            np.testing.assert_allclose(y, plain, rtol=1e-9)
        if number > 8:  # bounds are wide: the output is that of serving
            np.testing.assert_allclose(y[real], served[real], rtol=1e-6, atol=1e-6)
            assert not np.allclose(y[real], plain[real], rtol=1e-3)
        statistics = after
    assert float(statistics.ramp) == 1.0


def test_the_corrections_of_renormalisation_are_bounded_and_constant_to_the_gradient():
    layer = renorm(hold_clusters=0.0, ramp_clusters=1.0, r_max=2.0, d_max=0.5)
    x, mask = (jnp.asarray(leaf) for leaf in batch(6, 5, 2, 1, 0.0, 1.0))
    variables, statistics = start(layer)
    statistics = run(layer, variables, statistics, x, mask, True)[1]
    far = 100.0 * x + 1_000.0
    y, _ = run(layer, variables, statistics, far, mask, True)
    normal, _, _ = normalised(np.asarray(far), np.asarray(mask), 1.0, 0.0, 1e-5)
    expected = variables.scale[None, None] * (2.0 * normal + 0.5) + variables.shift[None, None]
    real = np.asarray(mask)
    np.testing.assert_allclose(y[real], expected[real], rtol=1e-9)
    dy = np.random.default_rng(0).standard_normal(x.shape)
    expected, _, _ = pulled_back(np.asarray(far), real, 2.0 * dy, np.asarray(variables.scale), 1e-5)
    np.testing.assert_allclose(slopes(layer, variables, statistics, far, mask, dy)[1], expected, rtol=1e-6, atol=1e-10)


def test_a_stream_moves_the_serving_statistics_by_half_in_a_half_life_and_no_further_than_its_bounds():
    layer = StreamNorm(BatchNorm(1), live_half_life_clusters=32.0, d_max=5.0)
    random = np.random.default_rng(0)
    variables, statistics = layer.init(jax.random.key(0))
    mask = jnp.ones((1, 50), bool)
    x = jnp.asarray(random.standard_normal((64, 50, 1)), jnp.float32)
    _, statistics = run(layer, variables, statistics, x, jnp.ones((64, 50), bool), True)
    trained = statistics.inner

    def serve(statistics, shift, times):
        for _ in range(times):
            rows = jnp.asarray(random.standard_normal((1, 50, 1)) + shift, jnp.float32)
            _, statistics = run(layer, variables, statistics, rows, mask, False)
        return statistics

    half = serve(statistics, 2.0, 32)
    assert float(half.live.offset[0] + trained.centre[0]) == pytest.approx(1.0, abs=0.1)
    assert float(half.live.variance[0]) == pytest.approx(2.0, abs=0.2)  # of two populations, 2 apart
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), half.inner, trained))
    lost = serve(half, 1e4, 30)
    one, two = (
        float(run(layer, variables, lost, jnp.full((1, 1, 1), v, jnp.float32), mask[:, :1], False)[0][0, 0, 0])
        for v in (0.0, 1.0)
    )
    deviation = float(jnp.sqrt(trained.variance[0] + 1e-5))
    assert two - one == pytest.approx(1.0 / deviation / 3.0, rel=1e-3)
    assert one == pytest.approx((-5.0 * deviation - float(trained.mean[0])) / deviation / 3.0, rel=1e-3)


def test_a_stream_that_saw_nothing_serves_as_the_form_it_wraps_and_training_resets_it():
    layer = StreamNorm(BatchNorm(2), 10.0)
    x, mask = (jnp.asarray(leaf, kind) for leaf, kind in zip(batch(6, 5, 2, 1), (jnp.float32, bool), strict=True))
    variables, statistics = layer.init(jax.random.key(0))
    y, statistics = run(layer, variables, statistics, x, mask, True)
    plain, running = run(BatchNorm(2), variables, Running.start(2), x, mask, True)
    np.testing.assert_array_equal(y, plain)
    served, moved = run(layer, variables, statistics, x + 5.0, mask, False)
    np.testing.assert_allclose(
        served, run(BatchNorm(2), variables, running, x + 5.0, mask, False)[0], rtol=1e-5, atol=1e-5
    )
    assert not np.allclose(moved.live.offset, statistics.live.offset)
    again = run(layer, variables, moved, x, mask, True)[1]
    np.testing.assert_array_equal(again.live.offset, again.inner.offset)


def test_layer_norm_is_the_float64_reference():
    x, mask = batch(3, 4, 5, 2, 60_000.0)
    variables, _ = start(LayerNorm(5))
    y, _ = run(LayerNorm(5), variables, (), jnp.asarray(x), jnp.asarray(mask), True)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    expected = np.asarray(variables.scale) * normal + np.asarray(variables.shift)
    np.testing.assert_allclose(np.asarray(y)[mask], expected[mask], rtol=1e-8)


def test_names_make_layers_and_wrong_ones_are_told():
    for name in NORMALISATIONS:
        made = make_normalisation(name)
        assert (made is None) == (name == "none")
    stream = make_normalisation("stream", live_half_life_clusters=7.0, half_life_clusters=9.0)(4)
    assert (stream.live_half_life_clusters, stream.inner.half_life_clusters) == (7.0, 9.0)
    with pytest.raises(UnknownOptionError, match="did you mean 'batch'"):
        make_normalisation("bacth")
    with pytest.raises(UnknownOptionError, match="half_life"):
        make_normalisation("batch", half_life_cluster=3.0)
    with pytest.raises(UnknownOptionError):
        make_normalisation("none", epsilon=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNorm(2, half_life_clusters=0.0),
        lambda: BatchNorm(2, epsilon=-1.0),
        lambda: GhostNorm(2, 0),
        lambda: BatchRenorm(2, r_max=0.5),
        lambda: BatchRenorm(2, hold_clusters=-1.0),
        lambda: StreamNorm(BatchNorm(2), d_max=-1.0),
    ],
)
def test_settings_that_cannot_be_are_told(make):
    with pytest.raises(InputError, match="give"):
        make()
