"""Laws of the prior and of what it makes of a chain's expiries."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import YEARS, clock, example_frame, lognormal
from volgrad.market.implied import total_volatility_from_time_value
from volgrad.models.grid import CENTRE, NODES
from volgrad.models.local_vol import KNOTS, Prior, frame, slice_time_values, variables_from_shape, whole_shape

COUNT = YEARS.size
values_of = jax.jit(slice_time_values)
STRIKE = np.exp(NODES)


def matern(distance):
    scaled = np.sqrt(5.0) * np.abs(distance)
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)


def stated_covariance(prior: Prior) -> np.ndarray:
    """What the documentation of `Prior` says, written out. Shape: (expiries, knots, expiries, knots)."""
    spread = prior.spread_centre + prior.spread_slope * np.abs(KNOTS) / np.hypot(1.0, KNOTS / prior.spread_reach)
    of_shape = np.outer(spread, spread) * matern((KNOTS[:, None] - KNOTS) / prior.width)
    gap = np.subtract.outer(np.log(clock()), np.log(clock())) / prior.smooth_length
    of_time = prior.shared**2 + prior.smooth**2 * matern(gap) + prior.own**2 * np.eye(COUNT)
    level = prior.level**2 * np.eye(COUNT)
    return of_time[:, None, :, None] * of_shape[None, :, None, :] + level[:, None, :, None]


def covariance(factor: np.ndarray) -> np.ndarray:
    used = factor[:COUNT]
    return np.einsum("ekv,jlv->ekjl", used, used)


def test_with_all_modes_the_factor_is_the_root_of_the_stated_covariance():
    prior = Prior(modes_per_expiry=KNOTS.size)
    np.testing.assert_allclose(covariance(example_frame(prior=prior).factor), stated_covariance(prior), atol=1e-9)


def test_the_modes_that_are_left_out_are_hardly_missed():
    lost = stated_covariance(Prior()) - covariance(example_frame().factor)
    trace = np.einsum("ekek->", stated_covariance(Prior()))
    assert 0.0 <= np.einsum("ekek->", lost) < 0.01 * trace
    assert np.linalg.eigvalsh(lost.reshape(COUNT * KNOTS.size, -1)).min() > -1e-9 * trace


@pytest.mark.parametrize("size", [8, 14, 20])
def test_padding_changes_nothing(size):
    exact, padded = example_frame(size=COUNT), example_frame(size=size)
    np.testing.assert_allclose(covariance(padded.factor), covariance(exact.factor), atol=1e-10)
    assert not np.any(padded.factor[COUNT:])
    variables = np.random.default_rng(1).standard_normal(exact.factor.shape[-1])
    shape = np.asarray(whole_shape(exact, variables))
    wide = np.concatenate([shape, np.asarray(padded.mean)[COUNT:]])
    found = values_of(padded, variables_from_shape(padded, wide))
    again = values_of(exact, variables_from_shape(exact, shape))
    np.testing.assert_allclose(found[:COUNT], again, rtol=1e-6, atol=1e-16)


def test_at_the_origin_of_the_prior_the_shape_is_its_mean():
    made = example_frame()
    zero = np.zeros(made.factor.shape[-1])
    np.testing.assert_array_equal(whole_shape(made, zero), made.mean)
    assert np.all(np.isfinite(values_of(made, zero)))


def test_the_basis_keeps_constants_and_is_flat_beyond_the_outer_knots():
    basis = np.asarray(example_frame().basis)
    np.testing.assert_allclose(basis.sum(-1), 1.0, atol=1e-9)
    far = np.abs(NODES) > KNOTS[-1] * 0.6 * np.sqrt(clock()[0])
    outer = basis[0][far]
    assert far.sum() > 20
    np.testing.assert_allclose(outer.max(-1), 1.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(outer).sum(-1), 1.0, atol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 2.0))
def test_a_warm_start_gives_back_the_shapes_with_the_likeliest_variables(seed, scale):
    made = example_frame()
    variables = scale * np.random.default_rng(seed).standard_normal(made.factor.shape[-1])
    shape = np.asarray(whole_shape(made, variables))
    found = variables_from_shape(made, shape)
    np.testing.assert_allclose(whole_shape(made, found), shape, atol=0.01 * max(scale, 0.1))
    assert np.linalg.norm(found) <= np.linalg.norm(variables) * (1.0 + 1e-9) + 1e-9


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 4.0), st.sampled_from([0.1, 0.6, 3.0]))
def test_any_variables_give_slices_free_of_arbitrage(seed, scale, vol):
    made = example_frame(vol)
    variables = scale * np.random.default_rng(seed).standard_normal(made.factor.shape[-1])
    values = np.asarray(values_of(made, variables))
    assert np.isfinite(values).all()
    assert values.min() >= 0.0
    assert np.all(np.diff(values, axis=0) >= -1e-13 * values[1:])
    slope = np.diff(values + np.maximum(1.0 - STRIKE, 0.0), axis=1) / np.diff(STRIKE)
    assert np.all(np.diff(slope, axis=1)[:, : CENTRE - 1] >= -1e-9)
    assert np.all(np.diff(slope, axis=1)[:, CENTRE - 1 :] >= -1e-11)


@pytest.mark.parametrize("vol", [0.2, 0.6, 1.5])
def test_without_a_shape_the_money_has_nearly_the_volatility_of_its_scale(vol):
    """One implicit step an interval has fatter tails than Black's: the money lies up to 10 % low (measured)."""
    made = example_frame(vol)
    made = made._replace(mean=np.zeros_like(made.mean))
    values = values_of(made, np.zeros(made.factor.shape[-1]))[:COUNT, CENTRE]
    found = total_volatility_from_time_value(values, np.zeros(COUNT))
    ratio = found / (vol * np.sqrt(clock()))
    assert np.all((ratio > 0.89) & (ratio <= 1.0))


def test_the_prior_does_not_care_for_the_level():
    """In standard deviations from the money a calm and a wild market have the same prior."""
    calm, wild = example_frame(0.2), example_frame(1.2)
    np.testing.assert_array_equal(calm.factor, wild.factor)
    np.testing.assert_array_equal(calm.mean, wild.mean)


def test_one_expiry_alone_has_a_frame():
    prior = Prior()
    made = frame(clock()[:1], np.array([0.01]), lognormal(prior.diffused * 0.01), 3, prior)
    values = values_of(made, np.zeros(made.factor.shape[-1]))
    assert np.isfinite(values).all()
