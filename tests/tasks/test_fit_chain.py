"""A fit recovers what is known, stands what is bad, and never publishes a surface with a NaN or an arbitrage."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tasks.chains import FORWARD_USD, chain_of, chain_of_rows, simulated, simulated_chains
from volgrad.errors import InputError, UnknownOptionError
from volgrad.models.certificate import LEAST_G, certify
from volgrad.models.joining import certificate_times
from volgrad.simulate.comparison import truth_error
from volgrad.tasks.fit import FitOptions, Fitter, fit_chain, fit_chains

DAYS = (0.25, 2.0, 9.0, 30.0, 90.0)
COLUMNS = ("strike_usd", "expiry_index", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
STATUSES = ("converged", "stalled", "diverged", "refused")


def smile(k, tau):
    """Skewed, convex, flatter with time; free of arbitrage over the strikes that are quoted."""
    x = k / (0.6 * np.sqrt(tau))
    return 0.6 - 0.03 * x + 0.02 * x**2


@pytest.fixture(scope="module")
def fitter():
    return Fitter(FitOptions())


@pytest.fixture(scope="module")
def fitted(fitter):
    """The simulated chains, fitted."""
    return [fitter.fit(chain) for chain in simulated_chains()]


def where(chain, mask):
    """The chain without some of its rows."""
    return dataclasses.replace(chain, **{name: getattr(chain, name)[mask] for name in COLUMNS})


def check(one):
    """What holds for every fit, whatever the quotes."""
    assert one.status in STATUSES
    assert len(one.why) > 10
    assert one.iterations >= 1
    assert one.fit_ms > 0.0
    if one.status == "refused":
        assert one.surface is None
        assert one.shape == {}
        return one
    assert one.surface is not None
    assert one.certificate is not None
    assert one.certificate.clean
    k = np.linspace(-1.5, 1.5, 31)
    times = np.concatenate([one.surface.expiry_years * 0.3, certificate_times(one.surface.expiry_years)])
    vol = one.surface.implied_vol(k[None, :], np.sort(times)[:, None])
    assert np.all(np.isfinite(vol))
    assert np.all(vol > 0.0)
    assert np.all(np.isfinite(one.model_iv))
    assert one.model_iv.shape == one.chain.mid_iv.shape
    assert 0.0 <= one.inside <= 1.0
    return one


def miss(one, chain):
    """Distance of the published surface from the middle of the quotes."""
    return one.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years) - chain.mid_iv


# What is known is found


def test_the_truth_behind_noisy_quotes_is_found_more_exactly_than_the_quotes_tell_it(fitted):
    for one, market in zip(fitted, simulated(), strict=True):
        check(one)
        assert one.status == "converged"
        chain = one.chain
        near = np.abs(chain.log_moneyness) < 2.5 * np.sqrt(market.truth.total_variance(0.0, chain.row_expiry_years))
        true = market.truth.implied_vol(chain.log_moneyness, chain.row_expiry_years)
        found = one.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years)
        of_quotes, of_surface = (np.sqrt(np.mean((vol - true)[near] ** 2)) for vol in (chain.mid_iv, found))
        assert of_surface < of_quotes
        assert truth_error(one.surface, market.truth, chain).unanswered == 0


def test_exact_quotes_are_met_to_a_tenth_of_their_spread(fitter):
    chain = chain_of(smile, DAYS, half_spread=0.005)
    one = check(fitter.fit(chain))
    assert one.status == "converged"
    assert one.inside == 1.0
    assert np.sqrt(np.mean(miss(one, chain) ** 2)) < 0.1 * 0.005
    assert one.certificate.min_g > LEAST_G


@pytest.mark.parametrize("vol", [0.15, 0.6, 2.0])
def test_a_flat_market_stays_nearly_flat_between_and_beyond_its_quotes(fitter, vol):
    chain = chain_of(
        lambda k, tau: np.full_like(k, vol), (2.0, 9.0, 30.0, 90.0), half_spread=0.01 * vol, reach=3.3 * vol
    )
    one = check(fitter.fit(chain))
    k = np.linspace(-1.0, 1.0, 9)[None, :] * vol * np.sqrt(chain.expiry_years)[:, None]
    found = one.surface.implied_vol(k, chain.expiry_years[:, None])
    np.testing.assert_allclose(found, vol, rtol=0.01)


def test_what_is_told_is_what_is_published(fitted):
    """Share inside, distance and model volatilities are those of the surface that is handed out."""
    for one in fitted:
        chain = one.chain
        found = one.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years)
        np.testing.assert_allclose(one.model_iv, found, atol=2e-4)
        inside = np.mean((found >= chain.bid_iv) & (found <= chain.ask_iv))
        assert one.inside == pytest.approx(inside, abs=0.01)
        assert one.rmse_vol_points == pytest.approx(100.0 * np.sqrt(np.mean((found - chain.mid_iv) ** 2)), rel=0.02)


def test_the_certificate_is_the_surfaces(fitted):
    for one in fitted:
        again = certify(one.surface, certificate_times(one.surface.expiry_years), one.certificate.k_range[1])
        assert again.clean
        assert again.min_g == pytest.approx(one.certificate.min_g, rel=1e-6)


def test_the_learning_curve_falls_from_the_start_to_the_end(fitted):
    for one in fitted:
        quotes, losses = zip(*one.curve, strict=True)
        assert quotes == tuple(one.chain.n_rows * epoch for epoch in range(one.iterations + 1))
        assert losses[-1] < 0.2 * losses[0]
        assert np.all(np.diff(losses) <= 0.0)  # Gauss-Newton on the whole chain never goes up


def test_the_surface_knows_its_expiries_and_forwards(fitted):
    for one in fitted:
        np.testing.assert_array_equal(one.surface.expiry_years, one.chain.expiry_years)
        np.testing.assert_array_equal(one.surface.forward_usd, one.chain.forward_usd)
        assert one.surface.ts_us == one.chain.ts_us
        assert set(one.shape) == set(one.chain.expiry_us.tolist())


# Little data


@pytest.mark.parametrize("strikes", [1, 2, 3])
def test_a_few_quotes_in_each_expiry_are_enough(fitter, strikes):
    chain = chain_of(smile, DAYS, strikes=strikes)
    one = check(fitter.fit(chain))
    assert one.status == "converged"
    assert np.abs(miss(one, chain)).max() < 0.02


def test_three_quotes_in_one_expiry_do_not_spoil_the_others(fitter):
    """faults.md row 30: the prior fills what three quotes leave open; never a NaN."""
    chain = chain_of(smile, DAYS)
    rows = np.arange(chain.n_rows)
    kept = (chain.expiry_index != 2) | np.isin(
        rows, [chain.rows(2).start, chain.rows(2).start + 4, chain.rows(2).stop - 1]
    )
    whole, thin = check(fitter.fit(chain)), check(fitter.fit(where(chain, kept)))
    assert thin.status == "converged"
    assert np.sqrt(np.mean(miss(thin, chain) ** 2)) < 0.01
    others = chain.expiry_index != 2
    assert np.abs((miss(thin, chain) - miss(whole, chain))[others]).max() < 0.005


@pytest.mark.parametrize("days", [(0.1,), (30.0,), (400.0,)])
@pytest.mark.parametrize("strikes", [1, 3, 9])
def test_one_expiry_alone_gives_a_surface(fitter, days, strikes):
    chain = chain_of(smile, days, strikes=strikes)
    one = check(fitter.fit(chain))
    assert one.status == "converged"
    assert np.abs(miss(one, chain)).max() < 0.02


def test_one_quote_is_a_chain(fitter):
    one = check(fitter.fit(chain_of(smile, (30.0,), strikes=1)))
    assert one.status == "converged"
    assert one.surface.implied_vol(0.0, 30 / 365) == pytest.approx(0.6, abs=0.01)
    assert one.surface.implied_vol(0.1, 90 / 365) == pytest.approx(0.6, abs=0.15)


def test_an_expiry_without_quotes_is_left_out_and_still_answered(fitter):
    """faults.md row 43: every quote of an expiry one-sided."""
    chain = chain_of(smile, DAYS)
    one = check(fitter.fit(where(chain, chain.expiry_index != 3)))
    assert chain.expiry_us[3] not in one.shape
    assert one.surface.expiry_years.size == len(DAYS) - 1
    k = chain.log_moneyness[chain.rows(3)]
    found = one.surface.implied_vol(k, chain.expiry_years[3])
    assert np.sqrt(np.mean((found - smile(k, chain.expiry_years[3])) ** 2)) < 0.02


def test_quotes_on_one_side_of_the_money_only_are_fitted(fitter):
    chain = chain_of(smile, DAYS)
    one = check(fitter.fit(where(chain, chain.log_moneyness > 0.0)))
    assert one.status == "converged"
    assert one.inside == 1.0


# Bad data


def test_a_wild_quote_does_not_bend_the_surface(fitter):
    """Its pull is bounded: three times the volatility at a strike moves no other quote's model by half its spread."""
    chain = chain_of(smile, DAYS)
    before = check(fitter.fit(chain))
    for row in (chain.rows(1).start + 2, chain.rows(3).start + 4, chain.rows(4).stop - 1):
        bid_iv, ask_iv = chain.bid_iv.copy(), chain.ask_iv.copy()
        bid_iv[row], ask_iv[row] = 3.0 * bid_iv[row], 3.0 * ask_iv[row]
        wild = chain_of_rows(chain.expiry_years, chain.expiry_index, chain.log_moneyness, bid_iv, ask_iv)
        after = check(fitter.fit(wild))
        others = np.arange(chain.n_rows) != row
        assert np.abs(after.model_iv - before.model_iv)[others].max() < 0.02
        assert np.sqrt(np.mean((after.model_iv - before.model_iv)[others] ** 2)) < 0.005


def test_forwards_that_disagree_give_a_clean_surface(fitter):
    """faults.md row 44: calls quoted on another forward than puts, 40 bp apart, the chain on the middle."""

    def torn(k, tau):
        moved = np.where(k >= 0.0, 0.002, -0.002)
        return smile(k, tau) + moved / np.sqrt(tau) * 0.5

    chain = chain_of(torn, DAYS)
    one = check(fitter.fit(chain))
    assert one.status in ("converged", "stalled")


def test_quotes_of_two_hours_and_of_two_years_live_in_one_surface(fitter):
    one = check(fitter.fit(chain_of(smile, (2.1 / 24, 0.5, 730.0))))
    assert one.inside > 0.95


@pytest.mark.parametrize("vol", [0.03, 0.1, 4.0, 7.0])
def test_extreme_levels_are_fitted(fitter, vol):
    chain = chain_of(
        lambda k, tau: np.full_like(k, vol), (1.0, 7.0, 60.0), half_spread=0.03 * vol, reach=0.1 if vol < 0.2 else 1.0
    )
    one = check(fitter.fit(chain))
    assert one.surface is not None
    assert one.inside > 0.9


def test_a_strike_beyond_the_grid_does_no_harm(fitter):
    """ln(K/F) of -5: further out than any node."""
    chain = chain_of(smile, DAYS)
    k = np.insert(chain.log_moneyness, chain.rows(4).start, -5.0)
    expiry = np.insert(chain.expiry_index, chain.rows(4).start, 4)
    bid_iv = np.insert(chain.bid_iv, chain.rows(4).start, 2.0)
    ask_iv = np.insert(chain.ask_iv, chain.rows(4).start, 2.2)
    one = check(fitter.fit(chain_of_rows(chain.expiry_years, expiry, k, bid_iv, ask_iv)))
    assert one.surface is not None
    inner = np.delete(np.arange(k.size), chain.rows(4).start)
    assert np.abs(one.model_iv[inner] - chain.mid_iv).max() < 0.03


def test_a_far_quote_an_hour_before_expiry_does_not_poison_the_chain(fitter):
    """Its model premium underflows: the loss must stay finite."""
    chain = chain_of(smile, (2.1 / 24, 9.0, 30.0))
    k = np.append(-2.9, chain.log_moneyness)
    expiry = np.append(0, chain.expiry_index)
    bid_iv, ask_iv = np.append(20.0, chain.bid_iv), np.append(20.3, chain.ask_iv)
    one = check(fitter.fit(chain_of_rows(chain.expiry_years, expiry, k, bid_iv, ask_iv)))
    assert one.surface is not None
    assert one.status in ("converged", "stalled")
    assert np.abs(one.model_iv[1:] - chain.mid_iv).max() < 0.05


def random_chain(seed, count, strikes, wild, spread):
    """Any smile in any expiry, arbitrage in the quotes included."""
    random = np.random.default_rng(seed)
    days = np.cumsum(np.exp(random.normal(1.0, 1.2, count))) + 0.1
    level, skew, bend = random.normal(0.6, 0.1, count), random.normal(0.0, 0.1, count), random.normal(0.03, 0.03, count)
    expiry = iter(range(count))

    def vol(k, tau):
        one = next(expiry)
        x = k / (0.6 * np.sqrt(tau))
        noise = wild * random.standard_normal(k.size)
        return np.clip((level[one] + skew[one] * x + bend[one] * x**2) * np.exp(noise), 0.15, 4.0)

    return chain_of(vol, days.tolist(), strikes=strikes, half_spread=spread, reach=random.uniform(0.5, 2.5))


chains = st.builds(
    random_chain,
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.floats(0.002, 0.2),
)


@settings(max_examples=60)
@given(chains)
@example(random_chain(62, 6, 2, 0.0, 0.00390625))  # tight quotes with calendar falls: a stiff prior must give way
def test_whatever_the_quotes_the_surface_is_clean(fitter, chain):
    """Never demand arbitrage-free input; always deliver arbitrage-free output."""
    one = check(fitter.fit(chain))
    assert one.status != "refused", one.why


@pytest.mark.parametrize("seed", range(8))
def test_noise_alone_gives_a_clean_surface_or_a_refusal_with_a_reason(fitter, seed):
    one = check(fitter.fit(random_chain(seed, 5, 5, 1.0, 0.02)))
    assert one.status != "refused" or "min g" in one.why


# Options


def test_the_same_options_give_the_same_surface_to_the_bit():
    chain = chain_of(smile, DAYS)
    one, two = fit_chain(chain), fit_chain(chain)
    np.testing.assert_array_equal(one.surface.variance, two.surface.variance)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_descent_on_batches_reaches_nearly_what_gauss_newton_does(optimizer):
    chain = chain_of(smile, DAYS)
    best = fit_chain(chain)
    one = check(fit_chain(chain, FitOptions(optimizer=optimizer, batch=16)))
    assert one.status in ("converged", "stalled")
    assert one.curve[-1][1] < 1.0
    assert np.sqrt(np.mean((one.model_iv - best.model_iv) ** 2)) < 0.01


def test_a_warm_start_ends_where_a_cold_one_does():
    chains_ = simulated_chains(5, 3)
    cold = list(fit_chains(chains_))
    warm = list(fit_chains(chains_, FitOptions(warm=True)))
    assert [one.warm for one in warm] == [False, True, True]
    assert not any(one.warm for one in cold)
    for one, other in zip(cold, warm, strict=True):
        check(other)
        half = one.chain.half_spread_iv
        assert np.sqrt(np.mean(((one.model_iv - other.model_iv) / half) ** 2)) < 0.1
    assert sum(one.iterations for one in warm[1:]) <= sum(one.iterations for one in cold[1:])
    assert warm[2].curve[0][1] < cold[2].curve[0][1]


def test_underlyings_do_not_warm_each_other():
    mixed = [simulated_chains()[0], simulated_chains(1, 2, "ETH")[0], simulated_chains()[1]]
    assert [one.warm for one in fit_chains(mixed, FitOptions(warm=True))] == [False, False, True]


def test_history_changes_the_prior_and_not_what_is_quoted():
    chains_ = simulated_chains(5, 3)
    plain, leant = (list(fit_chains(chains_, FitOptions(history=count)))[2] for count in (0, 2))
    check(leant)
    assert leant.inside > plain.inside - 0.03
    assert not np.array_equal(leant.surface.variance, plain.surface.variance)


def test_progress_is_told_chain_by_chain():
    told = []
    assert len(list(fit_chains(simulated_chains(), progress=told.append))) == 2
    assert told == [1, 1]


def test_wrong_options_say_what_is_right():
    with pytest.raises(UnknownOptionError, match="'adma' is not one of auto, lm, adam, sgd") as caught:
        FitOptions(optimizer="adma")
    assert caught.value.suggestion == "adam"
    with pytest.raises(InputError, match="not 0"):
        FitOptions(batch=0)
    with pytest.raises(InputError, match="not -1"):
        FitOptions(history=-1)


def test_a_chain_is_not_written_to(fitter):
    chain = chain_of(smile, DAYS)
    before = {name: getattr(chain, name).copy() for name in COLUMNS}
    fitter.fit(chain)
    for name, column in before.items():
        np.testing.assert_array_equal(getattr(chain, name), column)
    assert chain.forward_usd[0] == FORWARD_USD


def test_a_surface_that_needed_a_stiffer_prior_says_so(fitter):
    """Tight quotes whose calendar falls: the first fit fails its certificate, a stiffer one is published."""
    one = check(fitter.fit(random_chain(62, 6, 2, 0.0, 0.00390625)))
    assert one.freedom < 1.0
    assert "failed its certificate" in one.why
    assert one.iterations > len(one.curve) - 1  # the attempts before count
    easy = fitter.fit(random_chain(1, 3, 8, 0.0, 0.02))
    assert easy.freedom == 1.0
    assert "certificate" not in easy.why
