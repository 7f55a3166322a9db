"""Fits of the classical surfaces: what they can be is found, and what cannot arbitrage never does."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.examples import YEARS, essvi_surface, ssvi_surface, svi_surface
from tests.tasks.chains import chain_of, chain_of_rows, simulated_chains
from volgrad.errors import InputError, UnknownOptionError
from volgrad.models.local_vol import Prior
from volgrad.tasks.fit import MODELS, FitOptions, Fitter, fit_chain, fit_chains

DAYS = (0.25, 2.0, 9.0, 30.0, 90.0)
NAMES = ("essvi", "ssvi", "svi")
OWN = {"essvi": lambda: essvi_surface(2, 0.3), "ssvi": lambda: ssvi_surface(2, 0.3), "svi": svi_surface}
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def fitters():
    return {name: Fitter(FitOptions(model=name)) for name in NAMES}


def smile(k, tau):
    x = k / (0.6 * np.sqrt(tau))
    return 0.6 - 0.03 * x + 0.02 * x**2


def check(one, name):
    """What holds for every fit."""
    assert one.status in ("converged", "stalled", "diverged")
    assert one.model == name
    assert one.surface is not None
    assert one.certificate is not None
    if name != "svi":
        assert one.certificate.clean
    k = np.linspace(-1.5, 1.5, 31)
    times = np.concatenate([0.3 * one.surface.expiry_years, one.surface.expiry_years, 2.0 * one.surface.expiry_years])
    vol = one.surface.implied_vol(k[None, :], times[:, None])
    assert np.all(vol > 0.0)
    assert one.model_iv.shape == one.chain.mid_iv.shape
    return one


@every
def test_quotes_of_its_own_kind_are_met_and_the_surface_found(fitters, name):
    true = OWN[name]()
    chain = chain_of(true.implied_vol, YEARS * 365.0, strikes=11, half_spread=0.004)
    one = check(fitters[name].fit(chain), name)
    assert one.status == "converged"
    assert one.inside == 1.0
    assert one.rmse_vol_points < 0.1
    k = np.linspace(-1.5, 1.5, 13)[None, :] * np.sqrt(true.theta)[:, None]
    found, known = (surface.implied_vol(k, YEARS[:, None]) for surface in (one.surface, true))
    np.testing.assert_allclose(found, known, atol=0.004)


@every
def test_what_is_told_is_what_is_published(fitters, name):
    for chain in simulated_chains():
        one = check(fitters[name].fit(chain), name)
        found = one.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years)
        np.testing.assert_allclose(one.model_iv, found, rtol=1e-9)
        inside = np.mean((found >= chain.bid_iv) & (found <= chain.ask_iv))
        assert one.inside == pytest.approx(inside, abs=1e-12)
        assert len(one.curve) == one.iterations + 1
        assert one.curve[-1][1] < one.curve[0][1]
        assert set(one.shape) == set(chain.expiry_us.tolist())


def test_more_freedom_meets_more_quotes(fitters):
    for chain in simulated_chains():
        ssvi, essvi, svi = (
            min(loss for _, loss in fitters[name].fit(chain).curve) for name in ("ssvi", "essvi", "svi")
        )
        assert svi < essvi < ssvi


@every
@pytest.mark.parametrize("strikes", [1, 2, 3])
def test_a_few_quotes_in_each_expiry_are_enough(fitters, name, strikes):
    chain = chain_of(smile, DAYS, strikes=strikes)
    one = check(fitters[name].fit(chain), name)
    assert np.abs(one.model_iv - chain.mid_iv).max() < 0.05


@every
def test_one_quote_is_a_chain(fitters, name):
    one = check(fitters[name].fit(chain_of(smile, (30.0,), strikes=1)), name)
    assert one.surface.implied_vol(0.0, 30 / 365) == pytest.approx(0.6, abs=0.01)
    assert one.surface.implied_vol(0.1, 90 / 365) == pytest.approx(0.6, abs=0.15)


@every
def test_a_wild_quote_does_not_bend_the_surface(fitters, name):
    chain = chain_of(smile, DAYS)
    before = fitters[name].fit(chain)
    row = chain.rows(1).start + 2
    bid_iv, ask_iv = chain.bid_iv.copy(), chain.ask_iv.copy()
    bid_iv[row], ask_iv[row] = 3.0 * bid_iv[row], 3.0 * ask_iv[row]
    wild = chain_of_rows(chain.expiry_years, chain.expiry_index, chain.log_moneyness, bid_iv, ask_iv)
    after = check(fitters[name].fit(wild), name)
    others = np.arange(chain.n_rows) != row
    assert np.sqrt(np.mean((after.model_iv - before.model_iv)[others] ** 2)) < 0.005


def random_chain(seed, count, strikes, wild):
    """Any smile in any expiry, arbitrage in the quotes included."""
    random = np.random.default_rng(seed)
    days = np.cumsum(np.exp(random.normal(1.0, 1.2, count))) + 0.1
    level, skew, bend = (
        random.normal(0.6, 0.15, count),
        random.normal(0.0, 0.1, count),
        random.normal(0.03, 0.03, count),
    )
    expiry = iter(range(count))

    def vol(k, tau):
        one = next(expiry)
        x = k / (0.6 * np.sqrt(tau))
        return np.clip(
            (level[one] + skew[one] * x + bend[one] * x**2) * np.exp(wild * random.normal(size=k.size)), 0.1, 4
        )

    return chain_of(vol, days.tolist(), strikes=strikes, half_spread=0.01, reach=random.uniform(0.5, 2.5))


@pytest.mark.parametrize("name", ["essvi", "ssvi"])
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4),
    strikes=st.integers(1, 8),
    wild=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_whatever_the_quotes_the_surface_is_clean(fitters, name, seed, count, strikes, wild):
    check(fitters[name].fit(random_chain(seed, count, strikes, wild)), name)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4), strikes=st.integers(1, 8))
def test_raw_svi_answers_whatever_the_quotes(fitters, seed, count, strikes):
    check(fitters["svi"].fit(random_chain(seed, count, strikes, 0.3)), "svi")


def test_raw_svi_with_arbitrage_is_published_and_says_so(fitters):
    """Vols that fall to a fifth from one expiry to the next: a calendar arbitrage in the quotes."""
    chain = chain_of(lambda k, tau: np.where(tau < 0.05, 1.0, 0.4) + 0.05 * (k / np.sqrt(tau)) ** 2, (9.0, 30.0, 31.0))
    one = check(fitters["svi"].fit(chain), "svi")
    assert one.status != "refused"
    assert not one.certificate.clean
    assert one.certificate.min_calendar < -0.01
    assert check(fitters["essvi"].fit(chain), "essvi").certificate.min_calendar >= 0.0


@every
def test_descent_on_batches_works_too(name):
    chain = chain_of(smile, (2.0, 9.0, 30.0))
    best = fit_chain(chain, FitOptions(model=name))
    one = check(fit_chain(chain, FitOptions(model=name, optimizer="adam", batch=8)), name)
    assert np.sqrt(np.mean((one.model_iv - best.model_iv) ** 2)) < 0.02


@every
def test_a_warm_start_ends_where_a_cold_one_does(name):
    chains = simulated_chains(5, 3)
    cold, warm = (list(fit_chains(chains, FitOptions(model=name, warm=warm))) for warm in (False, True))
    assert [one.warm for one in warm] == [False, True, True]
    for one, other in zip(cold, warm, strict=True):
        check(other, name)
        half = one.chain.half_spread_iv
        assert np.sqrt(np.mean(((one.model_iv - other.model_iv) / half) ** 2)) < 0.2
    assert warm[2].curve[0][1] < cold[2].curve[0][1] or name == "svi"  # its cold start is a fit already


@every
def test_an_expiry_without_quotes_is_left_out_and_still_answered(fitters, name):
    chain = chain_of(smile, DAYS)
    columns = ("strike_usd", "expiry_index", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
    kept = chain.expiry_index != 3
    without = dataclasses.replace(chain, **{column: getattr(chain, column)[kept] for column in columns})
    one = check(fitters[name].fit(without), name)
    assert one.surface.expiry_years.size == len(DAYS) - 1
    assert chain.expiry_us[3] not in one.shape
    assert one.surface.implied_vol(0.0, chain.expiry_years[3]) == pytest.approx(0.6, abs=0.02)


def test_options_without_a_use_are_refused():
    for name in NAMES:
        with pytest.raises(InputError, match=f"history = 2 has no use with model {name}.*leave it out"):
            FitOptions(model=name, history=2)
        with pytest.raises(InputError, match="prior is of model local-vol"):
            FitOptions(model=name, prior=Prior(width=2.0))
    with pytest.raises(UnknownOptionError, match="'heston' is not one of local-vol, surface-net, essvi, ssvi, svi"):
        FitOptions(model="heston")
    assert set(MODELS) == {"local-vol", "surface-net", *NAMES}
