"""Laws of a run's folder: one run, one writer, and metrics that say everything once."""

import json
import math
import os
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from volgrad.errors import InputError, WorkError
from volgrad.learning.run_folder import Metrics, run_folder, versions


def begin(path, **options):
    with run_folder(path, **options) as folder:
        folder.begin("seed = 0\n")


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


# --- one run, one writer ---


def test_a_new_run_and_its_resumption(tmp_path):
    path = tmp_path / "a" / "run"
    with run_folder(path) as folder:
        assert not folder.resumed
        folder.begin("seed = 3\n", {"devices": "cpu"})
        assert folder.checkpoints == path / "checkpoints"
    assert (path / "recipe.toml").read_text() == "seed = 3\n"
    assert json.loads((path / "versions.json").read_text()) == versions() | {"devices": "cpu"}
    with run_folder(path, resume=True) as folder:
        assert folder.resumed


def test_an_existing_run_is_not_overwritten(tmp_path):
    begin(tmp_path / "run")
    with pytest.raises(InputError, match=r"run: a run is here already; add --resume"):
        begin(tmp_path / "run")


@pytest.mark.parametrize("there", ["nothing", "empty"])
def test_there_must_be_a_run_to_resume(tmp_path, there):
    path = tmp_path / "run"
    if there == "empty":
        path.mkdir()
    with pytest.raises(InputError, match="no run is here to resume; leave out --resume"):
        begin(path, resume=True)
    assert path.exists() == (there == "empty")


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="thesis.tex" if not resume else "no run is here"):
        begin(tmp_path, resume=resume)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file is here"):
        begin(tmp_path / "file")
    with pytest.raises(WorkError, match="cannot be made"):
        begin(tmp_path / "file" / "run")


def test_a_run_that_died_before_it_began_is_in_nobodys_way(tmp_path):
    with run_folder(tmp_path):
        (tmp_path / ".recipe.toml.123.tmp").write_text("half")
    begin(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "recipe.toml", "versions.json"]


HOLDER = """
import sys, signal
from volgrad.learning.run_folder import run_folder
with run_folder(sys.argv[1]) as folder:
    folder.begin("")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(WorkError, match=f"process {child.pid} is training into this folder"):
            begin(path, resume=True)
        child.send_signal(signal.SIGKILL)
    begin(path, resume=True)


def test_the_lock_ends_with_the_block_however_it_ends(tmp_path):
    with pytest.raises(AttributeError), run_folder(tmp_path) as folder:
        folder.begin(None)
    begin(tmp_path)


# --- versions ---


def test_versions_tell_what_the_numbers_depend_on():
    found = versions()
    assert {"volgrad", "python", "jax", "jaxlib", "numpy", "optax", "equinox", "platform", "processor"} <= found.keys()
    assert all(isinstance(value, str) and value for key, value in found.items() if key != "threads")
    assert 1 <= found["threads"] <= (os.cpu_count() or 1)


def test_a_resumption_by_other_versions_is_on_record(tmp_path):
    begin(tmp_path)
    begin(tmp_path, resume=True)
    file = tmp_path / "versions.json"
    assert json.loads(file.read_text()) == versions() | {"before": []}
    file.write_text(json.dumps(versions() | {"jax": "0.1"}))
    begin(tmp_path, resume=True)
    begin(tmp_path, resume=True)
    found = json.loads(file.read_text())
    assert found["jax"] == versions()["jax"]
    assert [before["jax"] for before in found["before"]] == ["0.1"]


# --- metrics ---


def test_a_line_has_every_key_in_order_and_is_there_at_once(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with Metrics(file, 0) as metrics:
        metrics.write(
            samples=64, step=1, loss=jnp.asarray(0.5), lr=np.float32(0.25), batch=64, rows_per_s=1e6, inside=0.9
        )
        metrics.write(samples=128, step=np.int64(2), loss=math.nan, lr=math.inf, event="rolled back")
        text = file.read_text()
    assert list(json.loads(text.splitlines()[0])) == [
        "samples",
        "step",
        "loss",
        "lr",
        "batch",
        "rows_per_s",
        "event",
        "inside",
    ]
    assert lines(file) == [
        {
            "samples": 64,
            "step": 1,
            "loss": 0.5,
            "lr": 0.25,
            "batch": 64,
            "rows_per_s": 1e6,
            "event": None,
            "inside": 0.9,
        },
        {
            "samples": 128,
            "step": 2,
            "loss": None,
            "lr": None,
            "batch": None,
            "rows_per_s": None,
            "event": "rolled back",
        },
    ]


@pytest.mark.parametrize("reached", [0, 1, 2, 5, 8])
def test_a_run_that_goes_on_says_nothing_twice(tmp_path, reached):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    for file, stops in ((whole, [(0, 10)]), (resumed, [(0, 9), (reached, 10)])):
        for start, stop in stops:
            with Metrics(file, start) as metrics:
                for samples in range(start + 1, stop):
                    metrics.write(samples=samples, step=samples, loss=1 / samples)
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_line_torn_anywhere_by_a_kill_is_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with Metrics(file, 0) as metrics:
        metrics.write(samples=1, step=1)
        first = file.read_bytes()
        metrics.write(samples=2, step=2, event="ünd")
    both = file.read_bytes()
    for length in range(len(first), len(both)):
        file.write_bytes(both[:length])
        Metrics(file, 10).close()
        assert file.read_bytes() == first
    file.write_bytes(both)
    Metrics(file, 10).close()
    assert file.read_bytes() == both


@pytest.mark.parametrize("line", ["[]", "{}", '{"samples": "x"}', "\x00\x00", "{"])
def test_what_no_run_wrote_ends_the_file(tmp_path, line):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"samples": 1}\n' + line + '\n{"samples": 2}\n')
    Metrics(file, 10).close()
    assert file.read_text() == '{"samples": 1}\n'


def test_metrics_that_cannot_be_written_are_an_error(tmp_path):
    with pytest.raises(WorkError, match=r"metrics\.jsonl: could not be written"):
        Metrics(tmp_path / "none" / "metrics.jsonl", 0)


# --- the end ---


def test_the_end_is_whole_and_strict_json(tmp_path):
    with run_folder(tmp_path) as folder:
        folder.begin("")
        folder.finish({"state_sha256": "ab", "samples": np.int64(3), "best": math.nan, "wall_s": jnp.asarray(1.5)})
        folder.finish({"state_sha256": "cd", "best": {"loss": -math.inf, "at": (1, 2)}})
    found = json.loads((tmp_path / "final.json").read_text())
    assert found == {"state_sha256": "cd", "best": {"loss": None, "at": [1, 2]}}
    assert [file.name for file in tmp_path.glob(".*.tmp")] == []
