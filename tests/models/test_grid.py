"""Laws of the nodes and of the curves through them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicSpline

from volgrad.models.grid import CENTRE, NODES, interpolate, spline_curvature, stencil

coefficients = arrays(np.float64, 4, elements=st.floats(-1.0, 1.0))
points = arrays(np.float64, st.integers(1, 30), elements=st.floats(-4.0, 4.0))
RANDOM = np.random.default_rng(0)


def test_the_nodes_are_dense_at_the_money_symmetric_and_hold_it():
    gap = np.diff(NODES)
    assert NODES[CENTRE] == 0.0
    assert gap.min() > 0
    np.testing.assert_allclose(NODES, -NODES[::-1], atol=1e-15)
    assert gap.argmin() in (CENTRE - 1, CENTRE)
    with pytest.raises(ValueError, match="read-only"):
        NODES[0] = 0.0


@given(coefficients, points)
def test_the_stencil_is_exact_for_every_cubic(polynomial, at):
    index, weight = stencil(at)
    found = (weight * np.polyval(polynomial, NODES[index])).sum(1)
    np.testing.assert_allclose(found, np.polyval(polynomial, at), atol=1e-12)


@given(points)
def test_the_stencil_lies_around_its_point_and_sums_to_one(at):
    index, weight = stencil(at)
    np.testing.assert_allclose(weight.sum(1), 1.0, atol=1e-13)
    assert np.all(np.diff(index, axis=1) == 1)
    inner = (at > NODES[1]) & (at < NODES[-2])
    assert np.all(NODES[index[inner, 1]] <= at[inner])
    assert np.all(at[inner] <= NODES[index[inner, 2]])


def test_at_a_node_the_stencil_is_that_node():
    index, weight = stencil(NODES.copy())
    np.testing.assert_allclose((weight * (index == np.arange(NODES.size)[:, None])).sum(1), 1.0, atol=1e-12)


@given(points)
def test_the_spline_is_the_natural_cubic_spline(at):
    values = np.stack([np.sin(3.0 * NODES), RANDOM.normal(size=NODES.size)])
    curvature = spline_curvature(values)
    for row, one in enumerate(values):
        oracle = CubicSpline(NODES, one, bc_type="natural")
        found = interpolate(values, curvature, np.full(at.size, row), at)
        np.testing.assert_allclose(found, oracle(at), atol=1e-10 * (1.0 + np.abs(one).max()))


@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), arrays(np.float64, 7, elements=st.floats(-30.0, 30.0)))
def test_a_straight_line_stays_one_everywhere(level, slope, at):
    values = (level + slope * NODES)[None, :]
    found = interpolate(values, spline_curvature(values), np.zeros(7, np.int64), at)
    np.testing.assert_allclose(found, level + slope * at, atol=1e-10)


@pytest.mark.parametrize("end", [-4.0, 4.0])
def test_beyond_the_last_node_it_goes_on_straight_with_the_same_slope(end):
    values = np.cos(NODES)[None, :]
    outward = np.sign(end) * np.array([-1e-6, 0.0, 1e-6, 1.0, 2.0])
    found = interpolate(values, spline_curvature(values), np.zeros(5, np.int64), end + outward)
    inside, outside = np.diff(found[:3]) / 1e-6
    assert inside == pytest.approx(outside, abs=1e-4)
    assert np.diff(found[[1, 3, 4]])[0] == pytest.approx(np.diff(found[[1, 3, 4]])[1], rel=1e-9)


def test_a_missing_slice_is_missing_and_spoils_no_other():
    values = np.stack([np.full(NODES.size, np.nan), np.ones(NODES.size)])
    found = interpolate(values, spline_curvature(values), np.array([0, 1]), np.array([0.1, 0.1]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1.0, abs=1e-14)
