"""Tangents of the logarithm of time values are those that automatic differentiation finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.examples import YEARS, example_frame
from volgrad.models.local_vol import slice_tangents, slice_time_values

COUNT = YEARS.size


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.0), (1, 0.5), (2, 2.0)])
def test_they_are_the_derivatives_of_the_logarithm(seed, scale):
    made = example_frame()
    variables = scale * np.random.default_rng(seed).standard_normal(made.factor.shape[-1])
    values, tangents = both(made, variables)
    expected = dense(made, variables)
    np.testing.assert_allclose(values, slice_time_values(made, variables), rtol=1e-12)
    told = (values[:COUNT] > 1e-250)[..., None]  # relative to next to nothing there is nothing to compare
    assert np.all(np.isfinite(tangents))
    difference = np.where(told, tangents[:COUNT] - expected[:COUNT] / values[:COUNT, :, None], 0.0)
    assert np.abs(difference[:, 1:-1]).max() < 2e-4


@jax.jit
def both(made, variables):
    return slice_tangents(made, variables)


@jax.jit
def dense(made, variables):
    return jax.jacfwd(lambda at: slice_time_values(made, at))(jnp.asarray(variables))
