"""Laws of the many-at-once prices: the library's own Black formula and inversion agree."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.market import black
from volgrad.simulate.listing import DAY_US, listed_expiries
from volgrad.simulate.pricing import IV_CAP, Options, Priced, implied_vol, priced
from volgrad.simulate.surface import Skew, clock_integrals, ends, smiles_of, theta_of

TS_US = 1_767_604_650_000_000


def example(seed: int, rows: int = 300):
    """Options at two moments of a market, out to four deviations."""
    random = np.random.default_rng(seed)
    stamps = TS_US + np.array([0, 3_600_000_000])
    expiry_us = listed_expiries(TS_US)
    names = ("fast", "short", "long", "stress")
    values = {name: np.abs(0.2 * random.standard_normal(2)) for name in names}
    theta = theta_of(clock_integrals(stamps, expiry_us), ends(values, 0.38, 0.47))
    smiles = smiles_of(theta, Skew(0.0, 0.1 * random.standard_normal(2), values["stress"]))
    cell = random.integers(theta.size, size=rows)
    k = random.uniform(-4.0, 4.0, rows) * np.sqrt(theta.ravel()[cell])
    years = ((expiry_us - stamps[:, None]) / (365 * DAY_US)).ravel()[cell]
    options = Options(cell, k, np.sqrt(years), random.random(rows) < 0.5)
    return options, priced(options, smiles)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_premium_delta_and_vega_are_blacks(seed):
    options, truth = example(seed)
    arguments = (jnp.asarray(options.log_moneyness), jnp.asarray(truth.deviation), jnp.asarray(options.is_call))
    np.testing.assert_allclose(truth.otm + truth.intrinsic, black.price(*arguments), rtol=1e-9, atol=1e-13)
    step = 1e-5
    up, down = (black.price(arguments[0] - shift, *arguments[1:]) for shift in (step, -step))
    # the sticky-strike delta: the premium in coin against the forward's logarithm
    np.testing.assert_allclose(truth.net_delta, (up - down) / (2 * step), rtol=1e-5, atol=1e-7)
    up, down = (black.price(arguments[0], arguments[1] + shift, arguments[2]) for shift in (step, -step))
    np.testing.assert_allclose(truth.vega, (up - down) / (2 * step) * options.root_years, rtol=1e-4, atol=1e-8)
    assert np.all((truth.exercised >= 0.0) & (truth.exercised <= 1.0))


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.1, 8.0))
def test_implied_vol_inverts_the_premium(seed, factor):
    options, truth = example(seed)
    vol = truth.deviation / options.root_years
    arguments = (options.log_moneyness, factor * truth.deviation, options.is_call)
    premium = np.asarray(black.price(*(jnp.asarray(one) for one in arguments)))
    found = implied_vol(np.stack([premium, premium]), options, truth)[1]
    resolved = premium - truth.intrinsic > 1e-7
    expected = np.minimum(factor * vol, IV_CAP)
    np.testing.assert_allclose(found[resolved], expected[resolved], rtol=1e-4, atol=1e-4)


def test_sentinels_are_the_exchanges():
    options, truth = example(1)
    nothing = np.full(truth.otm.size, np.nan)
    everything = truth.intrinsic + np.exp(np.minimum(options.log_moneyness, 0.0)) + 0.1
    missing, below, beyond = implied_vol(np.stack([nothing, truth.intrinsic - 1e-4, everything]), options, truth)
    assert np.all(missing == 0.0)
    assert np.all(below == 0.0)
    assert np.all(beyond == IV_CAP)


def test_a_priced_row_is_a_row():
    _, truth = example(2, 7)
    assert {column.shape for column in truth} == {(7,)}
    assert isinstance(truth, Priced)
