"""`volgrad doctor` finds what works, and says what to do about what does not."""

import json
import os

import pytest

from volgrad.cli import main
from volgrad.cli.doctor import CHECKS, examine


def finding(name):
    return next(found for found in examine() if found.check == name)


@pytest.fixture(autouse=True)
def ordinary_environment(monkeypatch, tmp_path):
    """A cache of its own, all cores, no data: whatever the machine is set to."""
    for name in [name for name in os.environ if name.startswith("VOLGRAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VOLGRAD_CACHE", str(tmp_path))
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)


def test_this_installation_is_well(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CHECKS)
    assert "Black-76 call 5.637197779702" in text


def test_json_says_the_same(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert [check["check"] for check in told["checks"]] == list(CHECKS)
    assert {"check", "status", "found", "advice"} == set(told["checks"][0])


def test_a_cache_that_cannot_be_written_is_a_warning_with_advice(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOLGRAD_CACHE", str(tmp_path / "file"))
    found = finding("compile cache")
    assert found.status == "warn"
    assert "VOLGRAD_CACHE" in found.advice


def test_data_that_is_not_there_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path / "nowhere"))
    assert finding("data").status == "warn"
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path))
    assert finding("data").status == "ok"


@pytest.mark.parametrize(("limit", "status"), [("1", "ok"), ("100000", "warn"), ("many", "warn")])
def test_a_limit_of_threads_is_told(limit, status, monkeypatch):
    monkeypatch.setenv("NPROC", limit)
    assert finding("threads").status == status


def test_variables_that_are_read_are_known(monkeypatch):
    known = ["DATA", "SCORER", "SEED", "STEPS_CSV", "FROM", "REPORT", "NO_REPORT", "QUOTES", "SECONDS", "JSON", "DEBUG"]
    for name in known:
        monkeypatch.setenv(f"VOLGRAD_{name}", "1")
    found = finding("environment")
    assert found.status == "ok"
    assert set(found.found.split(", ")) == {f"VOLGRAD_{name}" for name in (*known, "CACHE")}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("VOLGRAD_SEDE", "VOLGRAD_SEDE is ignored: did you mean VOLGRAD_SEED?"),
        ("VOLGRAD_STEP_CSV", "VOLGRAD_STEP_CSV is ignored: did you mean VOLGRAD_STEPS_CSV?"),
        ("VOLGRAD_CAHCE", "VOLGRAD_CAHCE is ignored: did you mean VOLGRAD_CACHE?"),
        ("VOLGRAD_WXYZ", "VOLGRAD_WXYZ is ignored: unset it"),
    ],
)
def test_a_variable_that_nothing_reads_is_a_warning_with_what_was_meant(name, advice, monkeypatch):
    monkeypatch.setenv(name, "3")
    found = finding("environment")
    assert (found.status, found.advice) == ("warn", advice)
    assert name in found.found


def test_a_check_that_cannot_run_is_a_failure(monkeypatch, capsys):
    def broken():
        raise ImportError("libjax.so: cannot open shared object file")

    monkeypatch.setitem(CHECKS, "devices", broken)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "cannot open shared object file" in text
    assert "Reinstall" in text
    assert "1 failed" in text
