"""Laws of the files: they read back without a doubt, hold the truth, say how they were made, repeat bit for bit."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volgrad.data import build, read_quotes
from volgrad.simulate.files import write_market
from volgrad.simulate.listing import DAY_US
from volgrad.simulate.market import BITCOIN, ETHER, exchange_of, surface_at
from volgrad.simulate.plan import Plan, prepare_folder
from volgrad.simulate.quoting import DIRTY, REAL
from volgrad.simulate.table import CHAIN_SCHEMA, TRUTH_SCHEMA

START = datetime(2026, 1, 6, 22, 30, tzinfo=UTC)


def plan(every: timedelta, ticks: int, changes_only: bool = False, quirks=REAL, seed: int = 5) -> Plan:
    more = {"start": START, "every": every, "quirks": quirks, "restless": True, "shock": 0.0}
    return Plan(seed, (replace(BITCOIN, **more), replace(ETHER, **more)), ticks, changes_only, "0")


def written(folder, of):
    prepare_folder(folder, of.files())
    return write_market(folder, of, lambda moments: None)


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Three hours of whole chains around a midnight."""
    folder = tmp_path_factory.mktemp("chains")
    of = plan(timedelta(minutes=5), 36)
    return folder, of, written(folder, of)


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """Two minutes of changes."""
    folder = tmp_path_factory.mktemp("changes")
    of = plan(timedelta(milliseconds=100), 1200, changes_only=True)
    return folder, of, written(folder, of)


def test_the_plan_names_the_files(chains):
    folder, of, done = chains
    assert of.days() == ["2026-01-06", "2026-01-07"]
    assert {path.name for path in folder.iterdir()} == {*of.files(), "market.json"}
    assert {*done.rows, "truth.parquet"} == set(of.files())
    daily = plan(timedelta(days=1), 3)
    assert daily.days() == ["2026-01-06", "2026-01-07", "2026-01-08"]


@pytest.mark.parametrize("quirks", [REAL, DIRTY], ids=["real", "dirty"])
def test_every_file_reads_back_and_no_unit_is_refused(tmp_path, quirks):
    of = plan(timedelta(minutes=30), 8, quirks=quirks)
    done = written(tmp_path, of)
    for name, rows in done.rows.items():
        quotes = read_quotes(tmp_path / name)
        assert quotes.rows == rows
        assert not quotes.quarantined
        assert quotes.sources[0].extra_columns == ()
        built = build(quotes)
        assert not built.refused
        assert not any("doubt" in note or "refuse" in note for note in built.notes)
        assert sum(chain.n_rows for chain in built.chains) > 0.25 * rows
        counts = built.rejections.by_reason()
        assert counts.get("too_short", 0) + counts["itm"] + counts["one_sided"] + counts["below_intrinsic"] > 0
        assert ("crossed" in counts) == (quirks is DIRTY)
    assert sum(len(build(read_quotes(tmp_path / name)).chains) for name in done.rows) == done.chains == 16


def test_the_folder_reads_as_it_is(chains):
    folder, of, done = chains
    quotes = read_quotes(folder)
    assert quotes.rows == sum(done.rows.values())
    built = build(quotes)
    assert len(built.chains) == done.chains == 2 * of.ticks
    start_us = int(START.timestamp() * 1e6)
    assert {chain.ts_us for chain in built.chains} == {start_us + n * of.every_us for n in range(of.ticks)}


def test_columns_are_the_canonical_ones_in_their_units(chains):
    folder, _, done = chains
    table = pa.concat_tables([pq.read_table(folder / name, page_checksum_verification=True) for name in done.rows])
    assert table.schema.names == CHAIN_SCHEMA.names
    numbers = {name: table[name].to_numpy() for name in table.column_names if table[name].type == pa.float64()}
    bid, ask = numbers["bid"], numbers["ask"]
    assert np.nanmin(bid) > 0.0
    assert np.all((numbers["bid_size"] == 0.0) == np.isnan(bid))
    assert np.all((numbers["ask_size"] == 0.0) == np.isnan(ask))
    assert np.all(numbers["bid_iv"][np.isnan(bid)] == 0.0)
    assert np.all(numbers["ask_iv"][np.isnan(ask)] == 0.0)
    assert np.all((numbers["ask_iv"] >= 0.0) & (numbers["ask_iv"] <= 9.99))
    assert 0.3 < np.median(numbers["mark_iv"]) < 1.0
    assert np.all(numbers["mark"] > 0.0)
    assert np.all(numbers["oi"] >= 0.0)
    own, chain = (table[name].cast(pa.int64()).to_numpy() for name in ("ts", "cycle"))
    assert np.all(own <= chain)
    assert np.mean(own < chain) > 0.1
    day = np.datetime64("2026-01-07", "us").astype(np.int64)
    for name in done.rows:
        stamps = pq.read_table(folder / name, columns=["cycle"])["cycle"].cast(pa.int64()).to_numpy()
        assert np.all((stamps >= day) == ("2026-01-07" in name))


def test_volatilities_agree_with_prices(chains):
    folder, _, done = chains
    built = build(read_quotes([folder / name for name in done.rows if "BTC" in name]))
    table = pa.concat_tables([pq.read_table(folder / name) for name in done.rows if "BTC" in name])
    given = {}
    keys = zip(
        *(table[name].cast(pa.int64()).to_pylist() for name in ("cycle", "expiry")),
        *(table[name].to_pylist() for name in ("strike", "cp", "bid_iv", "ask_iv")),
        strict=True,
    )
    for stamp, expiry, strike, side, *vols in keys:
        given[stamp, expiry, strike, side == "C"] = vols
    apart = []
    for chain in built.chains[::7]:
        expiries = chain.expiry_us[chain.expiry_index].tolist()
        rows = zip(expiries, chain.strike_usd.tolist(), chain.is_call.tolist(), strict=True)
        told = np.array([given[chain.ts_us, *row] for row in rows])
        apart.append(np.abs(told - np.stack([chain.bid_iv, chain.ask_iv], axis=1)).ravel())
    assert np.quantile(np.concatenate(apart), 0.95) < 1e-4  # four decimals; rows on another forward are apart by more


def test_the_truth_is_that_of_the_surfaces(chains):
    folder, of, done = chains
    truth = pq.read_table(folder / "truth.parquet", page_checksum_verification=True)
    assert truth.schema.names == TRUTH_SCHEMA.names
    assert truth.column_names[:5] == ["ts", "ccy", "tau_years", "k", "iv"]
    assert truth.num_rows == done.truth_rows
    columns = {name: truth[name].to_numpy() for name in ("tau_years", "k", "iv", "forward")}
    stamps = truth["ts"].cast(pa.int64()).to_numpy()
    expiry = truth["expiry"].cast(pa.int64()).to_numpy()
    np.testing.assert_allclose(columns["tau_years"], (expiry - stamps) / (365 * DAY_US), rtol=1e-12)
    codes = np.array(truth["ccy"].to_pylist())
    for market in of.markets:
        for block in exchange_of(of.seed, market).blocks(of.ticks):
            for tick in (0, block.path.ts_us.size - 1):
                here = (stamps == block.path.ts_us[tick]) & (codes == market.ccy)
                assert here.sum() == 15 * block.contracts.expiry_us.size
                exact = surface_at(block, tick, market).implied_vol(columns["k"][here], columns["tau_years"][here])
                np.testing.assert_allclose(columns["iv"][here], exact, rtol=1e-9)
                known = dict(zip(block.contracts.expiry_us.tolist(), block.forward_usd[tick].tolist(), strict=True))
                assert [known[one] for one in expiry[here].tolist()] == columns["forward"][here].tolist()


def test_changes_are_numbered_updates_in_order_of_time(changes):
    folder, _, done = changes
    told = json.loads((folder / "market.json").read_text())
    assert told["rows"] == "changes"
    for name in done.rows:
        table = pq.read_table(folder / name)
        assert table["sequence"].to_pylist() == list(range(table.num_rows))
        stamps = table["ts"].cast(pa.int64()).to_numpy()
        assert np.all(np.diff(stamps) >= 0)
        assert np.unique(stamps).size > 50
        assert read_quotes(folder / name).sources[0].rows == table.num_rows
    truth = pq.read_table(folder / "truth.parquet", columns=["ts"])["ts"].unique()
    assert len(truth) == 2  # one a minute, the first included


def test_chains_drawn_from_changes_are_the_whole_chains(tmp_path):
    """Each option's latest change is what it quotes."""
    keys = ["ccy", "expiry", "strike", "cp"]
    drawn, whole = {}, {}
    for found, changes_only in ((drawn, True), (whole, False)):
        folder = tmp_path / str(changes_only)
        written(folder, plan(timedelta(seconds=10), 19, changes_only=changes_only))
        table = read_quotes(folder, every="1m").table.select(["cycle", *keys, "bid", "ask"])
        for row in table.to_pylist():
            found.setdefault(row["cycle"], {})[tuple(row[key] for key in keys)] = (row["bid"], row["ask"])
    assert len(drawn) == 4
    for cycle, quotes in drawn.items():
        assert quotes == whole[cycle]


def test_market_json_tells_how_it_was_made(chains):
    folder, of, done = chains
    told = json.loads((folder / "market.json").read_text())
    assert told["complete"]
    assert told["seed"] == of.seed
    assert told["every"] == "5m"
    assert told["quotes"] == sum(done.rows.values()) == sum(told["rows_by_file"].values())
    assert [market["ccy"] for market in told["markets"]] == ["BTC", "ETH"]
    assert set(told["laws"]["regimes"]) == {"calm", "nervous", "stressed"}
    assert told["markets"][0]["quirks"]["crossed"] == 0.0
    for market in told["markets"]:
        assert all(jump["stress"] > 0.0 for jump in market["jumps"])


def test_the_same_plan_gives_the_same_bytes(tmp_path, chains):
    folder, of, _ = chains
    written(tmp_path, of)
    for name in [*of.files(), "market.json"]:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_simulation_takes_the_place_of_another_and_of_nothing_else(tmp_path):
    first, second = plan(timedelta(hours=6), 5), plan(timedelta(hours=6), 1)
    (tmp_path / "notes.txt").write_text("mine")
    written(tmp_path, first)
    written(tmp_path, second)
    assert {path.name for path in tmp_path.iterdir()} == {*second.files(), "market.json", "notes.txt"}
