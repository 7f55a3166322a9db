"""Laws of Black-76, and the exchange's own tickers as an oracle (faults 15 and 17)."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market import black
from volgrad.market.black import coin_greeks, greeks, price, price_usd
from volgrad.market.instruments import expiry_years, parse_option, parse_options

MONEYNESS = st.floats(-3.0, 3.0, allow_subnormal=False)
VOLATILITY = st.floats(1e-3, 5.0)
CALL_PUT = st.booleans()
SMALLEST = 1e-300  # nearby, XLA flushes to zero
FORWARD = st.floats(0.1, 1e6)
YEARS = st.floats(2 / 365, 3.0)
VOL = st.floats(0.05, 3.0)

by_k_and_s = jax.jit(jax.grad(price, argnums=(0, 1)))
hessian_by_k_and_s = jax.jit(jax.hessian(price, argnums=(0, 1)))
by_forward_years_vol = jax.jit(jax.grad(price_usd, argnums=(0, 2, 3)))
by_forward_twice = jax.jit(jax.grad(jax.grad(price_usd)))


@jax.jit
def price_coin(forward_usd, strike_usd, tau, vol, is_call):
    return price_usd(forward_usd, strike_usd, tau, vol, is_call) / forward_usd


@jax.jit
def discounted_price_usd(rate, spot_usd, strike_usd, tau, vol, is_call):
    growth = jnp.exp(rate * tau)
    return price_usd(spot_usd * growth, strike_usd, tau, vol, is_call) / growth


coin_by_forward_and_vol = jax.jit(jax.grad(price_coin, argnums=(0, 3)))
coin_by_forward_twice = jax.jit(jax.grad(jax.grad(price_coin)))
by_rate = jax.jit(jax.grad(discounted_price_usd))


def column(*values):
    return jnp.asarray(values, jnp.float64)


# ------------------------------------------------------------------ the price


def test_the_published_value():
    """F = K = 100, sigma .2, tau .5; source: the tests of py_lets_be_rational."""
    np.testing.assert_allclose(price_usd(100.0, 100.0, 0.5, 0.2, True), 5.637197779701664, rtol=1e-15)


@given(MONEYNESS, VOLATILITY)
def test_parity(k, s):
    np.testing.assert_allclose(price(k, s, True) - price(k, s, False), -np.expm1(k), rtol=1e-14, atol=2e-16)


@given(MONEYNESS, VOLATILITY)
def test_a_put_is_the_mirror_image_of_a_call(k, s):
    np.testing.assert_allclose(price(k, s, False), np.exp(k) * price(-k, s, True), rtol=1e-12)


@given(MONEYNESS, VOLATILITY, CALL_PUT)
def test_between_intrinsic_and_payoff(k, s, is_call):
    premium = float(price(k, s, is_call))
    intrinsic, bound = max(-np.expm1(k) if is_call else np.expm1(k), 0.0), 1.0 if is_call else np.exp(k)
    assert intrinsic * (1 - 1e-15) <= premium <= bound * (1 + 1e-15)


@given(MONEYNESS, VOLATILITY, st.floats(1e-6, 1.0), CALL_PUT)
def test_worth_more_with_more_volatility(k, s, more, is_call):
    assert price(k, s * (1 + more), is_call) >= price(k, s, is_call) * (1 - 1e-15)


@given(MONEYNESS, st.floats(0.01, 2.0), CALL_PUT)
def test_falls_and_bends_the_right_way_in_strike(k, s, is_call):
    strike = np.exp(k) * column(0.99, 1.0, 1.01)
    premium = np.asarray(price(jnp.log(strike), column(s, s, s), is_call))
    change = np.diff(premium)
    rounding = 4e-16 * premium.max()
    assert (change <= rounding).all() if is_call else (change >= -rounding).all()
    assert change[1] - change[0] >= -4 * rounding - 1e-16 * strike[1]


@pytest.mark.parametrize("s", [1e-5, 1e-3, 0.02, 0.3, 2.0])
@pytest.mark.parametrize("deviations", [0.0, 0.1, 1.0, 4.0, 8.0, 20.0, 35.0])
@pytest.mark.parametrize("side", [1, -1])
def test_tails_keep_their_relative_accuracy(s, deviations, side):
    """The premium is the integral of its vega over volatility; it is positive there: nothing cancels."""
    k = side * deviations * s
    d1 = -k / s + s / 2

    def relative_vega(u):  # n(d1(s (1 - u))) / n(d1(s))
        volatility = s * (1 - u)
        return np.exp(0.5 * (d1**2 - (-k / volatility + volatility / 2) ** 2))

    reach = 40 / (1 + deviations**2)  # beyond, nothing is left
    area, _ = scipy.integrate.quad(relative_vega, 0, min(1.0, reach), epsabs=0, epsrel=1e-12, limit=200)
    expected = scipy.stats.norm.logpdf(d1) + np.log(s * area)
    np.testing.assert_allclose(np.log(float(price(k, s, side > 0))), expected, rtol=0, atol=1e-11)


@given(MONEYNESS, st.sampled_from([0.0, -0.0, -1.0, -np.inf]), CALL_PUT)
def test_no_volatility_leaves_intrinsic_value(k, s, is_call):
    intrinsic = max(-np.expm1(k) if is_call else np.expm1(k), 0.0)
    np.testing.assert_allclose(price(k, s, is_call), intrinsic, rtol=1e-15, atol=SMALLEST)


@given(MONEYNESS, CALL_PUT)
def test_endless_volatility_leaves_the_payoff_bound(k, is_call):
    np.testing.assert_allclose(price(k, np.inf, is_call), 1.0 if is_call else np.exp(k), rtol=1e-14)


@given(st.floats(-700, 700), st.floats(0, 1e3), CALL_PUT)
def test_nothing_finite_gives_a_nan(k, s, is_call):
    assert np.isfinite(price(k, s, is_call))
    assert np.isfinite(by_k_and_s(k, s, is_call)).all()


def test_a_nan_gives_a_nan_there_only():
    premium = price(column(np.nan, 0.1, 0.1), column(0.2, np.nan, 0.2), jnp.asarray([True, True, True]))
    np.testing.assert_array_equal(np.isnan(premium), [True, True, False])


def test_arguments_broadcast():
    grid = price(jnp.linspace(-1, 1, 5).reshape(1, 5), column(0.1, 0.2).reshape(2, 1), True)
    assert grid.shape == (2, 5)
    assert grid[1, 3] == price(0.5, 0.2, True)


def test_single_precision_is_refused():
    with jax.enable_x64(False), pytest.raises(InputError, match=r"needs float64.*double_precision"):
        price(0.0, 0.2, True)


# ------------------------------------------------------------------ derivatives and Greeks


@given(MONEYNESS, st.floats(0.05, 2.0), CALL_PUT)
def test_derivatives_are_those_of_the_formula(k, s, is_call):
    """First and second order against the textbook's closed forms, worked out apart from the code."""
    side = 1 if is_call else -1
    d1, d2 = -k / s + s / 2, -k / s - s / 2
    cdf, pdf = scipy.stats.norm.cdf, scipy.stats.norm.pdf
    by_k, by_s = by_k_and_s(k, s, is_call)
    np.testing.assert_allclose(by_k, -side * np.exp(k) * cdf(side * d2), rtol=1e-12, atol=SMALLEST)
    np.testing.assert_allclose(by_s, pdf(d1), rtol=1e-12, atol=SMALLEST)
    (by_kk, by_ks), (_, by_ss) = hessian_by_k_and_s(k, s, is_call)
    expected_kk = np.exp(k) * (pdf(d2) / s - side * cdf(side * d2))
    np.testing.assert_allclose(by_kk, expected_kk, rtol=1e-11, atol=1e-14)
    size = abs(k) / s + s  # of the two terms of d1 and d2, which cancel where one of these is zero
    np.testing.assert_allclose(by_ks, pdf(d1) * d1 / s, rtol=1e-12, atol=1e-14 * pdf(d1) * size / s + SMALLEST)
    np.testing.assert_allclose(by_ss, pdf(d1) * d1 * d2 / s, rtol=1e-12, atol=1e-14 * pdf(d1) * size**2 / s + SMALLEST)


@given(FORWARD, st.floats(-1.0, 1.0), YEARS, VOL, CALL_PUT)
def test_greeks_are_the_derivatives_of_the_dollar_premium(forward_usd, k, tau, vol, is_call):
    strike_usd = forward_usd * np.exp(k)
    given_ = (forward_usd, strike_usd, tau, vol, is_call)
    shown = greeks(*given_)
    by_forward, by_years, by_vol = by_forward_years_vol(*given_)
    np.testing.assert_allclose(shown.delta, by_forward, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(shown.gamma, by_forward_twice(*given_), rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(shown.vega, by_vol / 100, rtol=1e-9, atol=1e-14 * forward_usd)
    premium = price_usd(*given_)
    np.testing.assert_allclose(shown.theta, max(-by_years / 365, -premium), rtol=1e-9, atol=1e-14 * forward_usd)


@given(FORWARD, st.floats(-1.0, 1.0), YEARS, VOL, CALL_PUT)
def test_rho_is_the_derivative_by_the_rate(forward_usd, k, tau, vol, is_call):
    """At rate r, spot fixed: `e^(-r tau) Black(S e^(r tau))`, at r = 0."""
    given_ = (forward_usd, forward_usd * np.exp(k), tau, vol, is_call)
    expected = by_rate(0.0, *given_) / 100
    np.testing.assert_allclose(greeks(*given_).rho, expected, rtol=1e-9, atol=1e-13 * forward_usd)


@given(FORWARD, st.floats(-1.5, 1.5), YEARS, VOL, CALL_PUT)
def test_coin_greeks_are_the_derivatives_of_the_coin_premium(forward_usd, k, tau, vol, is_call):
    given_ = (forward_usd, forward_usd * np.exp(k), tau, vol, is_call)
    shown = coin_greeks(*given_)
    slope, by_vol = coin_by_forward_and_vol(*given_)
    np.testing.assert_allclose(shown.net_delta, forward_usd * slope, rtol=1e-9, atol=1e-13)
    bend = coin_by_forward_twice(*given_) * forward_usd**2
    np.testing.assert_allclose(shown.coin_gamma * forward_usd**2, bend, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(shown.coin_vega, by_vol, rtol=1e-9, atol=1e-14)


@given(FORWARD, st.floats(-1.5, 1.5), YEARS, VOL, CALL_PUT)
def test_account_delta_is_the_tickers_less_the_premium(forward_usd, k, tau, vol, is_call):
    given_ = (forward_usd, forward_usd * np.exp(k), tau, vol, is_call)
    premium_coin = price_usd(*given_) / forward_usd
    expected = greeks(*given_).delta - premium_coin
    np.testing.assert_allclose(coin_greeks(*given_).net_delta, expected, rtol=1e-12, atol=1e-14)


def test_signs_that_surprise():
    """A deep put's account delta is below -1, a deep call's near 0; a call's coin gamma can be negative."""
    assert coin_greeks(50_000.0, 150_000.0, 0.1, 0.5, False).net_delta < -2.9
    assert abs(coin_greeks(50_000.0, 500.0, 0.1, 0.5, True).net_delta) < 0.02
    assert coin_greeks(50_000.0, 30_000.0, 0.1, 0.5, True).coin_gamma < 0


# ------------------------------------------------------------------ at and after the end


@given(FORWARD, st.floats(-1.0, 1.0), st.sampled_from([0.0, -1e-9, -1.0]), VOL, CALL_PUT)
def test_an_expired_option_is_worth_its_intrinsic_value_and_moves_no_more(forward_usd, k, tau, vol, is_call):
    given_ = (forward_usd, forward_usd * np.exp(k), tau, vol, is_call)
    side = 1 if is_call else -1
    intrinsic = max(side * (given_[0] - given_[1]), 0.0)
    np.testing.assert_allclose(price_usd(*given_), intrinsic, rtol=1e-13, atol=4e-16 * forward_usd)
    np.testing.assert_array_equal(np.stack(greeks(*given_)), np.zeros(5))
    assert np.isfinite(np.stack(coin_greeks(*given_))).all()


@given(FORWARD, st.floats(-1.0, 1.0), st.floats(0, 1), st.floats(0, 5), CALL_PUT)
def test_no_greek_is_a_nan_however_little_time_or_volatility_is_left(forward_usd, k, tau, vol, is_call):
    given_ = (forward_usd, forward_usd * np.exp(k), tau, vol, is_call)
    assert np.isfinite(np.stack(greeks(*given_) + coin_greeks(*given_))).all()
    assert np.isfinite(price_usd(*given_))


@pytest.mark.parametrize("seconds", [28.0, 1.0, 1e-3])
def test_seconds_before_expiry(seconds):
    tau = seconds / (365 * 86_400)
    given_ = (100.0, column(90.0, 100.0, 110.0), tau, 0.8, jnp.asarray([True, True, True]))
    np.testing.assert_allclose(price_usd(*given_), [10.0, 0.0, 0.0], atol=0.05)
    shown = greeks(*given_)
    np.testing.assert_allclose(shown.delta * 1800 / seconds, [1.0, 0.5, 0.0], atol=1e-3)
    assert np.isfinite(np.stack(shown)).all()


def test_theta_is_per_remaining_time_below_a_day_and_never_more_than_the_premium():
    day = 1 / 365
    at = [float(greeks(100.0, 100.0, days * day, 0.8, True).theta) for days in (2.0, 1.0, 0.25)]
    textbook = [
        -100 * scipy.stats.norm.pdf(0.4 * np.sqrt(d * day)) * 0.8 / (730 * np.sqrt(d * day)) for d in (2, 1, 0.25)
    ]
    np.testing.assert_allclose(at, np.multiply(textbook, [1.0, 1.0, 0.25]), rtol=1e-12)
    wing = (100.0, 120.0, 1.5 * day, 0.8, True)
    np.testing.assert_allclose(greeks(*wing).theta, -price_usd(*wing), rtol=1e-15)


def test_delta_falls_with_the_delivery_window_that_is_left():
    minute = 1 / (365 * 1440)
    deep = [float(greeks(100.0, 50.0, minutes * minute, 0.5, True).delta) for minutes in (45, 30, 15, 3)]
    np.testing.assert_allclose(deep, [1.0, 1.0, 0.5, 0.1], rtol=1e-12)


# ------------------------------------------------------------------ the exchange's own figures


def test_the_recorded_ticker():
    """2023-11-10T05:18:31.632Z, BTC-27SEP24-40000-C, F 39165.86, IV 60.86 (a recorded exchange message)."""
    option = parse_option("BTC-27SEP24-40000-C")
    tau = float(expiry_years(option.expiry_us, 1_699_593_511_632_000))
    given_ = (39165.86, option.strike_usd, tau, 0.6086, option.is_call)
    shown = greeks(*given_)
    np.testing.assert_allclose(price_usd(*given_) / 39165.86, 0.2169, atol=5e-5)
    np.testing.assert_allclose(shown.delta, 0.59833, atol=1e-5)
    np.testing.assert_allclose(shown.vega, 142.30124, atol=1e-3)
    np.testing.assert_allclose(shown.theta, -13.4441, atol=2e-3)
    np.testing.assert_allclose(shown.rho, 131.82621, atol=2e-2)


def _tickers(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    names = parse_options(table["instrument_name"].to_pylist())
    ticker = {
        name: table[name].to_numpy().astype(np.float64)
        for name in table.column_names
        if table[name].type in ("double", "float", "int64")
    }
    tau = expiry_years(names.expiry_us, table["timestamp_ms"].to_numpy() * 1000)
    return ticker | {"strike": names.strike_usd, "is_call": names.is_call, "tau": tau}


# (median, 99 %) over a day's tickers outside the delivery window: measured on both days, with a margin.
TICKER_TOLERANCE = {
    "delta": (4.5e-6, 6e-5),
    "gamma": (2.5e-6, 5.1e-6),
    "vega": (8.5e-5, 6e-3),
    "theta": (2.2e-4, 3e-2),
    "rho": (6e-5, 5e-3),
}


@pytest.mark.parametrize("day", ["20230412", "20230414"])
def test_greeks_of_a_day_of_tickers(shared_data: Path, day: str):
    ticker = _tickers(shared_data / f"deribit_ticker5m_{day}.parquet")
    shown = greeks(
        ticker["underlying_price"],
        ticker["strike"],
        ticker["tau"],
        ticker["mark_iv"] / 100,
        ticker["is_call"],
    )
    outside = ticker["tau"] > black.DELIVERY_WINDOW_YEARS
    for name, (median, high) in TICKER_TOLERANCE.items():
        error = np.abs(np.asarray(getattr(shown, name)) - ticker[name])[outside]
        assert np.median(error) < median, name
        assert np.quantile(error, 0.99) < high, name
    inside = ~outside
    if inside.any():
        error = np.abs(np.asarray(shown.delta) - ticker["delta"])[inside]
        assert np.quantile(error, 0.99) < 3e-3
        assert np.median(error[np.abs(ticker["delta"][inside]) > 0.05]) < 3e-3


@pytest.mark.parametrize("day", ["20230412", "20230414"])
@pytest.mark.parametrize("side", ["bid", "ask"])
def test_an_implied_volatility_gives_back_the_quote(shared_data: Path, day: str, side: str):
    ticker = _tickers(shared_data / f"deribit_ticker5m_{day}.parquet")
    quote, iv = ticker[f"best_{side}_price"], ticker[f"{side}_iv"]
    real = (quote > 0) & (iv > 0) & (iv < 999) & (ticker["tau"] > black.DELIVERY_WINDOW_YEARS)
    forward = ticker["underlying_price"]
    premium = price_usd(forward, ticker["strike"], ticker["tau"], iv / 100, ticker["is_call"]) / forward
    error = np.abs(np.asarray(premium) - quote)[real]
    assert np.median(error) < 2e-6
    assert np.quantile(error, 0.99) < 2e-5


@pytest.mark.parametrize(("month", "median"), [("202601", 4.5e-6), ("202603", 5.5e-6), ("202605", 6.5e-6)])
def test_marks_of_a_month_of_snapshots(shared_data: Path, month: str, median: float):
    """One stamp for all rows of a snapshot: the marks' own time is off by up to minutes, hence the tails."""
    table = pq.read_table(
        shared_data / f"deribit_snap_{month}.parquet",
        columns=["ts", "expiry", "strike", "cp", "underlying", "mark", "mark_iv"],
    )
    column = {name: table[name].to_numpy() for name in table.column_names}
    ts_us, expiry_us = (column[name].astype("datetime64[us]").astype(np.int64) for name in ("ts", "expiry"))
    premium = price_usd(
        column["underlying"],
        column["strike"],
        expiry_years(expiry_us, ts_us),
        column["mark_iv"].astype(np.float64) / 100,
        column["cp"] == "C",
    )
    error = np.abs(np.asarray(premium) / column["underlying"] - column["mark"])
    assert np.median(error) < median
    assert np.quantile(error, 0.99) < 4.5e-4


def test_a_recorded_session(shared_data: Path):
    """Full precision marks, millisecond stamps: 89 tickers of a WebSocket session."""
    text = gzip.decompress((shared_data / "deribit_ws_recording_20210722.txt.gz").read_bytes()).decode()
    frames = [json.loads(line[line.index("{") :]) for line in text.splitlines() if '"channel":"ticker' in line]
    tickers = [frame["params"]["data"] for frame in frames]
    assert len(tickers) == 89
    errors = []
    for ticker in tickers:
        option = parse_option(ticker["instrument_name"])
        forward = ticker["underlying_price"]
        tau = float(expiry_years(option.expiry_us, ticker["timestamp"] * 1000))
        given_ = (forward, option.strike_usd, tau, ticker["mark_iv"] / 100, option.is_call)
        shown = greeks(*given_)
        mark = float(price_usd(*given_)) / forward - ticker["mark_price"]
        errors.append([mark] + [float(getattr(shown, n)) - ticker["greeks"][n] for n in TICKER_TOLERANCE])
    median, worst = np.median(np.abs(errors), axis=0), np.max(np.abs(errors), axis=0)
    assert (median < [2e-6, 4e-6, 3e-6, 1e-4, 2e-4, 3e-5]).all(), median
    assert (worst < [2.5e-4, 1e-5, 5e-6, 2e-3, 2e-2, 4e-3]).all(), worst
