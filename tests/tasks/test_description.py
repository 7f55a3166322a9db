"""A description finds what was put in, and says so where there is nothing to find."""

import dataclasses
import math

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from tests.data.tables import normalised_price
from tests.tasks.described import DAYS, FORWARD, PLACES, ROWS, described, market, smooth
from volgrad.data import build, read_quotes
from volgrad.errors import EmptyInputError
from volgrad.tasks.description import describe
from volgrad.tasks.description.panel import DELTA_LABELS, TENOR_LABELS
from volgrad.tasks.description.words import MEANING

QUANTITIES = list(MEANING)
_RHO = 0.4


def shocks(seed, chains, phi=0.0, rho=_RHO, size=0.03):
    """ln volatilities with a common shock that follows an AR(1), of intraclass correlation `rho`."""
    rng = np.random.default_rng(seed)
    common = np.empty(chains)
    common[0] = rng.standard_normal()
    for at in range(1, chains):
        common[at] = phi * common[at - 1] + math.sqrt(1 - phi**2) * rng.standard_normal()
    own = rng.standard_normal((chains, ROWS))
    return smooth(chains) + size * (math.sqrt(rho) * common[:, None] + math.sqrt(1 - rho) * own)


@pytest.fixture(scope="module")
def plain():
    """Two underlyings with independent shocks."""
    return described(market(shocks(1, 150)), market(shocks(2, 150), ccy="ETH"))


def test_the_inventory_counts_every_row():
    stamps = [0, 1, 2, 3, 4, 30, 31, 32]
    table = market(smooth(8), stamps=stamps)
    bid = table["bid"].to_numpy().copy()
    bid[5] = np.nan
    table = table.set_column(table.column_names.index("bid"), "bid", pa.array(bid))
    found = described(table).inventory
    assert (found.rows, found.used, found.left_out) == (8 * ROWS, 8 * ROWS - 1, {"one_sided": 1})
    (one,) = found.underlyings
    assert (one.underlying, one.chains, one.quotes, one.refused) == ("BTC", 8, 8 * ROWS - 1, 0)
    assert (one.first, one.last, one.cadence_hours) == ("2026-01-06T00:00:00Z", "2026-01-07T08:00:00Z", 1.0)
    assert one.expiries == (3, 3.0, 3)
    assert one.quotes_per_chain == (ROWS - 1, ROWS, ROWS)
    assert [(gap.begins, gap.ends, gap.hours) for gap in found.gaps] == [
        ("2026-01-06T04:00:00Z", "2026-01-07T06:00:00Z", 26.0)
    ]
    assert sum(one.quotes for one in found.periods) == found.used
    assert found.period_hours == 1


def test_long_stores_are_counted_by_day():
    found = described(market(smooth(8), hours=20.0)).inventory
    assert found.period_hours == 24
    assert [one.begins for one in found.periods] == [f"2026-01-{day:02d}T00:00:00Z" for day in range(6, 12)]
    assert [one.chains for one in found.periods] == [2, 1, 1, 1, 1, 2]


def test_the_correlation_within_a_snapshot_is_found(plain):
    for name in ("BTC", "ETH"):
        found = plain.of("level", name)
        assert found.correlation_low < _RHO < found.correlation_high
        assert found.rows_per_cluster == ROWS
        assert found.design_effect == pytest.approx(1 + (ROWS - 1) * found.correlation)
        # a change is the difference of two independent values: the same correlation
        change = plain.of("innovation", name)
        assert change.correlation_low < _RHO < change.correlation_high
        assert change.rows == 149 * ROWS


def test_underlyings_without_a_common_shock_dilute_each_other(plain):
    whole = plain.of("level")
    assert whole.clusters == 150
    assert whole.correlation == pytest.approx(_RHO * (ROWS - 1) / (2 * ROWS - 1), abs=0.05)


def test_rows_of_one_place_are_more_alike_than_rows_of_a_surface(plain):
    assert 0 < plain.of("gradient").correlation < plain.of("level").correlation
    assert plain.batching.design_effect == plain.of("gradient").design_effect
    assert plain.batching.level_design_effect == plain.of("level").design_effect
    rows = list(plain.batching.rows_per_snapshot.values())
    assert rows == sorted(rows)


def test_independent_quotes_are_worth_themselves():
    found = described(market(shocks(3, 120, rho=0.0))).of("level", "BTC")
    assert found.correlation == pytest.approx(0.0, abs=0.01)
    assert found.correlation_low < 0 < found.correlation_high
    assert found.rows_effective_low <= found.rows


@pytest.mark.parametrize("seed", [1, 2])
def test_memory_is_found_and_lowers_the_worth(seed):
    found = described(market(shocks(seed, 500, phi=0.7, rho=0.9))).of("level", "BTC")
    assert found.autocorrelation_low < 1.7 / 0.3 < found.autocorrelation_high
    assert found.resolved
    assert found.autocorrelation_hours == pytest.approx(0.25 * found.autocorrelation_time)
    lag = np.arange(1, 500)
    exact = 500 / (1 + 2 * np.sum((1 - lag / 500) * 0.7**lag))
    assert found.clusters_effective_low < exact < found.clusters_effective_high
    share = found.clusters_effective / found.clusters
    assert found.rows_effective == pytest.approx(found.rows_within * share)
    assert found.rows_effective_low < found.rows_effective < found.rows_effective_high


def test_a_gap_is_not_stepped_over():
    whole = described(market(shocks(1, 40)))
    apart = described(market(shocks(1, 40), stamps=[*range(20), *range(100, 120)]))
    assert whole.of("innovation").rows == 39 * ROWS
    assert apart.of("innovation").rows == 38 * ROWS
    assert apart.staleness.pairs == 38 * ROWS


def test_residuals_of_independent_errors_are_as_unlike_as_chance(plain):
    near = plain.neighbours
    assert near.expiries == 2 * 150 * len(DAYS)
    assert near.correlation == pytest.approx(near.by_chance, abs=0.05)
    assert plain.of("residual").correlation < 0.01


def test_a_common_wave_of_neighbours_is_found():
    waves = 0.004 * np.tile(np.tile([1, 1, -1, -1], 2), len(DAYS))
    signs = np.random.default_rng(0).choice([-1, 1], (60, 1))
    near = described(market(smooth(60) + signs * waves)).neighbours
    assert near.correlation > near.by_chance + 0.2


def refreshed(seed, chains, chance):
    """Quotes that keep their prices in each chain with this chance, and a volatility that never rests."""
    rng = np.random.default_rng(seed)
    standing = rng.uniform(size=(chains, ROWS)) < chance
    return market(shocks(seed, chains), standing=standing), standing


@pytest.mark.parametrize("linear", [False, True])
def test_standing_quotes_are_counted(linear):
    rng = np.random.default_rng(1)
    standing = rng.uniform(size=(60, ROWS)) < 0.6
    found = described(market(shocks(1, 60), standing=standing, linear=linear)).staleness
    assert found.pairs == 59 * ROWS
    assert found.unchanged == pytest.approx(standing[1:].mean())
    assert np.sum(found.table_pairs) == found.pairs
    total = np.nansum(np.array(found.table_pairs) * np.array(found.table_unchanged))
    assert total == pytest.approx(standing[1:].sum())
    assert (found.tenors, found.deltas) == (TENOR_LABELS, DELTA_LABELS)
    assert found.stale == 0.0  # the forward has not moved


def test_how_long_quotes_stand_is_found():
    table, _ = refreshed(2, 400, 0.8)
    found = described(table).staleness
    whole = found.survival[0]
    assert whole.bucket == "all"
    expected = 0.8 ** np.arange(1, 11)
    np.testing.assert_allclose(whole.share[:10], expected, atol=0.03)
    assert whole.median_chains in (3.0, 4.0)  # .8^3 = .512, .8^4 = .41
    assert found.lags[:4] == (1, 2, 4, 8)
    np.testing.assert_allclose(found.unchanged_after[:3], [0.8, 0.64, 0.41], atol=0.03)


def test_quotes_lost_from_sight_count_as_long_as_they_were_seen():
    table, _ = refreshed(5, 400, 0.9)
    lost = np.random.default_rng(3).uniform(size=table.num_rows) < 0.1  # one-sided now and then
    bid = np.where(lost, np.nan, table["bid"].to_numpy())
    table = table.set_column(table.column_names.index("bid"), "bid", pa.array(bid))
    share = described(table).staleness.survival[0].share
    np.testing.assert_allclose(share[:8], 0.9 ** np.arange(1, 9), atol=0.04)


def test_a_quote_is_overtaken_where_the_forward_ran_further_than_the_spread():
    chains = 6
    standing = np.zeros((chains, ROWS), bool)
    standing[1:] = True
    calm = described(market(smooth(chains), standing=standing, forward=FORWARD * (1 + 1e-7 * np.arange(chains))))
    assert calm.staleness.unchanged == 1.0
    assert calm.staleness.stale == 0.0
    wild = described(market(smooth(chains), standing=standing, forward=FORWARD * (1 + 2e-3 * np.arange(chains))))
    expected = 0
    for days in DAYS:
        years = (days * 24 + 8) / (365 * 24)
        for at in PLACES:
            k, side = 0.6 * math.sqrt(years) * at, at > 0
            low, middle, high = ((0.6 + 0.02 * at**2 + step) * math.sqrt(years) for step in (-0.01, 0.0, 0.01))
            spread = normalised_price(k, high, side) - normalised_price(k, low, side)
            for step in range(1, chains):
                moved = normalised_price(k - math.log(1 + 2e-3 * step), middle, side)
                expected += abs(moved - normalised_price(k, middle, side)) > spread
    assert wild.staleness.stale == pytest.approx(expected / (ROWS * (chains - 1)))
    assert 0.2 < wild.staleness.stale < 0.8


def test_rows_with_a_time_of_their_own_have_an_age():
    table = market(smooth(20))
    stamps = table["ts"].to_numpy().astype("M8[us]")
    late = np.tile(np.arange(ROWS) % 10, 20).astype("m8[s]")
    own = pa.array(stamps + late, pa.timestamp("us", "UTC"))
    table = table.append_column("cycle", table["ts"]).set_column(0, "ts", own)
    found = described(table).ages
    assert (found.rows, found.why) == (20 * ROWS, "")
    expected = np.quantile(-late.astype(float), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(found.seconds, expected)
    assert found.spread_seconds == pytest.approx(8.85)  # of the 24 rows of each chain


def test_rows_without_a_time_of_their_own_have_none(plain):
    assert plain.ages.rows == 0
    assert "no time of their own" in plain.ages.why
    assert all(math.isnan(value) for value in plain.ages.seconds)


def test_one_chain_says_nothing_of_likeness():
    found = described(market(smooth(1)))
    for one in found.likeness:
        assert math.isnan(one.correlation)
        assert math.isnan(one.rows_effective)
        assert one.why
    assert math.isnan(found.inventory.underlyings[0].cadence_hours)
    assert found.staleness.pairs == 0
    assert math.isnan(found.staleness.unchanged)
    assert found.staleness.why
    assert all(not one.share for one in found.staleness.survival)
    assert math.isnan(found.batching.design_effect)
    assert all(math.isnan(rows) for rows in found.batching.rows_per_snapshot.values())


def test_one_underlying_is_all_of_them():
    found = described(market(shocks(1, 30)))
    for quantity in QUANTITIES:
        whole, own = found.of(quantity), found.of(quantity, "BTC")
        assert whole.underlying is None
        assert (whole.rows, whole.clusters) == (own.rows, own.clusters)
        assert whole.correlation == own.correlation


def test_options_that_never_come_again_have_no_changes():
    tables = [market(smooth(1), stamps=[float(at)], forward=[FORWARD]) for at in range(4)]
    moved = []
    for number, table in enumerate(tables):  # strikes that differ from chain to chain
        strike = pa.array(table["strike"].to_numpy() * (1 + 1e-4 * number))
        moved.append(table.set_column(table.column_names.index("strike"), "strike", strike))
    found = described(*moved)
    assert found.of("innovation").rows == 0
    assert "in a row" in found.of("innovation").why
    assert math.isnan(found.of("surprise").correlation)
    assert math.isfinite(found.of("level").correlation)


def test_a_market_at_rest_has_no_number_made_up():
    standing = np.ones((12, ROWS), bool)
    found = described(market(smooth(12), standing=standing))
    stale = found.staleness
    assert stale.unchanged == 1.0
    assert "throughout" in stale.why
    assert stale.survival[0].share == ()
    assert math.isnan(stale.survival[0].median_chains)


def test_both_settlements_of_an_underlying_are_told_apart():
    found = described(market(shocks(1, 12)), market(shocks(2, 12), linear=True))
    assert [one.underlying for one in found.inventory.underlyings] == ["BTC inverse", "BTC linear"]
    assert found.of("level", "BTC linear").rows == 12 * ROWS


def test_splits_are_not_compared_with_each_other():
    first, second = market(shocks(1, 10)), market(shocks(2, 10))
    first, second = (
        one.append_column("split", pa.array([name] * one.num_rows)) for one, name in ((first, "a"), (second, "b"))
    )
    found = described(pa.concat_tables([first, second]))
    assert found.of("innovation").rows == 2 * 9 * ROWS
    assert found.of("level").clusters == 10


def test_nothing_usable_is_refused_in_a_sentence():
    table = market(smooth(2))
    table = table.set_column(table.column_names.index("bid"), "bid", pa.nulls(table.num_rows, pa.float64()))
    read = read_quotes(table)
    with pytest.raises(EmptyInputError, match="nothing to describe"):
        describe(read, build(read))


def test_the_same_quotes_give_the_same_description_and_json_holds_it(plain):
    again = described(market(shocks(1, 150)), market(shocks(2, 150), ccy="ETH"))
    first, second = (msgspec.json.encode(one) for one in (plain, again))
    assert first == second
    assert set(msgspec.json.decode(first)) == {
        "inventory", "likeness", "neighbours", "batching", "ages", "staleness", "notes",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["deribit_snap_202601.parquet", "deribit_ticker5m_20230414.parquet"])
def test_real_quotes_are_alike_and_stand(shared_data, name):
    path = shared_data / name
    if not path.exists():
        pytest.skip(f"no {name} in the shared data")
    found = described(path)
    for one in found.likeness:
        if one.quantity != "residual":
            assert one.correlation_low < one.correlation < one.correlation_high < 1.0
            assert one.correlation > 0.0
            assert 1.0 < one.rows_effective < one.rows_within < one.rows
            assert one.within_expiry > one.across_expiries
    assert found.of("gradient").design_effect < found.of("level").design_effect
    assert 0.05 < found.staleness.unchanged < 0.9
    wings = np.array(found.staleness.table_unchanged)
    assert np.nanmean(wings[:, 0]) > 2 * np.nanmean(wings[:, -1])  # far quotes stand longer
    ticker = "ticker" in name
    assert (found.ages.rows > 0) == ticker


def test_chains_of_another_cadence_are_left_out_and_told():
    hourly = market(shocks(5, 60), hours=1.0)
    alone = described(hourly)
    often = market(shocks(6, 40), stamps=[80 + minute / 60 for minute in range(0, 200, 5)])
    stray = market(shocks(7, 1), stamps=[120])
    mixed = described(hourly, often, stray)
    for quantity in ("innovation", "level", "gradient"):
        np.testing.assert_equal(dataclasses.asdict(mixed.of(quantity)), dataclasses.asdict(alone.of(quantity)))
    assert mixed.notes[0] == (
        "cadences are mixed: 60 chains 1h apart are described, others (40 5m apart, 1 37h apart) are left out: "
        "describe each by itself (--from, --to, --underlying)"
    )
    assert not any("cadences" in note for note in alone.notes)
