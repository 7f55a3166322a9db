"""Laws of the implicit Dupire steps: prices without arbitrage from anything, exact far into the wings."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import lognormal
from volgrad.market.implied import total_volatility_from_time_value
from volgrad.models.dupire import time_values
from volgrad.models.grid import CENTRE, NODES

STRIKE = np.exp(NODES)
STEPS = 4
seeds = st.integers(0, 2**32 - 1)
solve = jax.jit(time_values)


@st.composite
def problems(draw):
    """Any local variance: smooth, rough, steep, over nine orders of magnitude; any time value to start from."""
    random = np.random.default_rng(draw(seeds))
    level = draw(st.floats(-14.0, 1.0)) + 2.0 * random.standard_normal((STEPS, 1))
    slope, bend = random.normal(size=(2, STEPS, 1))
    rough = draw(st.sampled_from([0.0, 0.1, 3.0])) * random.standard_normal((STEPS, NODES.size))
    return level + slope * NODES + bend * np.abs(NODES) + rough, lognormal(10.0 ** draw(st.floats(-6.0, 0.0)))


def dense_operator():
    """`K^2 d2/dK2` on the nodes as a matrix, by three-point differences; the ends are held."""
    matrix = np.zeros((NODES.size, NODES.size))
    for node in range(1, NODES.size - 1):
        before, after = STRIKE[node] - STRIKE[node - 1], STRIKE[node + 1] - STRIKE[node]
        weights = np.array([1.0 / before, -1.0 / before - 1.0 / after, 1.0 / after])
        matrix[node, node - 1 : node + 2] = 2.0 * STRIKE[node] ** 2 / (before + after) * weights
    return matrix


@settings(max_examples=60)
@given(problems())
def test_any_local_variance_gives_prices_free_of_arbitrage(problem):
    log_step, start = problem
    values = np.concatenate([start[None], np.asarray(solve(log_step, start))])
    assert np.isfinite(values).all()
    assert values.min() >= 0.0
    assert np.all(np.diff(values, axis=0) >= -1e-14 * values[1:])  # calendar: rounding alone
    call = values + np.maximum(1.0 - STRIKE, 0.0)
    put = values + np.maximum(STRIKE - 1.0, 0.0)
    for price in (call, put):  # butterfly, each side where it is the small one
        slope = np.diff(price, axis=1) / np.diff(STRIKE)
        rounding = 4e-16 * np.abs(price[:, 1:-1]) / np.minimum(np.diff(STRIKE)[1:], np.diff(STRIKE)[:-1])
        assert np.all(np.diff(slope, axis=1) >= -4.0 * rounding)
    assert np.all(np.diff(call, axis=1) <= 1e-15)
    assert np.all(np.diff(put, axis=1) >= -1e-15)
    assert np.all(call <= 1.0 + 1e-14)


@settings(max_examples=25)
@given(problems())
def test_calls_and_puts_solved_by_themselves_agree(problem):
    """Parity (the martingale) survives every step: the operator is exact for what is affine in the strike."""
    log_step, start = problem
    log_step = np.minimum(log_step, 2.0)  # beyond, the dense solve loses its own digits
    operator = dense_operator()
    values = np.asarray(solve(log_step, start))
    call, put = (start + np.maximum(side * (1.0 - STRIKE), 0.0) for side in (1.0, -1.0))
    for step in range(STEPS):
        system = np.eye(NODES.size) - np.exp(log_step[step])[:, None] * operator
        call, put = np.linalg.solve(system, call), np.linalg.solve(system, put)
        np.testing.assert_allclose(call, values[step] + np.maximum(1.0 - STRIKE, 0.0), atol=1e-9)
        np.testing.assert_allclose(put, values[step] + np.maximum(STRIKE - 1.0, 0.0), atol=1e-8)


def tridiagonal_in_decimals(step: np.ndarray, value: np.ndarray) -> list[Decimal]:
    """One implicit step of the time value by elimination in 60 digits."""
    with localcontext() as context:
        context.prec, context.Emin = 60, -999_999
        strike = [Decimal(float(one)) for one in STRIKE]
        size, old = [Decimal(float(one)) for one in step], [Decimal(float(one)) for one in value]
        count = len(strike)
        ratio, carried = [Decimal(0)] * count, [Decimal(0)] * count
        ratio[0], carried[0] = Decimal(0), old[0]
        for node in range(1, count):
            lower = upper = kink = Decimal(0)
            if node < count - 1:
                before, after = strike[node] - strike[node - 1], strike[node + 1] - strike[node]
                scale = 2 * size[node] * strike[node] ** 2 / (before + after)
                lower, upper = scale / before, scale / after
                kink = scale if node == CENTRE else kink
            pivot = 1 + lower + upper - lower * ratio[node - 1]
            ratio[node] = upper / pivot
            carried[node] = (old[node] + kink + lower * carried[node - 1]) / pivot
        for node in range(count - 2, -1, -1):
            carried[node] += ratio[node] * carried[node + 1]
        return carried


@pytest.mark.parametrize("deviation", [0.006, 0.03, 0.3, 1.0])
def test_the_wings_keep_their_relative_accuracy_down_to_underflow(deviation):
    variance = deviation**2
    start = lognormal(0.5 * variance)
    step = 0.25 * variance * np.exp(0.2 * NODES**2 / (variance + 0.2 * np.abs(NODES)))
    value = start
    for _ in range(3):
        exact = tridiagonal_in_decimals(step, value)
        value = np.asarray(solve(np.log(np.tile(step, (STEPS, 1))), value))[0]
        held = [node for node, one in enumerate(exact) if one > Decimal("1e-290")]
        error = [abs(Decimal(float(value[node])) / exact[node] - 1) for node in held]
        assert float(max(error)) < 1e-12
    assert len(held) > 60


@pytest.mark.parametrize("vol", [0.2, 0.5, 1.0])
def test_many_small_steps_converge_to_black(vol):
    """Constant variance, half a year: the error in volatility falls in proportion to the step."""
    variance, begun = vol**2 / 2.0, 0.1 * vol**2 / 2.0
    near = np.abs(NODES) <= 2.0 * np.sqrt(variance)
    errors = []
    for steps in (4, 8, 64):
        size = np.full((steps, NODES.size), np.log(0.5 * (variance - begun) / steps))
        last = solve(size, lognormal(begun))[-1]
        found = np.asarray(total_volatility_from_time_value(last, NODES)) / np.sqrt(0.5)
        errors.append(np.abs(found[near] - vol).max())
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.35)
    assert errors[2] < 6e-3 * max(vol, 0.4)


def loss_of(weights):
    return lambda log_step, start: (weights * jnp.sqrt(time_values(log_step, start) + 1e-6)).sum()


@settings(max_examples=8)
@given(seeds)
def test_derivatives_forward_reverse_and_by_differences_agree(seed):
    random = np.random.default_rng(seed)
    log_step = -4.0 + 0.3 * random.standard_normal((STEPS, NODES.size))
    start = lognormal(0.02)
    weights = random.standard_normal((STEPS, NODES.size))
    along, along_start = random.standard_normal(log_step.shape), 0.01 * lognormal(0.1)
    slope = float(directional(weights, log_step, start, along, along_start))
    by_step, by_start = reverse(weights, log_step, start)
    assert slope == pytest.approx(float((by_step * along).sum() + (by_start * along_start).sum()), rel=1e-9, abs=1e-12)
    h = 1e-5
    up = float(value_of(weights, log_step + h * along, start + h * along_start))
    down = float(value_of(weights, log_step - h * along, start - h * along_start))
    assert slope == pytest.approx((up - down) / (2.0 * h), rel=1e-5, abs=1e-7)


@jax.jit
def value_of(weights, log_step, start):
    return loss_of(weights)(log_step, start)


@jax.jit
def reverse(weights, log_step, start):
    return jax.grad(loss_of(weights), argnums=(0, 1))(log_step, start)


@jax.jit
def directional(weights, log_step, start, along, along_start):
    return jax.jvp(loss_of(weights), (log_step, start), (along, along_start))[1]


def test_the_derivative_through_a_batch_of_chains_is_each_chains_own():
    random = np.random.default_rng(5)
    steps = -4.0 + 0.3 * random.standard_normal((3, STEPS, NODES.size))
    starts = np.stack([lognormal(v) for v in (0.01, 0.02, 0.3)])
    weights = random.standard_normal((STEPS, NODES.size))
    together = jax.jit(jax.vmap(jax.grad(loss_of(weights))))(steps, starts)
    for one, step, start in zip(together, steps, starts, strict=True):
        np.testing.assert_allclose(one, reverse(weights, step, start)[0], rtol=1e-9, atol=1e-13)


def test_no_step_is_no_change():
    start = lognormal(0.04)
    np.testing.assert_allclose(
        solve(np.full((STEPS, NODES.size), -700.0), start), np.tile(start, (STEPS, 1)), rtol=1e-15
    )
