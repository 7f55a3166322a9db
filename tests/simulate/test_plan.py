"""Laws of the plan: its days and files, and the folder in which nothing foreign is ever touched."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from volgrad.errors import InputError
from volgrad.simulate.market import BITCOIN
from volgrad.simulate.plan import Plan, prepare_folder

NAMES = ["quotes-BTC-2026-01-05.parquet", "truth.parquet"]


def plan(every: timedelta, ticks: int) -> Plan:
    start = datetime(2026, 1, 30, 23, 0, tzinfo=UTC)
    return Plan(0, (replace(BITCOIN, start=start, every=every),), ticks, False, "0")


@pytest.mark.parametrize(
    ("every", "ticks", "days"),
    [
        (timedelta(minutes=30), 2, ["2026-01-30"]),
        (timedelta(minutes=30), 3, ["2026-01-30", "2026-01-31"]),
        (timedelta(days=1), 3, ["2026-01-30", "2026-01-31", "2026-02-01"]),
        (timedelta(milliseconds=100), 36_001, ["2026-01-30", "2026-01-31"]),
    ],
)
def test_every_day_with_a_moment_has_a_file(every, ticks, days):
    of = plan(every, ticks)
    assert of.days() == days
    assert of.files() == [*(f"quotes-BTC-{day}.parquet" for day in days), "truth.parquet"]


@pytest.mark.parametrize("name", [*NAMES, "market.json"])
def test_a_foreign_file_of_one_of_our_names_is_refused_and_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name} is there and was not written by volgrad simulate"):
        prepare_folder(tmp_path, NAMES)
    assert (tmp_path / name).read_text() == "mine"


def test_another_programs_account_is_not_ours(tmp_path):
    (tmp_path / "market.json").write_text(json.dumps({"made_by": "another hand", "files": NAMES}))
    (tmp_path / "truth.parquet").write_text("mine")
    with pytest.raises(InputError):
        prepare_folder(tmp_path, NAMES)
    assert (tmp_path / "truth.parquet").exists()


@pytest.mark.parametrize(
    "name", ["../outside.parquet", "notes.txt", "/etc/hostname", "quotes-BTC-2026-01-05.parquet.bak"]
)
def test_a_damaged_account_removes_nothing_but_simulated_files(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    for other in (tmp_path / "outside.parquet", folder / "notes.txt", folder / "quotes-BTC-2026-01-05.parquet.bak"):
        other.write_text("mine")
    (folder / "truth.parquet").write_text("ours")
    (folder / "market.json").write_text(
        json.dumps({"made_by": "volgrad simulate", "files": [name, "truth.parquet", 3]})
    )
    prepare_folder(folder, NAMES)
    assert not (folder / "truth.parquet").exists()
    assert (tmp_path / "outside.parquet").exists()
    assert (folder / "notes.txt").exists()
    assert (folder / "quotes-BTC-2026-01-05.parquet.bak").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"is a file: give a folder"):
        prepare_folder(tmp_path / "file", [])


def test_folders_on_the_way_are_made(tmp_path):
    prepare_folder(tmp_path / "a" / "b", NAMES)
    assert (tmp_path / "a" / "b").is_dir()
