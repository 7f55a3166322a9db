"""`volgrad fit`: what it writes is what the interface says, and no input, however broken, ends in a traceback."""

import contextlib
import csv
import io
import json
import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import volgrad as front_door
from tests.data.tables import (
    NOW,
    canonical_table,
    chain_rows,
    expiry,
    normalised_price,
    quote,
    table_of,
    ticker_rows,
    volatility,
    years_to,
)
from volgrad.cli import main
from volgrad.simulate.market import BITCOIN, ETHER, simulate

KEYS = ("ts", "ccy", "expiry", "strike", "cp")
RESULTS = ["rejections.json", "report.html", "summary.json", "surfaces.parquet"]
OF_A_CHAIN = {
    "ts", "ccy", "split", "quotes_used", "left_out", "inside", "rmse_vol_points", "iterations", "fit_ms",
    "certificate_ms", "warm", "status", "why", "certificate",
}  # fmt: skip


def written(path, table):
    """The table as a Parquet file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def summary_of(out):
    """`summary.json`, read by a parser that refuses NaN."""

    def refuse(text):
        raise AssertionError(f"{text} in JSON")

    return json.loads((out / "summary.json").read_text(), parse_constant=refuse)


def query_of(rows, **changes):
    """The keys of `rows` as a query."""
    return table_of([{name: row[name] for name in (*KEYS, "split") if name in row} for row in rows], **changes)


def fitted(volgrad, folder, table, *words, code=0):
    """Fit one table, no report; the command's end and its summary."""
    done = volgrad("fit", written(folder / "quotes.parquet", table), "--out", folder / "out", "--no-report", *words)
    assert (done.code, done.err) == (code, ""), done
    return done, summary_of(folder / "out")


@pytest.fixture(scope="module")
def whole(volgrad, tmp_path_factory):
    """Three simulated chains, fitted with everything asked for."""
    folder = tmp_path_factory.mktemp("whole")
    chains = [*simulate(5, 2, BITCOIN), *simulate(5, 1, ETHER)]
    written(folder / "quotes" / "btc.parquet", pa.concat_tables([one.quotes for one in chains[:2]]))
    written(folder / "quotes" / "eth.parquet", chains[2].quotes)
    asked = pa.concat_tables([one.quotes.select(KEYS) for one in chains])
    types = {
        "ts": pa.timestamp("us", "UTC"),
        "ccy": pa.dictionary(pa.int8(), pa.string()),
        "expiry": pa.timestamp("ms", "UTC"),
        "strike": pa.float32(),
        "cp": pa.large_string(),
    }
    columns = {name: asked[name].cast(types[name]) for name in ("cp", "strike", "ts", "expiry", "ccy")}
    written(folder / "query.parquet", pa.table({"row": pa.array(range(asked.num_rows)), **columns}))
    k = np.linspace(-0.5, 0.5, 11)
    grid = pa.table(
        {
            "ts": pa.array(np.full(22, chains[0].ts_us), pa.timestamp("us", "UTC")),
            "ccy": ["BTC"] * 22,
            "tau_years": np.repeat([0.05, 0.4], 11),
            "k": np.tile(k, 2),
            "in_range": [True] * 22,
        }
    )
    written(folder / "grid.parquet", grid)
    done = volgrad(
        "fit", folder / "quotes", "--out", folder / "out", "--predict", folder / "query.parquet",
        "--grid", folder / "grid.parquet", "--steps-csv", folder / "steps" / "steps.csv",
        "--report-chains", "BTC 2026-01-05T09:47", "--report-chains", "DOGE", "--json",
    )  # fmt: skip
    return folder, chains, done


def test_a_whole_run_ends_well_and_tells_machines_what_the_summary_holds(whole):
    folder, _, done = whole
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == summary_of(folder / "out")
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(
        [*RESULTS, "predictions.parquet", "grid.parquet"]
    )


def test_the_summary_has_every_field_of_the_interface(whole):
    folder, chains, _ = whole
    summary = summary_of(folder / "out")
    assert {"version", "command", "wall_s", "compile_s", "threads", "mode", "chains"} <= set(summary)
    assert summary["version"] == front_door.__version__
    assert summary["mode"] == "single"
    assert 0 <= summary["compile_s"] < summary["wall_s"]
    assert [(one["ccy"], one["ts"][:16]) for one in summary["chains"]] == [
        ("BTC", "2026-01-05T09:17"),
        ("ETH", "2026-01-05T09:17"),
        ("BTC", "2026-01-05T09:47"),
    ]
    for chain in summary["chains"]:
        assert set(chain) >= OF_A_CHAIN
        assert chain["split"] is None
        assert chain["status"] == "converged"
        assert chain["why"]
        assert chain["inside"] > 0.9
        assert 0 < chain["rmse_vol_points"] < 5
        assert chain["fit_ms"] > 0
        assert chain["certificate_ms"] > 0
        assert chain["warm"] is False
        assert set(chain["certificate"]) == {"clean", "min_g", "min_calendar", "k_range", "tau_range"}
        assert chain["certificate"]["clean"] is True
    used = sum(chain["quotes_used"] for chain in summary["chains"])
    rejected = json.loads((folder / "out" / "rejections.json").read_text())
    assert {frozenset(one) for one in rejected} == {frozenset({"source", "reason", "count"})}
    left_out = sum(one["count"] for one in rejected)
    assert left_out == sum(sum(chain["left_out"].values()) for chain in summary["chains"])
    assert used + left_out == sum(one.quotes.num_rows for one in chains)


def test_predictions_keep_the_keys_in_value_and_type(whole):
    folder, _, _ = whole
    query, answers = (pq.read_table(folder / name) for name in ("query.parquet", "out/predictions.parquet"))
    assert answers.column_names == [*KEYS, "iv"]
    assert answers.schema.field("iv").type == pa.float64()
    for name in KEYS:
        assert answers.schema.field(name).type == query.schema.field(name).type
        assert answers[name].equals(query[name])
    vol = answers["iv"].to_numpy()
    assert ((vol > 0.1) & (vol < 3.0)).all()
    assert summary_of(folder / "out")["predictions"] == {
        "rows": query.num_rows,
        "answered": query.num_rows,
        "unanswered": {},
    }


def test_the_grid_keeps_its_rows_and_gets_volatilities_near_the_truth(whole):
    folder, chains, _ = whole
    grid, filled = (pq.read_table(folder / name) for name in ("grid.parquet", "out/grid.parquet"))
    assert filled.drop_columns("iv").equals(grid)
    k, years = grid["k"].to_numpy(), grid["tau_years"].to_numpy()
    near = np.abs(k) <= 0.2 * np.sqrt(years / 0.1)
    truth = chains[0].truth.implied_vol(k, years)
    np.testing.assert_allclose(filled["iv"].to_numpy()[near], truth[near], atol=0.02)


def test_surfaces_answer_as_the_command_did_and_as_the_python_front_door_does(whole):
    folder, chains, _ = whole
    surfaces = front_door.load_surfaces(folder / "out" / "surfaces.parquet")
    filled = pq.read_table(folder / "out" / "grid.parquet")
    k, years = filled["k"].to_numpy(), filled["tau_years"].to_numpy()
    loaded = surfaces.implied_vol(chains[0].ts_us, "BTC", k, years)
    np.testing.assert_array_equal(loaded, filled["iv"].to_numpy())
    again = front_door.fit(chains[0].quotes)
    np.testing.assert_array_equal(again.implied_vol(chains[0].ts_us, "BTC", k, years), loaded)


def test_the_steps_tell_each_chains_loss_pass_by_pass(whole):
    folder, _, _ = whole
    with (folder / "steps" / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ts", "ccy", "split", "epoch", "quotes_seen", "loss"]
    of_chain = [row for row in rows if row["ccy"] == "ETH"]
    assert [int(row["epoch"]) for row in of_chain] == list(range(len(of_chain)))
    losses = [float(row["loss"]) for row in of_chain]
    assert losses[-1] < losses[0]


def test_the_report_shows_the_chains_that_were_asked_for(whole):
    folder, _, _ = whole
    page = folder / "out" / "report.html"
    assert page.stat().st_size <= 15e6
    assert "BTC 2026-01-05 09:47" in page.read_text()
    assert any("DOGE" in note for note in summary_of(folder / "out")["notes"])


def test_text_for_people_fits_one_line_a_fact_and_names_every_file(volgrad, tmp_path):
    quotes = written(tmp_path / "q [bold]" / ":cat:.parquet", canonical_table(colour=["red"] * 72))
    out = tmp_path / "out [red]"
    done = volgrad("fit", quotes, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    assert lines[0] == "2 chains: 2 converged"
    assert lines[-1] == f"look at {out / 'report.html'}"
    assert f"written to {out}: surfaces.parquet, summary.json, rejections.json, report.html" in lines
    assert f"note: {quotes}: columns not used: colour" in lines
    assert sorted(path.name for path in out.iterdir()) == RESULTS


def snapshot():
    """A snapshot as the exchange's recorder writes it: percent, instruments, the exchange's own Greeks."""
    rows = chain_rows()
    return table_of(rows, instrument=["BTC-X"] * len(rows), delta=[0.5] * len(rows), mark_iv=[65.0] * len(rows))


def ticker_query():
    return query_of(chain_rows())


@pytest.mark.parametrize(
    ("quotes", "query"),
    [
        (canonical_table, lambda: query_of(chain_rows() + chain_rows("ETH"))),
        (snapshot, snapshot),
        (lambda: pa.Table.from_pylist(ticker_rows()), ticker_query),
        (lambda: pa.Table.from_pylist(ticker_rows()), lambda: ticker_query().append_column("cycle", [[NOW] * 36])),
    ],
    ids=["canonical", "snapshot", "5-minute", "5-minute, by cycle"],
)
def test_every_kind_of_source_is_answered_at_its_own_quotes(volgrad, tmp_path, quotes, query):
    asked = query()
    _, summary = fitted(volgrad, tmp_path, quotes(), "--predict", written(tmp_path / "query.parquet", asked))
    assert summary["predictions"]["unanswered"] == {}
    answers = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert answers.select(KEYS).equals(asked.select(KEYS))
    for row in answers.to_pylist():
        forward = {"BTC": 90_000.0, "ETH": 3_000.0}[row["ccy"]]
        expected = volatility(math.log(row["strike"] / forward), years_to(row["expiry"]))
        assert row["iv"] == pytest.approx(expected, abs=0.01)


def split_rows(split, shift):
    """A chain of a prepared file, quoted `shift` above the known volatility."""
    rows = chain_rows(days=(24, 80))
    for row in rows:
        years, k = years_to(row["expiry"]), math.log(row["strike"] / row["underlying"])
        row |= {"split": split, "bucket": "main", "forward": row["underlying"], "tau_years": years, "log_moneyness": k}
        for name, side in (("bid", -0.005), ("ask", 0.005)):
            total = (float(volatility(k, years)) + shift + side) * math.sqrt(years)
            row[name] = normalised_price(k, total, row["cp"] == "C")
    return rows


def test_each_split_is_a_chain_of_its_own_and_the_grid_is_answered_by_interp(volgrad, tmp_path):
    rows = split_rows("full", 0.0) + split_rows("interp", 0.1)
    query = written(tmp_path / "query.parquet", query_of(rows))
    years = years_to(expiry(24))
    grid = pa.table({"ts": [NOW], "ccy": ["BTC"], "tau_years": [years], "k": [0.0]})
    words = ("--predict", query, "--grid", written(tmp_path / "grid.parquet", grid))
    _, summary = fitted(volgrad, tmp_path, pa.Table.from_pylist(rows), *words)
    assert [chain["split"] for chain in summary["chains"]] == ["full", "interp"]
    answers = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert answers.column_names == ["split", *KEYS, "iv"]
    vol = answers["iv"].to_numpy()
    np.testing.assert_allclose(vol[len(vol) // 2 :] - vol[: len(vol) // 2], 0.1, atol=0.01)
    at_the_money = float(volatility(0.0, years))
    assert pq.read_table(tmp_path / "out" / "grid.parquet")["iv"][0].as_py() == pytest.approx(
        at_the_money + 0.1, abs=0.01
    )
    surfaces = front_door.load_surfaces(tmp_path / "out")
    assert surfaces.implied_vol(NOW, "BTC", 0.0, years) == pytest.approx(at_the_money + 0.1, abs=0.01)
    assert surfaces.implied_vol(NOW, "BTC", 0.0, years, split="full") == pytest.approx(at_the_money, abs=0.01)


def test_broken_and_foreign_files_are_named_and_the_others_are_fitted(volgrad, tmp_path):
    good = written(tmp_path / "in" / "good.parquet", canonical_table())
    content = good.read_bytes()
    broken = {
        "cut.parquet": content[: len(content) * 2 // 3],
        "prices.csv": b"date,open,high,low,close\n2026-01-01,1,2,0,1\n",
        "list.parquet": b'[{"instrument_name": "BTC-27MAR26-90000-C"}]',
        "pickled.parquet": b"\x80\x04cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        "empty.csv": b"",
    }
    for name, data in broken.items():
        (tmp_path / "in" / name).write_bytes(data)
    done = volgrad("fit", tmp_path / "in", "--out", tmp_path / "out")
    assert done.code == 0
    summary = summary_of(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert sorted(Path(one["source"]).name for one in summary["quarantined"]) == sorted(broken)
    for name in broken:
        assert f"file set aside: {tmp_path / 'in' / name}: " in done.out
        assert name in page
    assert len(summary["chains"]) == 2
    alone = volgrad("fit", good, "--out", tmp_path / "alone", "--no-report")
    assert alone.code == 0
    left, right = (pq.read_table(tmp_path / name / "surfaces.parquet") for name in ("out", "alone"))
    assert left.equals(right)


def changed(**changes):
    """The small table with columns changed, as a Parquet file's content."""
    return lambda path: pq.write_table(canonical_table(**changes), path)


def without(name):
    return lambda path: pq.write_table(canonical_table(drop=(name,)), path)


def renamed(old, new):
    def write(path):
        table = canonical_table()
        pq.write_table(table.rename_columns([new if name == old else name for name in table.column_names]), path)

    return write


def all_dollars(path):
    pq.write_table(table_of(chain_rows(linear=True)), path)


def all_of(**how):
    """Rows of one expiry, all with the same fault."""
    return lambda path: pq.write_table(table_of([quote(ratio=r) | how for r in (0.8, 0.9, 1.1, 1.2)]), path)


@pytest.mark.parametrize(
    ("write", "words", "sentence"),
    [
        (lambda path: path.write_bytes(b""), [], "the file is empty (0 bytes)"),
        (lambda path: path.write_bytes(b"PAR1" + b"\0" * 99), [], "damaged or cut short"),
        (lambda path: path.write_bytes(b"{}" * 9), [], "JSON that breaks off or is damaged"),
        (lambda path: pq.write_table(canonical_table().slice(0, 0), path), [], "a header but no row of quotes"),
        (without("bid"), [], "needs the column bid"),
        (renamed("ask", "ask_price"), [], "'ask' is perhaps 'ask_price'"),
        (changed(strike=lambda row: str(row["strike"]) + "x"), [], "strike"),
        (changed(mark_iv=lambda row: 65.0), [], "a canonical source holds volatilities as a fraction"),
        (changed(mark_iv=lambda row: 0.65, instrument=lambda row: "x", index=lambda row: 9e4), [], "multiply"),
        (changed(settlement=lambda row: "linear"), [], "not dollars; give settlement = 'inverse'"),
        (all_dollars, [], "give a column settlement = 'linear'"),
        (changed(), ["--from", "2027-01-01"], "no row is left from 2027-01-01"),
        (changed(), ["--underlying", "DOGE"], "no row is left for DOGE; there is BTC, ETH"),
        (all_of(expiry=NOW - timedelta(days=1)), [], "none of 4 quotes is usable: 4 expired"),
        (all_of(expiry=NOW + timedelta(seconds=28)), [], "none of 4 quotes is usable: 4 too_short"),
        (all_of(bid=None), [], "none of 4 quotes is usable: 4 one_sided"),
        (all_of(bid=0.0, ask=math.nan), [], "none of 4 quotes is usable: 4 no_quote"),
        (all_of(strike=-1.0), [], "none of 4 quotes is usable: 4 bad_strike"),
        (all_of(ts=None), [], "none of 4 rows has both a time stamp (ts) and an underlying (ccy)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_input_that_cannot_be_fitted_is_refused_in_a_sentence_that_names_the_file(
    volgrad, tmp_path, write, words, sentence
):
    path = tmp_path / "quotes.parquet"
    write(path)
    done = volgrad("fit", path, "--out", tmp_path / "out", *words)
    assert done.code == 2
    assert done.err.startswith("volgrad: ")
    assert len(done.err.splitlines()) == 1
    assert str(path) in done.err
    assert sentence in done.err
    assert done.out == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_a_csv_with_a_header_only_is_refused(volgrad, tmp_path):
    path = tmp_path / "quotes.csv"
    path.write_text("ts,ccy,expiry,strike,cp,bid,ask\n")
    done = volgrad("fit", path, "--out", tmp_path / "out")
    assert (done.code, done.err) == (2, f"volgrad: {path}: a header but no row of quotes; nothing to fit.\n")


def with_row(**changes):
    """The small chain, and one more row 1.05 of the forward away with these changes."""
    return [*chain_rows(), quote(ratio=1.05) | changes]


@pytest.mark.parametrize(
    ("rows", "reason", "count"),
    [
        (with_row(expiry=NOW - timedelta(days=1)), "expired", 1),
        (with_row(expiry=NOW), "expired", 1),
        (with_row(expiry=NOW + timedelta(seconds=28)), "too_short", 1),
        (with_row(bid=None), "one_sided", 1),
        (with_row(ask=0.0), "one_sided", 1),
        (with_row(bid=math.nan, ask=math.nan), "no_quote", 1),
        (with_row(bid=0.2), "crossed", 1),
        (with_row(bid=0.05, ask=0.05), "locked", 1),
        (with_row(bid=-0.01), "bad_price", 1),
        (with_row(strike=math.nan), "bad_strike", 1),
        (with_row(cp="X"), "bad_type", 1),
        (with_row(settlement="gold"), "bad_settlement", 1),
        (with_row(ask=1.5), "above_bound", 1),
        ([*chain_rows(), *chain_rows()[:5]], "duplicate", 5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_row_is_counted_by_its_reason_and_the_rest_is_fitted(volgrad, tmp_path, rows, reason, count):
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    _, summary = fitted(volgrad, tmp_path, table)
    assert sum(one["left_out"].get(reason, 0) for one in summary["chains"]) == count
    assert {"source": str(tmp_path / "quotes.parquet"), "reason": reason, "count": count} in summary["rejections"]
    usable = [one for one in summary["chains"] if one["status"] == "converged"]
    assert len(usable) == 1
    assert sum(one["quotes_used"] + sum(one["left_out"].values()) for one in summary["chains"]) == len(rows)


def test_volatilities_that_are_none_are_counted(volgrad, tmp_path):
    rows = chain_rows()
    bad = [math.nan, 0.0, -0.5, 9.99]
    ask_iv = [*bad, *[0.65] * (len(rows) - len(bad))]
    _, summary = fitted(volgrad, tmp_path, table_of(rows, ask_iv=ask_iv))
    assert summary["sources"][0]["bad_values"] == {"ask_iv": {"nan": 1, "negative": 1, "zero": 1, "cap": 1}}
    assert summary["chains"][0]["inside"] > 0.9


def test_expiries_without_a_usable_quote_are_named_and_the_rest_is_fitted(volgrad, tmp_path):
    rows = [row | {"bid": None} if row["expiry"] == expiry(24) else row for row in chain_rows()]
    query = written(tmp_path / "query.parquet", query_of(rows))
    done, summary = fitted(volgrad, tmp_path, table_of(rows, oi=[0.0] * len(rows)), "--predict", query)
    assert [one["expiry"] for one in summary["left_out_expiries"]] == ["2026-01-30T08:00:00.000000Z"]
    assert "expiry left out: BTC 2026-01-06T09:18:35: 2026-01-30T08:00: 12 one_sided" in done.out
    assert summary["chains"][0]["status"] == "converged"
    assert np.isfinite(pq.read_table(tmp_path / "out" / "predictions.parquet")["iv"].to_numpy()).all()


@pytest.mark.parametrize("ratios", [(0.9, 1.05, 1.2), (1.1,), (0.6, 0.62, 0.64)], ids=["three", "one", "far"])
def test_an_expiry_with_few_quotes_leans_on_the_prior(volgrad, tmp_path, ratios):
    rows = chain_rows(days=(3, 80)) + [quote(days=24, ratio=ratio) for ratio in ratios]
    grid = pa.table({"ts": [NOW] * 41, "ccy": ["BTC"] * 41, "tau_years": [23 / 365] * 41, "k": np.linspace(-1, 1, 41)})
    _, summary = fitted(volgrad, tmp_path, table_of(rows), "--grid", written(tmp_path / "grid.parquet", grid))
    assert summary["chains"][0]["certificate"]["clean"] is True
    vol = pq.read_table(tmp_path / "out" / "grid.parquet")["iv"].to_numpy()
    assert ((vol > 0.2) & (vol < 2.0)).all()


def test_three_quotes_are_a_chain(volgrad, tmp_path):
    rows = [quote(ratio=ratio) for ratio in (0.9, 1.02, 1.1)]
    _, summary = fitted(volgrad, tmp_path, table_of(rows))
    assert summary["chains"][0]["quotes_used"] == 3
    assert summary["chains"][0]["status"] in ("converged", "stalled")
    assert summary["chains"][0]["certificate"]["clean"] is True


def test_a_terminal_is_told_that_programs_are_compiled_first(volgrad, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    quotes = written(tmp_path / "q.parquet", canonical_table())
    with contextlib.redirect_stderr(terminal := Terminal()), contextlib.redirect_stdout(io.StringIO()):
        assert main(["fit", str(quotes), "--out", str(tmp_path / "out"), "--no-report"]) == 0
    first, later = terminal.getvalue().find("compiling on first use"), terminal.getvalue().find("fitting chains")
    assert 0 <= first < later


def test_forwards_that_disagree_within_an_expiry_become_one_by_a_rule_that_is_told(volgrad, tmp_path):
    table = canonical_table(underlying=lambda row: row["underlying"] * (1.002 if row["cp"] == "C" else 1.0))
    done, summary = fitted(volgrad, tmp_path, table)
    assert "note: forward: " in done.out
    assert any("give more than one" in note for note in summary["notes"])
    forwards = pq.read_table(tmp_path / "out" / "surfaces.parquet").to_pylist()
    assert len({(row["ccy"], row["expiry"]) for row in forwards}) == len(forwards)


def test_linear_and_inverse_options_of_one_volatility_give_one_surface(volgrad, tmp_path):
    both = [row | {"settlement": "inverse"} for row in chain_rows()]
    both += [row | {"settlement": "linear"} for row in chain_rows(linear=True)]
    _, summary = fitted(volgrad, tmp_path, table_of(both))
    assert [chain["settlement"] for chain in summary["chains"]] == ["inverse", "linear"]
    rows = pq.read_table(tmp_path / "out" / "surfaces.parquet").to_pylist()
    assert [row["settlement"] for row in rows] == ["inverse"] * 3 + ["linear"] * 3
    for inverse, linear in zip(rows[:3], rows[3:], strict=True):
        np.testing.assert_allclose(inverse["parameters"], linear["parameters"], rtol=1e-5)


def test_a_chain_without_a_usable_quote_is_told_and_the_others_are_fitted(volgrad, tmp_path):
    rows = chain_rows() + [row | {"ask": None} for row in chain_rows("ETH")]
    query = written(tmp_path / "query.parquet", query_of(rows))
    done, summary = fitted(volgrad, tmp_path, table_of(rows), "--predict", query)
    assert done.out.startswith("2 chains: 1 converged, 1 refused\n")
    assert "refused: ETH 2026-01-06T09:18:35: none of 36 quotes is usable: 36 one_sided (bid or ask" in done.out
    assert summary["chains"][1]["certificate"] is None
    assert summary["predictions"] == {"rows": 72, "answered": 36, "unanswered": {"chain_refused": 36}}


def test_a_question_about_another_chain_is_answered_by_nan_with_its_reason(volgrad, tmp_path):
    rows = [
        quote(),
        quote(now=NOW + timedelta(minutes=5)),
        quote() | {"ccy": "DOGE"},
        quote() | {"strike": 0.0},
        quote() | {"expiry": NOW},
    ]
    query = written(tmp_path / "query.parquet", query_of(rows))
    done, summary = fitted(volgrad, tmp_path, canonical_table(), "--predict", query)
    assert summary["predictions"]["unanswered"] == {"no_chain": 2, "bad_strike": 1, "expired": 1}
    vol = pq.read_table(tmp_path / "out" / "predictions.parquet")["iv"].to_numpy()
    assert np.isfinite(vol).tolist() == [True, False, False, False, False]
    assert "predictions: 1 of 5 rows answered" in done.out
    assert "2 not answered, no_chain: no chain of that time, underlying and split among the quotes" in done.out


WRONG = [
    (["--model", "heston"], 'for --model. Choose from: "local-vol", "surface-net", "essvi", "ssvi", "svi".'),
    (["--model", "essvi", "--history", "2"], "history = 2 has no use with model essvi"),
    (["--model", "local-vo"], 'Did you mean "local-vol"?'),
    (["--optimizer", "adma"], 'Did you mean "adam"?'),
    (["--bach", "3"], "Did you mean --batch?"),
    (["--weights", "run"], "weights are of model surface-net: local-vol has none"),
    (["--model", "surface-net", "--weights", "run"], "run: no such weights"),
    (["--batch", "some"], "--batch takes a number of quotes or auto, not 'some'"),
    (["--batch", "0"], "batch must be a whole number from 1 on, not 0"),
    (["--history", "-1"], "history must be a whole number from 0 on, not -1"),
    (["--history", "one"], "--history"),
    (["--threads", "0"], "threads must be 1 or more, not 0"),
    (["--seed", "-1"], "--seed is -1: give a whole number from 0 to"),
    (["--seed", "9" * 30], "give a whole number from 0 to"),
    (["--from", "yesterday"], "'yesterday' is no time; write 2026-01-31"),
    (["--from", "2026-02-01", "--to", "2026-01-01"], "the window is empty"),
    (["--no-report", "--report-chains", "BTC"], "leave --no-report out"),
    (["--predict", "nowhere.parquet"], "nowhere.parquet: no such file or directory"),
    (["--grid", __file__], "test_fit.py: no file of quotes"),
    (["--steps-csv", "."], "--steps-csv . is a folder: give a file"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[" ".join(words)[:40] for words, _ in WRONG])
def test_wrong_options_are_refused_before_any_work(volgrad, tmp_path, words, sentence):
    quotes = written(tmp_path / "quotes.parquet", canonical_table())
    done = volgrad("fit", quotes, "--out", tmp_path / "out", *words)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_missing_place_or_source_is_refused(volgrad, tmp_path):
    assert "--out" in volgrad("fit", "quotes.parquet").err
    assert "QUOTES" in volgrad("fit", "--out", tmp_path).err
    assert "nowhere.parquet: no such file" in volgrad("fit", "nowhere.parquet", "--out", tmp_path).err
    assert "no data file in this directory" in volgrad("fit", tmp_path, "--out", tmp_path / "out").err


def test_results_never_replace_an_input(volgrad, tmp_path):
    quotes = written(tmp_path / "in" / "quotes.parquet", canonical_table())
    grid = pa.table({"ts": [NOW], "ccy": ["BTC"], "tau_years": [0.1], "k": [0.0]})
    asked = written(tmp_path / "in" / "grid.parquet", grid)
    for words in (["--out", asked.parent, "--grid", asked], ["--out", tmp_path / "out", "--steps-csv", quotes]):
        done = volgrad("fit", quotes, *words)
        assert done.code == 2
        assert "is an input and would be overwritten" in done.err
    assert pq.read_table(asked).equals(grid)


@pytest.mark.parametrize("place", ["quotes.parquet", "quotes.parquet/out"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(volgrad, tmp_path, place):
    quotes = written(tmp_path / "quotes.parquet", canonical_table())
    done = volgrad("fit", quotes, "--out", tmp_path / place)
    assert done.code == 2
    assert f"--out {tmp_path / place}" in done.err


def test_results_beside_the_quotes_are_no_quotes_the_next_time(volgrad, tmp_path):
    written(tmp_path / "quotes.parquet", canonical_table())
    query = written(tmp_path / "ask" / "query.parquet", query_of(chain_rows()))
    (tmp_path / "ask").rename(tmp_path / ".ask")
    query = tmp_path / ".ask" / query.name
    texts = [
        volgrad("fit", tmp_path, "--out", tmp_path / "out", "--predict", query, "--no-report").out for _ in range(2)
    ]
    assert [text.splitlines()[:3] for text in texts] == [texts[0].splitlines()[:3]] * 2
    assert "set aside" not in texts[1]


def test_results_of_an_earlier_run_are_not_passed_off_as_of_this_one(volgrad, tmp_path):
    query = written(tmp_path / "query.parquet", query_of(chain_rows()))
    first, _ = fitted(volgrad, tmp_path, canonical_table(), "--predict", query)
    second, _ = fitted(volgrad, tmp_path, canonical_table())
    assert "earlier run" not in first.out
    assert "left there by an earlier run, not of this one: predictions.parquet" in second.out


@pytest.fixture(scope="module")
def following(tmp_path_factory):
    """Two small chains of one underlying, half an hour apart."""
    rows = chain_rows() + chain_rows(now=NOW + timedelta(minutes=30))
    folder = tmp_path_factory.mktemp("following")
    return written(folder / "quotes.parquet", table_of(rows)), written(folder / "query.parquet", query_of(rows))


@pytest.mark.parametrize(
    "words",
    [
        ["--warm"],
        ["--history", "1"],
        ["--warm", "--history", "2"],
        ["--optimizer", "adam", "--batch", "8"],
        ["--optimizer", "sgd"],
        ["--optimizer", "lm", "--batch", "1000000"],
    ],
    ids=" ".join,
)
def test_every_way_to_fit_ends_with_certified_surfaces_near_the_quotes(volgrad, tmp_path, following, words):
    quotes, query = following
    out = tmp_path / "out"
    done = volgrad("fit", quotes, "--out", out, "--predict", query, "--no-report", *words)
    assert (done.code, done.err) == (0, "")
    summary = summary_of(out)
    assert [chain["warm"] for chain in summary["chains"]] == [False, "--warm" in words]
    for chain in summary["chains"]:
        assert chain["status"] in ("converged", "stalled")
        assert chain["certificate"]["clean"] is True
    for row in pq.read_table(out / "predictions.parquet").to_pylist():
        expected = volatility(math.log(row["strike"] / 90_000.0), years_to(row["expiry"], row["ts"]))
        assert row["iv"] == pytest.approx(expected, abs=0.05)


def test_a_seed_gives_the_same_bits_again_and_another_seed_others(volgrad, tmp_path, following):
    quotes, query = following
    vol = {}
    for run, seed in enumerate((7, 7, 8)):
        words = ("--optimizer", "adam", "--batch", "8", "--seed", seed, "--no-report", "--predict", query)
        assert volgrad("fit", quotes, "--out", tmp_path / str(run), *words).code == 0
        vol[run] = pq.read_table(tmp_path / str(run) / "predictions.parquet")["iv"].to_numpy()
    np.testing.assert_array_equal(vol[0], vol[1])
    assert not np.array_equal(vol[0], vol[2])
    np.testing.assert_allclose(vol[0], vol[2], atol=0.02)


def test_a_process_of_its_own_with_one_thread_and_the_environment(volgrad, tmp_path, following):
    quotes, query = following
    environment = os.environ | {"VOLGRAD_OUT": str(tmp_path / "named"), "VOLGRAD_REPORT": "false"}
    command = [sys.executable, "-m", "volgrad", "fit", quotes, "--threads", "1", "--predict", query]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = summary_of(tmp_path / "named")
    assert summary["threads"] == 1
    assert summary["command"] == ["volgrad", *map(str, command[3:])]
    assert not (tmp_path / "named" / "report.html").exists()
    assert volgrad("fit", quotes, "--out", tmp_path / "here", "--no-report", "--predict", query).code == 0
    vol = [pq.read_table(tmp_path / name / "predictions.parquet")["iv"].to_numpy() for name in ("named", "here")]
    np.testing.assert_allclose(*vol, atol=1e-5)  # a thousandth of a vol point


def test_a_flag_wins_over_the_environment(volgrad, tmp_path, monkeypatch):
    quotes = written(tmp_path / "quotes.parquet", canonical_table())
    monkeypatch.setenv("VOLGRAD_OPTIMIZER", "adma")
    refused = volgrad("fit", quotes, "--out", tmp_path / "out", "--no-report")
    assert refused.code == 2
    assert "VOLGRAD_OPTIMIZER" in refused.err
    assert volgrad("fit", quotes, "--out", tmp_path / "out", "--no-report", "--optimizer", "lm").code == 0


def test_machines_are_told_of_a_refusal_in_json(volgrad, tmp_path):
    done = volgrad("fit", "nowhere.parquet", "--out", tmp_path, "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"]["exit_code"] == 2


def test_a_recorded_snapshot_is_fitted_and_answered(volgrad, shared_data, tmp_path):
    source = shared_data / "deribit_snap_202605.parquet"
    window = ("--from", "2026-05-03T06:00", "--to", "2026-05-03T07:00", "--underlying", "btc")
    query = pq.read_table(source, columns=list(KEYS))
    query = query.filter(pa.compute.equal(query["ts"], query["ts"][0])).slice(0, 50)
    words = ("--predict", written(tmp_path / "query.parquet", query), "--no-report")
    done = volgrad("fit", source, "--out", tmp_path / "out", *window, *words)
    assert (done.code, done.err) == (0, "")
    chain = summary_of(tmp_path / "out")["chains"][0]
    assert chain["inside"] > 0.95
    answers = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert answers.select(KEYS).equals(query)
    # the query is about the first snapshot of the month, which is outside the window
    assert summary_of(tmp_path / "out")["predictions"]["unanswered"] == {"no_chain": query.num_rows}


# Kinds of surfaces


@pytest.mark.parametrize("model", ["essvi", "ssvi", "svi"])
def test_every_kind_of_surface_is_fitted_written_and_read_back(volgrad, tmp_path, model):
    table = next(iter(simulate(5, 1, BITCOIN))).quotes
    path = written(tmp_path / "quotes.parquet", table)
    done = volgrad("fit", path, "--out", tmp_path / "out", "--model", model)
    assert (done.code, done.err) == (0, ""), done
    told = summary_of(tmp_path / "out")
    assert told["model"] == model
    chain = told["chains"][0]
    assert chain["model"] == model
    clean = chain["certificate"]["clean"]
    assert clean or model == "svi"
    assert f"free of arbitrage: {int(clean)} of 1 published surface" in done.out
    said = [note for note in told["notes"] if "raw SVI" in note]
    assert len(said) == (0 if clean else 1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("all 1 certificates are clean" in page) == clean
    surfaces = front_door.load_surfaces(tmp_path / "out")
    again = front_door.fit(table, model=model)
    key = next(iter(surfaces))[:2]
    assert surfaces.implied_vol(*key, 0.1, 0.1) == again.implied_vol(*key, 0.1, 0.1)
