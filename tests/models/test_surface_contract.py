"""What every surface must obey. Concrete subclasses of `Surface` are found by themselves; each needs a factory here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.discovery import concrete_subclasses
from tests.models.examples import Flat, Svi, essvi_surface, flat_slices, local_vol_surface, ssvi_surface, svi_surface
from tests.tasks.chains import simulated
from volgrad.market import black
from volgrad.market.implied import implied_total_volatility
from volgrad.models.joining import join
from volgrad.models.slices import SlicedSurface
from volgrad.models.ssvi_surface import EssviSurface, SsviSurface
from volgrad.models.surface import Surface
from volgrad.models.svi import SviSurface
from volgrad.simulate.truth import TrueSurface

#: One clean example or more of each class; add a line for a new surface. None = not tested, with the reason beside it.
FACTORIES: dict[type[Surface], dict[str, Callable[[], Surface]]] = {
    SlicedSurface: {
        "mean": lambda: join(local_vol_surface())[0],
        "wild": lambda: join(local_vol_surface(1.2))[0],
        "random": lambda: join(local_vol_surface(0.6, 3, 0.3))[0],
        "without a smile": flat_slices,
    },
    EssviSurface: {"usual": essvi_surface, "random": lambda: essvi_surface(5, 0.3)},
    SsviSurface: {"usual": ssvi_surface, "random": lambda: ssvi_surface(5, 0.3)},
    SviSurface: {"without arbitrage": svi_surface},
    TrueSurface: {"calm": lambda: simulated()[0].truth, "shaken": lambda: simulated()[1].truth},
    Flat: {"flat": lambda: Flat(0.5)},
    Svi: {"svi": lambda: Svi(0.04, 0.1, -0.3, 0.0, 0.4)},
}
EXAMPLES = {f"{kind.__name__}, {name}": make() for kind, makers in FACTORIES.items() for name, make in makers.items()}
TIMES = np.array([0.002, 0.01, 0.08, 0.3, 0.9])

every = pytest.mark.parametrize("surface", EXAMPLES.values(), ids=EXAMPLES.keys())
examples = st.sampled_from(list(EXAMPLES.values()))
moments = st.floats(1e-3, 2.0)


@pytest.mark.parametrize("kind", concrete_subclasses(Surface), ids=lambda kind: kind.__name__)
def test_every_surface_of_the_package_is_under_this_contract(kind):
    assert FACTORIES.get(kind), f"give {kind.__qualname__} a factory in {__name__}"


def grid(surface, tau, deviations=4.0, points=161):
    """Log-moneyness in steps of the surface's own standard deviation."""
    return np.linspace(-deviations, deviations, points) * np.sqrt(surface.total_variance(0.0, tau))


@every
@pytest.mark.parametrize("tau", TIMES)
def test_parity_and_bounds(surface, tau):
    k = grid(surface, tau)
    call, put = surface.price(k, tau, True), surface.price(k, tau, False)
    np.testing.assert_allclose(call - put, -np.expm1(k), atol=1e-14)
    assert np.all(call >= np.maximum(-np.expm1(k), 0.0))
    assert np.all(call <= 1.0)
    assert np.all(put >= np.maximum(np.expm1(k), 0.0))
    assert np.all(put <= np.exp(k))


@every
@pytest.mark.parametrize("tau", TIMES)
def test_prices_are_monotone_and_convex_in_the_strike(surface, tau):
    k = grid(surface, tau)
    strike = np.exp(k)
    for is_call in (True, False):
        price = surface.price(k, tau, is_call)
        slope = np.diff(price) / np.diff(strike)
        assert np.all(slope * (-1.0 if is_call else 1.0) >= -1e-11)
        assert np.all(np.diff(slope) >= -1e-3 * np.diff(slope).max())
        assert np.abs(slope).max() <= 1.0 + 1e-11


@every
def test_prices_rise_with_time_at_fixed_log_moneyness(surface):
    times = np.geomspace(TIMES[0], TIMES[-1], 60)[:, None]
    k = np.linspace(-0.5, 0.5, 21)
    price = surface.price(k, times, k >= 0.0)
    assert np.all(np.diff(price, axis=0) >= -1e-12)


@every
@pytest.mark.parametrize("tau", TIMES)
def test_the_implied_volatility_of_the_price_is_the_surfaces(surface, tau):
    k = grid(surface, tau, 3.0, 31)
    total, _ = implied_total_volatility(surface.price(k, tau, k >= 0.0), k, k >= 0.0)
    np.testing.assert_allclose(total / np.sqrt(tau), surface.implied_vol(k, tau), rtol=1e-10)
    np.testing.assert_allclose(surface.implied_vol(k, tau) ** 2 * tau, surface.total_variance(k, tau), rtol=1e-13)


@every
@pytest.mark.parametrize("tau", TIMES)
def test_the_density_integrates_to_one_and_to_the_forward(surface, tau):
    k = grid(surface, tau, 5.0, 4001)
    k = k[np.abs(k) <= 1.5]  # as far as every certificate looks
    density = surface.density(k, tau)
    assert density.min() > -1e-3 * density.max()
    inside = np.trapezoid(density, k)
    mean = np.trapezoid(density * np.exp(k), k)
    # what the ends leave out: probabilities and first moments from the prices there
    tails = ends_of(surface, k, tau)
    assert inside + tails[0] == pytest.approx(1.0, abs=2e-4)
    assert mean + tails[1] == pytest.approx(1.0, abs=2e-4)


def ends_of(surface, k, tau):
    step = 1e-4
    low, high = k[0], k[-1]
    put = [float(surface.price(low + move, tau, False)) for move in (-step, step)]
    call = [float(surface.price(high + move, tau, True)) for move in (-step, step)]
    below = (put[1] - put[0]) / (2.0 * step * np.exp(low))
    above = (call[0] - call[1]) / (2.0 * step * np.exp(high))
    first = np.exp(low) * below - np.mean(put) + np.exp(high) * above + np.mean(call)
    return below + above, first


@every
@pytest.mark.parametrize("tau", TIMES)
def test_the_density_is_the_second_derivative_of_the_price(surface, tau):
    k = grid(surface, tau, 2.0, 41)
    h = 2e-3 * np.sqrt(surface.total_variance(0.0, tau))
    strike = np.exp(k)
    low, middle, high = (surface.price(k + move, tau, k >= 0.0) for move in (-h, 0.0, h))
    up, down = strike * np.expm1(h), -strike * np.expm1(-h)
    bend = 2.0 * ((high - middle) / up - (middle - low) / down) / (up + down)
    density = surface.density(k, tau)
    np.testing.assert_allclose(bend * strike, density, atol=0.02 * density.max())


@every
@pytest.mark.parametrize("is_call", [True, False])
def test_the_greeks_are_differences_of_the_price_at_the_surfaces_volatility(surface, is_call):
    forward, tau = 50_000.0, 0.3
    k = grid(surface, tau, 2.0, 9)
    strike = forward * np.exp(k)
    vol = surface.implied_vol(k, tau)
    found = surface.greeks(forward, k, tau, is_call)

    def usd(f, years, v):
        return np.asarray(black.price_usd(f, strike, years, v, is_call))

    h = 1e-3 * forward
    up, middle, down = usd(forward + h, tau, vol), usd(forward, tau, vol), usd(forward - h, tau, vol)
    np.testing.assert_allclose(found.delta, (up - down) / (2 * h), atol=1e-5)
    np.testing.assert_allclose(found.gamma, (up - 2 * middle + down) / h**2, rtol=1e-3, atol=1e-9)
    vega = (usd(forward, tau, vol + 1e-5) - usd(forward, tau, vol - 1e-5)) / 2e-5 / 100
    np.testing.assert_allclose(found.vega, vega, rtol=1e-6)
    decay = (usd(forward, tau - 1e-6, vol) - usd(forward, tau + 1e-6, vol)) / 2e-6 / 365
    np.testing.assert_allclose(found.theta, decay, rtol=1e-5)


@settings(max_examples=40)
@given(examples, st.lists(st.tuples(st.floats(-1.0, 1.0), moments), min_size=1, max_size=5))
def test_arguments_broadcast_and_answers_stand_alone(surface, asked):
    k, tau = np.array(asked).T
    table = surface.total_variance(k[None, :], tau[:, None])
    assert (table.shape, table.dtype) == ((tau.size, k.size), np.float64)
    np.testing.assert_allclose(np.diagonal(table), surface.total_variance(k, tau), rtol=1e-11)
    one = surface.total_variance(k[0], tau[0])
    assert np.shape(one) == ()
    assert float(one) == pytest.approx(table[0, 0], rel=1e-11)
    price = surface.price(k[:, None], tau[None, :], np.array([True]))
    assert isinstance(price, np.ndarray)
    assert price.shape == (k.size, tau.size)
    assert isinstance(surface.greeks(1.0, k, tau, True).vega, np.ndarray)


@every
@pytest.mark.parametrize("tau", [0.0, -0.1, np.nan])
def test_without_time_there_is_no_variance(surface, tau):
    if isinstance(surface, Svi):
        pytest.skip("an example of this folder: it knows nothing of time")
    asked = np.array([tau, 0.1])
    for found in (surface.total_variance(0.1, asked), surface.implied_vol(0.1, asked), surface.density(0.1, asked)):
        assert np.isnan(found[0])
        assert np.isfinite(found[1])
    assert not surface.durrleman_g(0.1, asked)[0] > 0.0


@every
@pytest.mark.parametrize("tau", [0.0, -0.1])
def test_an_expired_option_is_worth_its_payoff(surface, tau):
    if isinstance(surface, Svi):
        pytest.skip("an example of this folder: it knows nothing of time")
    k = np.array([-0.2, 0.0, 0.3])
    np.testing.assert_allclose(surface.price(k, tau, True), np.maximum(-np.expm1(k), 0.0), atol=1e-15)
    np.testing.assert_allclose(surface.price(k, tau, False), np.maximum(np.expm1(k), 0.0), atol=1e-15)
    greeks = surface.greeks(50_000.0, np.array([-0.2, 0.3]), tau, True)
    assert all(np.isfinite(column).all() for column in greeks)


@every
def test_a_missing_log_moneyness_spoils_no_other(surface):
    found = surface.implied_vol(np.array([np.nan, 0.1]), 0.1)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


@every
def test_it_answers_in_double_precision_whatever_the_process_uses(surface):
    k = np.array([-0.1, 0.1])
    wanted = [surface.price(k, 0.1, True), surface.density(k, 0.1), surface.greeks(1.0, k, 0.1, True).delta]
    with jax.enable_x64(False):
        found = [surface.price(k, 0.1, True), surface.density(k, 0.1), surface.greeks(1.0, k, 0.1, True).delta]
        assert jnp.ones(1).dtype == jnp.float32
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)
