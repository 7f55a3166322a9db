"""The multi-layer perceptron: Greeks and differential labels are exact, dropout and skips do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.models.networks.rows import batch
from volgrad.errors import InputError, UnknownOptionError
from volgrad.models.networks.dense import Dense, Dropout
from volgrad.models.networks.mlp import Mlp
from volgrad.models.networks.normalisation import make_normalisation

FEATURES = 3
WITH_BATCHES = ("batch", "renorm")


def trained(name, **settings):
    """A small network in float64 whose statistics have seen a batch, and that batch."""
    more = {"ghost": {"clusters_per_group": 2}, "renorm": {"hold_clusters": 1e9}}.get(name, {})
    net = Mlp(FEATURES, 1, width=6, depth=2, normalisation=make_normalisation(name, **more), **settings)
    variables, statistics = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), net.init(jax.random.key(1)))
    x, mask = (jnp.asarray(leaf) for leaf in batch(4, 5, FEATURES, 2, 0.5, 1.0))
    return net, variables, jax.jit(lambda s: net(variables, s, x, mask, True)[1])(statistics), x, mask


@pytest.mark.parametrize("name", ["none", "layer", "stream"])
def test_greeks_of_a_serving_network_are_those_of_differences(name):
    net, variables, statistics, x, _ = trained(name)

    @jax.jit
    def price(row):
        return net(variables, statistics, row[None, None], jnp.ones((1, 1), bool), False)[0][0, 0, 0]

    row, h = x[0, 0], 1e-5
    moves = h * jnp.eye(FEATURES)
    slope = [(price(row + move) - price(row - move)) / (2.0 * h) for move in moves]
    np.testing.assert_allclose(jax.grad(price)(row), slope, rtol=1e-6, atol=1e-9)
    greeks = jax.jit(jax.grad(price))
    bend = [(greeks(row + move) - greeks(row - move)) / (2.0 * h) for move in moves]
    np.testing.assert_allclose(jax.hessian(price)(row), bend, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", WITH_BATCHES)
def test_differential_labels_go_through_the_batchs_statistics(name):
    """First and second derivative of all outputs along a direction of all inputs, in training."""
    net, variables, statistics, x, mask = trained(name)
    one, two = (jnp.asarray(np.random.default_rng(seed).standard_normal(x.shape)) for seed in (7, 8))

    @jax.jit
    def outputs(x):
        return jnp.where(mask[..., None], net(variables, statistics, x, mask, True)[0], 0.0)

    @jax.jit
    def delta(x):
        return jax.jvp(outputs, (x,), (one,))[1]

    h = 1e-5
    expected = (outputs(x + h * one) - outputs(x - h * one)) / (2.0 * h)
    np.testing.assert_allclose(delta(x), expected, rtol=1e-5, atol=1e-7)
    expected = (delta(x + h * two) - delta(x - h * two)) / (2.0 * h)
    np.testing.assert_allclose(jax.jvp(delta, (x,), (two,))[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", WITH_BATCHES)
def test_the_slope_of_a_loss_on_differential_labels_is_that_of_differences(name):
    """What training on Greeks needs: the gradient in the weights of a loss on derivatives in the inputs."""
    net, variables, statistics, x, mask = trained(name)
    along = jnp.zeros_like(x).at[..., 0].set(1.0)

    @jax.jit
    def loss(variables):
        deltas = jax.jvp(lambda x: net(variables, statistics, x, mask, True)[0], (x,), (along,))[1]
        return jnp.where(mask[..., None], deltas**2, 0.0).sum()

    flat, restore = ravel_pytree(variables)
    direction = jnp.asarray(np.random.default_rng(3).standard_normal(flat.size))
    h = 1e-6
    expected = (loss(restore(flat + h * direction)) - loss(restore(flat - h * direction))) / (2.0 * h)
    found = ravel_pytree(jax.grad(loss)(variables))[0] @ direction
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_a_network_of_normalised_layers_starts_with_outputs_of_the_size_of_one():
    x = 100.0 * jax.random.normal(jax.random.key(0), (64, 8, FEATURES), jnp.float32) + 1_000.0
    net = Mlp(FEATURES, 1, depth=5, normalisation=make_normalisation("batch"))
    variables, statistics = net.init(jax.random.key(1))
    y = jax.jit(lambda x: net(variables, statistics, x, jnp.ones((64, 8), bool), True)[0])(x)
    assert 0.1 < float(y.std()) < 3.0
    biases = [v.bias for layer, v in zip(net.layers, variables, strict=True) if isinstance(layer, Dense)]
    assert [bias is None for bias in biases] == [True] * 5 + [False]


@pytest.mark.parametrize(("activation", "gain"), [("silu", 2.0), ("relu", 2.0), ("elu", 2.0), ("tanh", 1.0)])
def test_weights_have_the_variance_of_their_activation(activation, gain):
    net = Mlp(50, 1, width=200, depth=2, activation=activation)
    variables, _ = net.init(jax.random.key(0))
    for number, inputs in ((0, 50), (1, 200)):
        assert float(variables[number].weight.var()) == pytest.approx(gain / inputs, rel=0.05)
    assert float(variables[2].weight.var()) == pytest.approx(1.0 / 200, rel=0.35)


def test_skips_add_a_blocks_input_to_its_output():
    net = Mlp(FEATURES, 1, width=5, depth=3, skip=True)
    variables, statistics = net.init(jax.random.key(0))
    dead = (variables[0], *(jax.tree.map(jnp.zeros_like, v) for v in variables[1:3]), variables[3])
    shallow = Mlp(FEATURES, 1, width=5, depth=1)
    x, mask = jnp.ones((1, 2, FEATURES), jnp.float32), jnp.ones((1, 2), bool)
    expected, _ = shallow((variables[0], variables[3]), ((), ()), x, mask, False)
    np.testing.assert_allclose(net(dead, statistics, x, mask, False)[0], expected, rtol=1e-6)


def test_dropout_keeps_the_mean_needs_a_key_and_rests_in_serving():
    layer, x, mask = Dropout(0.3), jnp.ones((10, 100, 20), jnp.float32), jnp.ones((10, 100), bool)
    y, _ = layer((), (), x, mask, True, jax.random.key(0))
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)
    assert float((y == 0.0).mean()) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(layer((), (), x, mask, False)[0], x)
    with pytest.raises(InputError, match="no key"):
        layer((), (), x, mask, True)
    with pytest.raises(InputError, match="less than 1"):
        Dropout(1.0)


def test_layers_of_one_network_drop_different_values():
    net = Mlp(FEATURES, 1, width=64, depth=2, dropout=0.5)
    variables, statistics = net.init(jax.random.key(0))
    x, mask = jnp.ones((1, 1, FEATURES), jnp.float32), jnp.ones((1, 1), bool)
    one, two = (net(variables, statistics, x, mask, True, jax.random.key(seed))[0] for seed in (1, 2))
    again, _ = net(variables, statistics, x, mask, True, jax.random.key(1))
    assert float(one[0, 0, 0]) == float(again[0, 0, 0]) != float(two[0, 0, 0])


def test_what_cannot_be_is_told():
    with pytest.raises(UnknownOptionError, match="did you mean 'silu'"):
        Mlp(3, 1, activation="sillu")
    with pytest.raises(InputError, match="0 features"):
        Mlp(0, 1)
