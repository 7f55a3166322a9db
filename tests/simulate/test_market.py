"""Laws of the simulated exchange: reproducible, exchange-like, true where it says so, and shaken half-way."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.market.arbitrage import calendar_gap, grid_durrleman_g
from volgrad.market.black import price
from volgrad.simulate.listing import DAY_US, HOUR_US, listed_expiries
from volgrad.simulate.market import BITCOIN, ETHER, MarketSettings, SimulatedChain, simulate
from volgrad.simulate.quoting import Quirks, RowKind

GRID = 1.5 * np.sinh(np.linspace(-5.0, 5.0, 401)) / np.sinh(5.0)
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("settings_of", [BITCOIN, ETHER], ids=["BTC", "ETH"])


@cache
def calm_chains() -> list[SimulatedChain]:
    return list(simulate(7, 24, replace(BITCOIN, every=timedelta(hours=5), shock=0.0)))


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(np.float64)


def micros(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.int64()).to_numpy()


def true_premiums(chain: SimulatedChain) -> np.ndarray:
    """The premium in coin of every row, by the library's own Black formula on the true surface."""
    where = np.searchsorted(chain.expiry_us, micros(chain.quotes, "expiry"))
    k = np.log(numbers(chain.quotes, "strike") / chain.forward_usd[where])
    deviation = np.sqrt(chain.truth.total_variance(k, chain.expiry_years[where]))
    is_call = chain.quotes["cp"].to_numpy() == "C"
    return np.asarray(price(jnp.asarray(k), jnp.asarray(deviation), jnp.asarray(is_call)))


@settings(max_examples=6)
@given(seeds)
def test_the_same_seed_gives_the_same_market(seed: int) -> None:
    one, two = list(simulate(seed, 3)), list(simulate(seed, 3))
    for first, second in zip(one, two, strict=True):
        assert first.quotes.equals(second.quotes)
        np.testing.assert_array_equal(first.kind, second.kind)
        np.testing.assert_array_equal(first.truth.clock.knot_theta, second.truth.clock.knot_theta)
    assert not next(simulate(seed + 1, 3)).quotes.equals(one[0].quotes)


def test_the_markets_path_does_not_depend_on_what_is_quoted() -> None:
    plain = list(simulate(3, 4))
    dirty = list(simulate(3, 4, replace(BITCOIN, quirks=Quirks(joke=0.2), spread=3.0)))
    assert [chain.spot_usd for chain in plain] == [chain.spot_usd for chain in dirty]


@settings(max_examples=8)
@given(seeds, st.sampled_from([BITCOIN, ETHER]), st.floats(0.0, 1.5))
def test_the_truth_is_clean_before_and_after_a_shock(seed: int, base: MarketSettings, shock: float) -> None:
    for chain in simulate(seed, 4, replace(base, shock=shock, every=timedelta(hours=30))):
        years = np.concatenate([[1e-6, 1e-4], chain.expiry_years, chain.expiry_years + 0.5 / 365.0])
        variance = jnp.asarray(chain.truth.total_variance(GRID, np.sort(years)[:, None]))
        assert float(grid_durrleman_g(jnp.asarray(GRID), variance).min()) > 0.0
        assert float(calendar_gap(variance).min()) > 0.0


@both
def test_the_table_has_the_canonical_columns_in_order(settings_of: MarketSettings) -> None:
    chain = next(simulate(1, 1, settings_of))
    table = chain.quotes
    stamp = pa.timestamp("us", tz="UTC")
    assert table.schema.field("ts").type == stamp
    assert table.schema.field("expiry").type == stamp
    assert set(table.column_names) == {
        "ts", "ccy", "expiry", "strike", "cp", "bid", "ask", "underlying", "underlying_index",
    }  # fmt: skip
    assert set(micros(table, "ts").tolist()) == {chain.ts_us}
    assert set(table["ccy"].to_pylist()) == {settings_of.ccy}
    np.testing.assert_array_equal(np.unique(micros(table, "expiry")), listed_expiries(chain.ts_us))
    # every strike has its call and its put, and rows come by expiry, strike
    assert table["cp"].to_pylist() == ["C", "P"] * (table.num_rows // 2)
    order = np.lexsort((numbers(table, "strike"), micros(table, "expiry")))
    np.testing.assert_array_equal(order.reshape(-1, 2).min(axis=1), np.arange(0, table.num_rows, 2))
    assert 500 < table.num_rows < 1300  # real chains of 2026: 640 to 900
    names = dict(zip(micros(table, "expiry").tolist(), table["underlying_index"].to_pylist(), strict=True))
    assert sum(name.startswith("SYN.") for name in names.values()) >= 4
    assert f"{settings_of.ccy}-26JUN26" in names.values()


def test_strikes_stay_until_their_expiry_and_follow_the_market() -> None:
    listed: dict[int, set[float]] = {}
    for chain in calm_chains():
        now: dict[int, set[float]] = {}
        pairs = zip(micros(chain.quotes, "expiry").tolist(), numbers(chain.quotes, "strike").tolist(), strict=True)
        for expiry, strike in pairs:
            now.setdefault(expiry, set()).add(strike)
        for expiry, strikes in listed.items():
            assert expiry <= chain.ts_us or strikes <= now[expiry]
        for expiry, forward in zip(chain.expiry_us.tolist(), chain.forward_usd.tolist(), strict=True):
            assert min(now[expiry]) < forward < max(now[expiry])
        listed = now


def test_quotes_lie_on_ticks_and_normal_ones_are_uncrossed() -> None:
    for chain in calm_chains():
        bid, ask = numbers(chain.quotes, "bid"), numbers(chain.quotes, "ask")
        for quote in (bid, ask):
            quote = quote[~np.isnan(quote)]
            assert np.all(quote > 0.0)
            ticks = quote / np.where(quote < 0.005, 1e-4, 5e-4)
            np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-9)
        two_sided = ~np.isnan(bid) & ~np.isnan(ask)
        sound = two_sided & np.isin(chain.kind, [RowKind.NORMAL, RowKind.STALE])
        assert np.all(bid[sound] < ask[sound])
        assert np.all(bid[chain.kind == RowKind.CROSSED] > ask[chain.kind == RowKind.CROSSED])
        assert np.all(bid[chain.kind == RowKind.LOCKED] == ask[chain.kind == RowKind.LOCKED])
        assert np.all(ask[chain.kind == RowKind.JOKE] >= 1.0)


def test_the_truth_lies_inside_most_quotes_and_near_the_others() -> None:
    inside, outside = [], []
    for chain in calm_chains():
        bid, ask, premium = numbers(chain.quotes, "bid"), numbers(chain.quotes, "ask"), true_premiums(chain)
        sound = (chain.kind == RowKind.NORMAL) & ~np.isnan(bid) & ~np.isnan(ask)
        inside.append((bid <= premium)[sound] & (premium <= ask)[sound])
        beyond = np.maximum(np.maximum(bid - premium, premium - ask), 0.0)
        outside.append(beyond[sound] / (ask - bid)[sound])
    assert 0.955 < np.mean(np.concatenate(inside)) < 0.995
    assert np.quantile(np.concatenate(outside), 0.999) < 1.5


def test_missing_sides_are_as_common_as_on_the_exchange() -> None:
    bid = np.concatenate([numbers(chain.quotes, "bid") for chain in calm_chains()])
    ask = np.concatenate([numbers(chain.quotes, "ask") for chain in calm_chains()])
    premium = np.concatenate([true_premiums(chain) for chain in calm_chains()])
    assert 0.02 < np.isnan(bid).mean() < 0.10  # recorded: 6.2 %
    assert 0.003 < np.isnan(ask).mean() < 0.03  # recorded: 0.6 to 1.5 %
    assert np.isnan(bid[premium < 5e-5]).mean() > 0.9


def test_defects_come_at_their_rates_and_only_when_asked_for() -> None:
    def kinds(quirks: Quirks) -> np.ndarray:
        return np.concatenate([chain.kind for chain in simulate(5, 8, replace(BITCOIN, quirks=quirks))])

    often = kinds(Quirks(crossed=0.05, locked=0.05, stale=0.05, joke=0.05))
    for kind in (RowKind.CROSSED, RowKind.LOCKED, RowKind.STALE, RowKind.JOKE):
        assert 0.03 < np.mean(often == kind) < 0.07
    assert np.all(kinds(Quirks(0.0, 0.0, 0.0, 0.0)) == RowKind.NORMAL)


def test_some_rows_show_another_forward_but_the_median_is_the_true_one() -> None:
    apart = []
    for chain in calm_chains():
        underlying = numbers(chain.quotes, "underlying")
        expiry = micros(chain.quotes, "expiry")
        for stamp, forward in zip(chain.expiry_us.tolist(), chain.forward_usd.tolist(), strict=True):
            assert np.median(underlying[expiry == stamp]) == pytest.approx(forward, rel=1e-12)
        pairs = underlying.reshape(-1, 2)
        apart.append(1e4 * np.abs(np.log(pairs[:, 0] / pairs[:, 1])))
    distance = np.concatenate(apart)
    assert 0.08 < np.mean(distance > 0.1) < 0.2  # recorded: 13.5 to 14.9 % of pairs
    assert np.max(distance) < 45.0  # recorded: up to 41 bp


@settings(max_examples=8)
@given(seeds, st.sampled_from([BITCOIN, ETHER]))
def test_the_shock_lifts_the_level_inverts_the_term_structure_and_widens_quotes(
    seed: int, base: MarketSettings
) -> None:
    chains = list(simulate(seed, 4, base))
    before, after = chains[1], chains[2]
    tenors = np.array([2.0, 30.0, 270.0]) / 365.0

    def vol(chain: SimulatedChain, k: np.ndarray | float) -> np.ndarray:
        return np.sqrt(chain.truth.total_variance(k, tenors) / tenors)

    assert after.stress > before.stress == 0.0
    assert np.all(vol(after, 0.0) > vol(before, 0.0) * [1.5, 1.25, 1.05])
    assert vol(after, 0.0)[0] > vol(after, 0.0)[2]
    assert vol(before, 0.0)[0] < vol(before, 0.0)[2]
    # skew: the gap of two strikes one deviation apart on either side
    near = 0.5 * np.sqrt(tenors)
    assert np.all(vol(after, -near) - vol(after, near) > vol(before, -near) - vol(before, near))
    assert after.spot_usd < 0.95 * before.spot_usd

    # the same options out of the money, before and after
    def spreads(chain: SimulatedChain) -> dict[tuple[int, float, str], float]:
        table = chain.quotes
        bid, ask, strike = (numbers(table, name) for name in ("bid", "ask", "strike"))
        is_call = table["cp"].to_numpy() == "C"
        sound = (chain.kind == RowKind.NORMAL) & (bid > 0.002) & ~np.isnan(ask)
        sound &= is_call == (strike > numbers(table, "underlying"))
        keys = zip(micros(table, "expiry"), strike, table["cp"].to_pylist(), strict=True)
        return {key: gap for key, gap, used in zip(keys, ask - bid, sound, strict=True) if used}

    calm, shaken = spreads(before), spreads(after)
    shared = calm.keys() & shaken.keys()
    assert len(shared) > 100
    assert sum(shaken[key] for key in shared) > 1.3 * sum(calm[key] for key in shared)


def test_without_a_shock_there_is_no_stress() -> None:
    assert {chain.stress for chain in calm_chains()} == {0.0}


def test_chains_come_at_the_given_times() -> None:
    chains = calm_chains()
    assert np.all(np.diff([chain.ts_us for chain in chains]) == 5 * HOUR_US)
    first = datetime.fromtimestamp(chains[0].ts_us / 1e6, tz=BITCOIN.start.tzinfo)
    assert first == BITCOIN.start
    assert chains[-1].expiry_us[0] >= chains[0].expiry_us[0] + 4 * DAY_US  # the dailies have rolled


@pytest.mark.parametrize(
    ("chains", "change"),
    [(0, {}), (3, {"every": timedelta(0)}), (3, {"start": datetime(2026, 1, 5)})],
)
def test_impossible_settings_are_refused(chains: int, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="cannot simulate"):
        simulate(1, chains, replace(BITCOIN, **change))
