"""`volgrad simulate`: files that others read, the same again for the same seed, and sentences for what cannot be."""

import json

import pyarrow.parquet as pq
import pytest

from volgrad.data import build, read_quotes


@pytest.fixture(scope="module")
def made(volgrad, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    words = ("--days", "0.02", "--every", "5m", "--underlying", "btc", "--seed", "3", "--json")
    return folder, words, volgrad("simulate", "--out", folder, *words)


def test_json_tells_what_the_files_hold(made):
    folder, _, done = made
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert sorted(told["files"]) == sorted(path.name for path in folder.iterdir())
    assert told["moments"] == 6  # 28.8 minutes, the first included
    assert told["rows"] == "chains"
    quotes = read_quotes(folder)
    assert quotes.rows == told["quotes"]
    assert len(build(quotes).chains) == told["moments"]
    assert pq.read_metadata(folder / "truth.parquet").num_rows == told["truth_rows"]
    assert json.loads((folder / "market.json").read_text())["seed"] == 3


def test_the_same_seed_gives_the_same_files_and_another_does_not(volgrad, made, tmp_path):
    folder, words, _ = made
    assert volgrad("simulate", "--out", tmp_path / "again", *words).code == 0
    name = "quotes-BTC-2026-01-05.parquet"
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    other = [word if word != "3" else "4" for word in words]
    assert volgrad("simulate", "--out", tmp_path / "other", *other).code == 0
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_text_says_how_many_and_where(volgrad, tmp_path):
    done = volgrad("simulate", "--out", tmp_path, "--days", "0.001", "--every", "1s", "--start", "2026-03-01T23:59")
    assert (done.code, done.err) == (0, "")
    assert "changed quotes of BTC and ETH at 87 moments, 1s apart" in done.out
    assert "truth.parquet" in done.out
    days = {path.name[11:21] for path in tmp_path.glob("quotes-*")}
    assert days == {"2026-03-01", "2026-03-02"}


@pytest.mark.parametrize("words", [("--dirty",), ("--calm",), ("--rows", "changes")], ids=" ".join)
def test_flags_reach_the_market(volgrad, tmp_path, words):
    done = volgrad("simulate", "--out", tmp_path, "--days", "0.04", "--every", "10m", "--underlying", "ETH", *words)
    assert done.code == 0
    told = json.loads((tmp_path / "market.json").read_text())
    (market,) = told["markets"]
    assert (market["quirks"]["crossed"] > 0.0) == ("--dirty" in words)
    assert market["restless"] == ("--calm" not in words)
    assert told["rows"] == ("changes" if "changes" in words else "chains")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--every", "5"], "--every is '5': write a number and a unit"),
        (["--every", "50ms"], "--every is 50ms: give a length from 100ms to 1d."),
        (["--every", "2d"], "--every is 2d: give a length from 100ms to 1d."),
        (["--days", "0"], "--days is 0: give a number above 0"),
        (["--days", "nan"], "--days is nan"),
        (["--days", "1e9"], "at most 3660"),
        (["--underlying", "BTC,DOGE"], "unknown underlying 'DOGE'"),
        (["--underlying", ","], "--underlying names nothing"),
        (["--seed", "-1"], "--seed is -1: give a whole number"),
        (["--start", "yesterday"], "--start is 'yesterday': write 2026-01-31"),
        (["--start", "1999-01-01"], "give a time from 2016 to 2080"),
        (["--out", __file__], "is a file: give a folder."),
        (["--rows", "some"], "See volgrad simulate --help."),
        (["--day", "3"], "Did you mean --days?"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused_in_one_sentence_and_nothing_is_written(volgrad, tmp_path, words, sentence):
    given = words if "--out" in words else ["--out", str(tmp_path / "out"), *words]
    done = volgrad("simulate", *given)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert not (tmp_path / "out").exists()


def test_without_a_folder_it_makes_its_own_where_it_runs(volgrad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert volgrad("simulate", "--days", "0.001", "--underlying", "BTC").code == 0
    assert {path.name for path in (tmp_path / "volgrad-market").iterdir()} == {
        "quotes-BTC-2026-01-05.parquet",
        "truth.parquet",
        "market.json",
    }


def test_foreign_files_stay(volgrad, tmp_path):
    (tmp_path / "truth.parquet").write_text("mine")
    done = volgrad("simulate", "--out", tmp_path, "--days", "0.001", "--json")
    assert done.code == 2
    assert "was not written by volgrad simulate" in json.loads(done.out)["error"]["message"]
    assert (tmp_path / "truth.parquet").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["truth.parquet"]
