"""Laws of the loss of a quote."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.tasks.surface import quote_loss, quote_stiffness

Z = np.concatenate([np.linspace(-8.0, 8.0, 1601), [-1.0, 1.0, 2.5, -2.5]])
pulls, bounds = st.sampled_from([0.0, 0.3, 1.0, 2.0]), st.sampled_from([0.5, 1.5, 4.0])
numbers = st.floats(-1e6, 1e6)


def slope(z, pull, bound):
    return jax.vmap(jax.grad(lambda one: quote_loss(one, pull, bound)))(jnp.asarray(z))


@given(pulls, bounds)
def test_the_stiffness_times_the_distance_is_the_slope(pull, bound):
    np.testing.assert_allclose(quote_stiffness(jnp.asarray(Z), pull, bound) * Z, slope(Z, pull, bound), atol=1e-12)


@given(pulls, bounds)
def test_it_is_zero_in_the_middle_even_convex_and_rising_outwards(pull, bound):
    z = np.linspace(0.0, 9.0, 400)
    loss = np.asarray(quote_loss(jnp.asarray(z), pull, bound))
    assert loss[0] == 0.0
    np.testing.assert_array_equal(loss, quote_loss(jnp.asarray(-z), pull, bound))
    assert np.all(np.diff(loss) >= 0.0)
    assert np.all(np.diff(loss, 2) >= -1e-12)
    assert np.all(np.diff(loss)[z[1:] > 1.01] > 0.0)


@given(pulls, bounds)
def test_inside_the_quote_there_is_the_pull_and_nothing_else(pull, bound):
    inside = np.linspace(-1.0, 1.0, 51)
    np.testing.assert_allclose(quote_loss(jnp.asarray(inside), pull, bound), 0.5 * pull * inside**2, atol=1e-14)


@given(pulls, bounds, numbers)
def test_a_wild_quote_pulls_with_a_bounded_force(pull, bound, z):
    force = abs(float(quote_stiffness(jnp.asarray([z]), pull, bound)[0] * z))
    assert force <= bound + pull * (1.0 + bound) + 1e-9


def test_derivatives_are_finite_where_the_pieces_meet():
    for z in (0.0, 1.0, -1.0, 2.5, -2.5):
        assert np.isfinite(slope(np.array([z]), 1.0, 1.5)[0])
        assert float(quote_stiffness(jnp.asarray(z), 1.0, 1.5)) == pytest.approx(
            float(quote_stiffness(jnp.asarray(z * (1 + 1e-9)), 1.0, 1.5)), rel=1e-6
        )
