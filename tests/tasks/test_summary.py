"""The summary accounts for every row that was read, and every chain."""

import json

import msgspec
import pyarrow.compute as pc
import pytest

import volgrad
from tests.data.tables import canonical_table, chain_rows, table_of
from volgrad.data import build, read_quotes
from volgrad.simulate.market import simulate
from volgrad.tasks.fit import FitOptions, Fitter
from volgrad.tasks.summary import chain_summary, fit_summary, stamp_text


def summarised(*tables):
    quotes = read_quotes(list(tables))
    built = build(quotes)
    fitter = Fitter(FitOptions())
    return fit_summary([fitter.fit(chain) for chain in built.chains], built, quotes, {"wall_s": 1.0})


@pytest.fixture(scope="module")
def summary():
    """A good chain and one without a usable quote, with a column that nobody asked for."""
    rows = chain_rows() + [row | {"ask": None} for row in chain_rows("ETH")]
    return summarised(table_of(rows, colour=["red"] * len(rows)))


def test_rows_used_and_left_out_are_all_the_rows(summary):
    used = sum(chain["quotes_used"] for chain in summary["chains"])
    left_out = sum(sum(chain["left_out"].values()) for chain in summary["chains"])
    assert used + left_out == summary["sources"][0]["rows"] == 72
    assert sum(one["count"] for one in summary["rejections"]) == left_out


def test_a_refused_chain_has_the_fields_of_a_fitted_one(summary):
    good, refused = summary["chains"]
    assert set(good) == set(refused)
    assert (good["status"], refused["status"]) == ("converged", "refused")
    assert "one_sided" in refused["why"]
    assert refused["certificate"] is None


def test_what_was_ignored_is_listed(summary):
    assert summary["sources"][0]["ignored_columns"] == ["colour"]
    assert "table: columns not used: colour" in summary["notes"]
    assert {one["ccy"] for one in summary["left_out_expiries"]} == {"ETH"}


def test_what_the_run_knows_is_kept(summary):
    assert summary["wall_s"] == 1.0
    assert summary["version"] == volgrad.__version__
    assert summary["mode"] == "single"


def test_it_is_plain_json(summary):
    def refuse(text):
        raise AssertionError(f"{text} in JSON")

    json.loads(msgspec.json.encode(summary), parse_constant=refuse)


def test_files_that_were_set_aside_are_named(tmp_path):
    (tmp_path / "prices.csv").write_text("open,close\n1,2\n")
    told = summarised(canonical_table(), tmp_path / "prices.csv")
    assert [one["source"] for one in told["quarantined"]] == [str(tmp_path / "prices.csv")]
    assert len(told["sources"]) == 1


def test_an_entry_is_named_by_time_underlying_and_split(summary):
    quotes = read_quotes(canonical_table())
    fitted = Fitter(FitOptions()).fit(build(quotes).chains[0])
    entry = chain_summary(fitted)
    assert (entry["ts"], entry["ccy"], entry["split"]) == (stamp_text(fitted.chain.ts_us), "BTC", None)
    assert entry["inside"] == fitted.inside


def test_quotes_that_are_hardly_met_are_doubted():
    """Premiums in percent still make a clean surface; a user must be told that it means nothing."""
    market = next(iter(simulate(seed=3, chains=1))).quotes
    percent = market.set_column(market.column_names.index("bid"), "bid", pc.multiply(market["bid"], 100.0))
    percent = percent.set_column(percent.column_names.index("ask"), "ask", pc.multiply(percent["ask"], 100.0))
    assert not any("do not trust" in note for note in volgrad.fit(market).summary["notes"])
    assert any("do not trust" in note for note in volgrad.fit(percent).summary["notes"])
