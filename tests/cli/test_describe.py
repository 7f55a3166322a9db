"""`volgrad describe`: a table, two files, and no input that ends in a traceback."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.tasks.described import ROWS, market, smooth
from tests.tasks.test_description import shocks


@pytest.fixture(scope="module")
def quotes(tmp_path_factory):
    path = tmp_path_factory.mktemp("quotes") / "january.parquet"
    pq.write_table(market(shocks(1, 40)), path)
    return path


def told(path):
    """A JSON file, read by a parser that refuses NaN."""

    def refuse(text):
        raise AssertionError(f"{text} in JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_it_prints_a_table_and_writes_a_page_and_its_numbers(volgrad, quotes, tmp_path):
    done = volgrad("describe", quotes, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert f"quotes: {40 * ROWS:,} used" in done.out
    for text in ("innovation", "surprise", "level", "gradient", "design", "unchanged", "describe.html"):
        assert text in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["describe.html", "describe.json"]
    found = told(tmp_path / "out" / "describe.json")
    assert found["inventory"]["used"] == 40 * ROWS
    assert {one["quantity"] for one in found["likeness"]} == {
        "innovation", "surprise", "level", "gradient", "residual",
    }  # fmt: skip
    assert found["command"][0] == "volgrad"


def test_json_is_what_the_file_holds(volgrad, quotes, tmp_path):
    done = volgrad("describe", quotes, "--out", tmp_path, "--json", "--no-report")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == told(tmp_path / "describe.json")
    assert [path.name for path in tmp_path.iterdir()] == ["describe.json"]


def test_times_and_underlyings_are_chosen(volgrad, tmp_path):
    for ccy in ("BTC", "ETH"):
        pq.write_table(market(smooth(8), ccy=ccy), tmp_path / f"{ccy}.parquet")
    words = ("--underlying", "eth", "--from", "2026-01-06T00:15", "--to", "2026-01-06T01:00")
    done = volgrad("describe", tmp_path, "--out", tmp_path / "out", "--no-report", "--json", *words)
    found = json.loads(done.out)
    assert [one["underlying"] for one in found["inventory"]["underlyings"]] == ["ETH"]
    assert found["inventory"]["used"] == 4 * ROWS
    assert found["inventory"]["rows_elsewhere"] == 12 * ROWS


def test_a_store_is_described_like_its_quotes(volgrad, quotes, tmp_path):
    program = [sys.executable, "-m", "volgrad", "ingest", str(quotes), "--out", str(tmp_path / "store")]
    subprocess.run(program, check=True, capture_output=True)  # it limits its threads, which this process cannot
    words = ("--no-report", "--json", "--out", tmp_path / "out")
    file, store = (json.loads(volgrad("describe", one, *words).out) for one in (quotes, tmp_path / "store"))
    for part in ("likeness", "staleness", "batching", "neighbours"):
        assert file[part] == store[part]


def test_one_chain_is_described_with_what_can_be_said(volgrad, tmp_path):
    pq.write_table(market(smooth(1)), tmp_path / "one.parquet")
    done = volgrad("describe", tmp_path / "one.parquet", "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert "one chain" in done.out
    assert "nothing to compare it with" in done.out
    assert "nan" not in done.out


def test_the_folder_of_results_is_made_up_where_none_is_given(volgrad, quotes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert volgrad("describe", quotes, "--no-report").code == 0
    assert (tmp_path / "volgrad-describe" / "describe.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("missing.parquet",), "missing.parquet"),
        ((), "needs QUOTES"),
        (("january.parquet", "--seed", "-1"), "--seed is -1"),
        (("january.parquet", "--from", "2030-01-01"), "no row is left"),
        (("january.parquet", "--out", "january.parquet"), "is a file"),
        ((".", "--out", "."), "is one of the quotes"),
        (("january.parquet", "--colour"), "--colour"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(volgrad, quotes, monkeypatch, words, says):
    monkeypatch.chdir(quotes.parent)
    done = volgrad("describe", *words)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
