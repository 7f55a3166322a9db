"""Laws of implied volatility: it inverts Black's formula, says why where it cannot, and differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import assume, given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market.black import price
from volgrad.market.implied import (
    LARGEST_LOG_MONEYNESS,
    Outcome,
    implied_total_volatility,
    implied_vol,
    message,
    total_volatility_from_time_value,
)

EPSILON = np.finfo(float).eps
TINY = np.finfo(float).tiny


def options(deviations, least=1e-3, most=5.0):
    """(log-moneyness, total volatility), moneyness being at most so many standard deviations."""
    pairs = st.tuples(st.floats(-deviations, deviations), st.floats(least, most))
    return pairs.map(lambda pair: (pair[0] * pair[1], pair[1]))


invert = jax.jit(total_volatility_from_time_value)
slopes = jax.jit(jax.grad(lambda *option: implied_total_volatility(*option)[0], argnums=(0, 1)))
curvatures = jax.jit(jax.hessian(lambda *option: implied_total_volatility(*option)[0], argnums=(0, 1)))


@jax.jit
def round_trip_derivatives(premium, k, is_call):
    def again(premium, log_moneyness):
        return price(log_moneyness, implied_total_volatility(premium, log_moneyness, is_call)[0], is_call)

    return jax.grad(again, argnums=(0, 1))(premium, k), jax.hessian(again, argnums=(0, 1))(premium, k)


# (log-moneyness, time value, total volatility that has it); source: mpmath, 1,500 bits
MPMATH = np.array(
    [
        (0.0, 0.003989406181481645, 0.0100000000000000006),
        (0.0, 0.8663855974622838, 2.9999999999999997),
        (1e-09, 3.9844248007176085e-07, 9.99999999999999947e-7),
        (0.0001, 0.0011475486113602736, 0.00300000000000000018),
        (0.001, 0.007492429865655373, 0.02),
        (0.02, 0.0016830026841221097, 0.0200000000000000008),
        (0.1, 0.04148168846071833, 0.200000000000000016),
        (0.1, 1.1240012356922464e-09, 0.0200000000000000004),
        (0.3, 0.4779386945243162, 1.49999999999999999),
        (0.5, 1.6051319740911812e-299, 0.0135999999999999992),
        (1.0, 0.2805380133113846, 1.39999999999999997),
        (1.0, 0.9267112812554804, 4.00000000000000021),
        (3.0, 9.939265666271419e-25, 0.299999999999999989),
        (8.0, 0.07560389484898687, 3.00000000000000001),
        (40.0, 0.4781555744515337, 9.00000000000000007),
        (100.0, 0.7778696647956229, 14.9999999999999999),
        (100.0, 1.809770868176197e-259, 2.79999999999999982),
    ]
)


def time_value(k, s):
    """The out-of-the-money premium by scipy, and the relative error that it leaves in the total volatility.

    `n(d1) [R(-d1) - R(-d2)]` with R = Mills' ratio loses `R / (R - R)` units in the last place; vega takes
    most of them back, so that `R / s` are left in s.
    """
    kappa = abs(k)
    low, high = kappa / s - s / 2, kappa / s + s / 2
    ratio = np.sqrt(np.pi / 2) * scipy.special.erfcx(np.array([low, high]) / np.sqrt(2))
    value = np.exp(-low * low / 2) * (ratio[0] - ratio[1]) / np.sqrt(2 * np.pi)
    return value * np.exp(min(k, 0.0)), 8 * EPSILON * (1 + ratio[0] / s)


def premium_and_resolution(k, s, is_call):
    """Premium, and by how much one rounding of it moves the total volatility."""
    value, _ = time_value(k, s)
    premium = value + (abs(np.expm1(k)) if is_call == (k < 0) else 0.0)
    vega = np.exp(-((-k / s + s / 2) ** 2) / 2) / np.sqrt(2 * np.pi)
    return premium, EPSILON * premium / vega


def solve(premium, k, is_call):
    total_volatility, outcome = implied_total_volatility(premium, k, is_call)
    return float(total_volatility), Outcome(int(outcome))


# ---------------------------------------------------------------- it inverts Black's formula


def test_the_published_value():
    """F = K = 100, sigma .2, tau .5; source: the tests of py_lets_be_rational."""
    vol, outcome = implied_vol(5.637197779701664 / 100, 0.0, 0.5, True)
    assert float(vol) == pytest.approx(0.2, rel=4 * EPSILON)
    assert int(outcome) == Outcome.OK


def test_high_precision_values():
    k, value, s = MPMATH.T
    np.testing.assert_allclose(invert(value, k), s, rtol=5 * EPSILON)


def test_a_put_is_the_mirrored_call():
    """A put at -k is e^-k calls at k."""
    k, value, s = MPMATH.T
    kept = value * np.exp(-k) > TINY
    np.testing.assert_allclose(invert(value * np.exp(-k), -k)[kept], s[kept], rtol=6 * EPSILON)


@given(options(30, most=3.0))
def test_round_trip_out_of_the_money(option):
    k, s = option
    value, error = time_value(k, s)
    _, resolution = premium_and_resolution(k, s, k >= 0)
    assert float(invert(value, k)) == pytest.approx(s, rel=error, abs=4 * resolution)


@given(options(6), st.booleans())
def test_round_trip_on_either_side(option, is_call):
    """In the money too, as far as the premium holds the time value."""
    k, s = option
    premium, resolution = premium_and_resolution(k, s, is_call)
    assume(resolution < 0.01 * s)
    solved, outcome = solve(premium, k, is_call)
    assert outcome == Outcome.OK
    assert solved == pytest.approx(s, rel=time_value(k, s)[1], abs=4 * resolution)


@given(st.floats(-3.0, 3.0), st.floats(-300, -1e-3), st.floats(1e-6, 1.0))
def test_more_premium_more_volatility(k, log10_value, more):
    value = 10.0**log10_value * np.exp(min(k, 0.0))
    assume(value > TINY)
    richer = value + more * (np.exp(min(k, 0.0)) - value) * 0.99
    assert invert(richer, k) > invert(value, k) > 0.0


@pytest.mark.parametrize("k", [1e-6, 0.1, 1.5, -1.5])
def test_down_to_underflow(k):
    """`-2 log v / (kappa/s)^2 -> 1`, smoothly, with no floor where the last time values lie."""
    value = np.geomspace(1e-300, 1e-306, 200)
    s = np.asarray(invert(value * np.exp(min(k, 0.0)), k))
    assert np.all(np.diff(s) < 0)
    assert np.all(np.abs(-2 * np.log(value) * (s / k) ** 2 - 1) < 0.05)


def test_at_the_money_down_to_underflow():
    """`v = 2 N(s/2) - 1 -> s / sqrt(2 pi)`, as exactly where the corrections themselves would underflow."""
    value = np.geomspace(1e-9, 3e-308, 400)
    np.testing.assert_allclose(invert(value, np.zeros(400)), np.sqrt(2 * np.pi) * value, rtol=6 * EPSILON)


@pytest.mark.parametrize(("nearest", "farthest", "in_the_money"), [(0, 3, False), (4, 8, False), (2, 5, True)])
def test_benchmark_sets_have_no_failure(nearest, farthest, in_the_money):
    """Sets A, B and C of the benchmark, smaller: moneyness in standard deviations, either side."""
    rng = np.random.default_rng(1)
    s = np.exp(rng.uniform(np.log(0.01), np.log(1.5), 2_000))
    k = rng.uniform(nearest, farthest, 2_000) * s * rng.choice([-1, 1], 2_000)
    is_call = (k < 0) if in_the_money else (k >= 0)
    premium, resolution = np.transpose([premium_and_resolution(*row) for row in zip(k, s, is_call, strict=True)])
    error = np.array([time_value(*row)[1] for row in zip(k, s, strict=True)])
    solved, outcome = implied_total_volatility(premium, k, is_call)
    assert np.all(np.asarray(outcome) == Outcome.OK)
    assert np.all(np.abs(solved - s) <= error * s + 4 * resolution)


def test_another_library_agrees():
    rational = pytest.importorskip("py_lets_be_rational", reason="py_lets_be_rational is not installed")
    for k, s in [(0.0, 0.02), (0.05, 0.05), (-0.3, 0.2), (0.7, 0.4), (-0.02, 1.2)]:
        value, _ = time_value(k, s)
        theirs = rational.implied_volatility_from_a_transformed_rational_guess(
            value, 1.0, float(np.exp(k)), 1.0, 1 if k >= 0 else -1
        )
        assert float(invert(value, k)) == pytest.approx(theirs, rel=1e-13)


def test_quantlib_agrees():
    quantlib = pytest.importorskip("QuantLib", reason="QuantLib is not installed")
    for k, s in [(0.0, 0.02), (0.05, 0.05), (-0.3, 0.2), (0.7, 0.4), (-0.02, 1.2)]:
        kind = quantlib.Option.Call if k >= 0 else quantlib.Option.Put
        theirs = quantlib.blackFormula(kind, float(np.exp(k)), 1.0, float(invert(time_value(k, s)[0], k)))
        assert theirs == pytest.approx(time_value(k, s)[0], rel=1e-11)


# ---------------------------------------------------------------- it says why where it cannot


@pytest.mark.parametrize(
    ("premium", "k", "is_call", "outcome"),
    [
        (0.05, 0.1, True, Outcome.OK),
        (0.05, 0.0, False, Outcome.OK),
        (0.0, 0.1, True, Outcome.ZERO_TIME_VALUE),
        (0.0, 0.0, False, Outcome.ZERO_TIME_VALUE),
        (1e-310, 1.5, True, Outcome.ZERO_TIME_VALUE),
        (float(-np.expm1(-0.5)), -0.5, True, Outcome.ZERO_TIME_VALUE),
        (float(np.expm1(0.5)), 0.5, False, Outcome.ZERO_TIME_VALUE),
        (np.expm1(0.5) * (1 - 1e-12), 0.5, False, Outcome.BELOW_INTRINSIC),
        (0.3, -0.5, True, Outcome.BELOW_INTRINSIC),
        (-1e-9, 0.1, True, Outcome.BELOW_INTRINSIC),
        (1.0, 0.1, True, Outcome.ABOVE_BOUND),
        (1.0, -0.1, True, Outcome.ABOVE_BOUND),
        (float(np.exp(-0.1)), -0.1, False, Outcome.ABOVE_BOUND),
        (3.0, 1.0, False, Outcome.ABOVE_BOUND),
        (np.nan, 0.1, True, Outcome.NOT_FINITE),
        (np.inf, 0.1, True, Outcome.NOT_FINITE),
        (0.05, np.nan, True, Outcome.NOT_FINITE),
        (0.05, -np.inf, False, Outcome.NOT_FINITE),
        (0.05, LARGEST_LOG_MONEYNESS + 1, True, Outcome.NOT_FINITE),
    ],
)
def test_outcome_of_every_kind(premium, k, is_call, outcome):
    solved, told = solve(premium, k, is_call)
    assert told == outcome
    assert np.isfinite(solved) == (outcome == Outcome.OK)


@given(st.floats(), st.floats(), st.booleans())
def test_a_number_if_and_only_if_the_outcome_is_ok(premium, k, is_call):
    solved, outcome = solve(premium, k, is_call)
    assert (outcome == Outcome.OK) == bool(np.isfinite(solved) and solved > 0)
    assert (outcome != Outcome.OK) == bool(np.isnan(solved))


@pytest.mark.parametrize(
    ("years", "outcome"),
    [(0.25, Outcome.OK), (0.0, Outcome.EXPIRED), (-1.0, Outcome.EXPIRED), (np.nan, Outcome.NOT_FINITE)],
)
def test_expiry(years, outcome):
    vol, told = implied_vol(0.05, 0.1, years, True)
    assert int(told) == outcome
    if outcome == Outcome.OK:
        assert float(vol) == pytest.approx(2 * solve(0.05, 0.1, True)[0], rel=EPSILON)
    else:
        assert np.isnan(vol)


def test_every_outcome_has_its_advice():
    assert len({message(code) for code in Outcome}) == len(Outcome)
    with pytest.raises(InputError, match="17 is no outcome"):
        message(17)


def test_single_precision_is_refused():
    with jax.enable_x64(False), pytest.raises(InputError, match="float64"):
        implied_total_volatility(0.05, 0.1, True)


# ---------------------------------------------------------------- it differentiates


@given(options(4, least=0.02, most=2.0), st.booleans())
def test_slope_in_premium_is_one_over_vega(option, is_call):
    k, s = option
    premium, _ = premium_and_resolution(k, s, is_call)
    solved, _ = solve(premium, k, is_call)
    d1 = -k / solved + solved / 2
    by_premium, by_k = slopes(premium, k, is_call)
    assert float(by_premium) == pytest.approx(np.sqrt(2 * np.pi) * np.exp(d1 * d1 / 2), rel=1e-12)
    # ds/dk = e^k N(d2) / n(d1) for a call, less e^k / n(d1) for a put
    mills = np.sqrt(np.pi / 2) * scipy.special.erfcx((solved - d1) / np.sqrt(2))
    dual = mills if is_call else -np.sqrt(np.pi / 2) * scipy.special.erfcx((d1 - solved) / np.sqrt(2))
    assert float(by_k) == pytest.approx(dual, rel=1e-10 * (1 + abs(float(by_premium) / dual)))


@given(options(2, least=0.05, most=2.0), st.booleans())
def test_slopes_are_finite_differences(option, is_call):
    k, s = option
    premium, _ = premium_and_resolution(k, s, is_call)
    step = 1e-4 * time_value(k, s)[0]
    above, below = (solve(premium + sign * step, k, is_call)[0] for sign in (1, -1))
    by_premium, _ = slopes(premium, k, is_call)
    assert float(by_premium) == pytest.approx((above - below) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("k", [-0.4, -0.01, 0.0, 0.01, 0.4])
def test_hessian_of_the_round_trip_vanishes(k, is_call):
    """price(k, s(premium, k)) = premium, so its gradient is (1, 0) and its Hessian 0: at k = 0 as well."""
    premium, _ = premium_and_resolution(k, 0.3, is_call)
    gradient, hessian = round_trip_derivatives(premium, k, is_call)
    np.testing.assert_allclose(gradient, (1.0, 0.0), atol=1e-12)
    scale = np.abs(np.asarray(curvatures(premium, k, is_call))).max()
    np.testing.assert_allclose(hessian, np.zeros((2, 2)), atol=1e-13 * scale)


def whole(premium, k):
    return jnp.nansum(implied_total_volatility(premium, k, True)[0])


def inner(premium, k):
    return jnp.nansum(total_volatility_from_time_value(premium, k))


@pytest.mark.parametrize("function", [whole, inner])
def test_invalid_rows_have_gradient_zero_and_spoil_no_other(function):
    rows = [(0.05, 0.1), (np.nan, 0.1), (0.0, 0.1), (2.0, 0.1), (-1.0, 0.1), (0.05, np.inf), (0.05, np.nan)]
    premium, k = jnp.asarray(rows).T
    by_premium, by_k = jax.jit(jax.grad(function, argnums=(0, 1)))(premium, k)
    np.testing.assert_array_equal(by_premium[1:], 0.0)
    np.testing.assert_array_equal(by_k[1:], 0.0)
    np.testing.assert_allclose((by_premium[0], by_k[0]), slopes(0.05, 0.1, True), rtol=1e-13)
    assert np.isfinite(jax.jit(jax.hessian(function))(premium, k)).all()


def test_forward_and_reverse_agree():
    k, value, _ = MPMATH[:10].T
    forward = jax.jit(jax.jacfwd(total_volatility_from_time_value, argnums=(0, 1)))(value, k)
    reverse = jax.jit(jax.jacrev(total_volatility_from_time_value, argnums=(0, 1)))(value, k)
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


# ---------------------------------------------------------------- it composes


def test_compiled_mapped_scanned_and_broadcast_alike():
    k, value, s = MPMATH.T
    mapped = jax.jit(jax.vmap(total_volatility_from_time_value))(value, k)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, total_volatility_from_time_value(*row)), 0, (value, k))
    square = invert(np.tile(value, (3, 1)), np.tile(k, (3, 1)))
    for other in (mapped, scanned, *square):
        np.testing.assert_allclose(other, s, rtol=5 * EPSILON)
    both, codes = implied_total_volatility(value[:, None], k[:, None], np.array([[True, False]]))
    assert both.shape == codes.shape == (len(k), 2)
    assert codes.dtype == jnp.int8


def test_an_empty_table():
    total_volatility, outcome = implied_total_volatility(np.empty(0), np.empty(0), np.empty(0, bool))
    assert total_volatility.shape == outcome.shape == (0,)
