"""`volgrad train` and `volgrad lr-range`: what is written, what is said, and how mistakes end."""

import json
from pathlib import Path

import pytest

STUDIES = Path(__file__).resolve().parents[1] / "learning" / "studies.py"
RECIPE = f"""
seed = 3
[task]
use = "{STUDIES}:Waves"
[optimizer]
learning_rate = 0.01
[batch]
clusters = 16
[budget]
samples = 8_000
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "waves.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def trained(volgrad, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return volgrad("train", recipe, "--out", out), out


def test_a_run_is_told_in_three_lines_and_leaves_its_files(trained):
    done, out = trained
    assert (done.code, done.err) == (0, "")
    assert "Done: 8,000 samples in 500 steps" in done.out
    assert "Best validation loss" in done.out
    assert {"recipe.toml", "versions.json", "metrics.jsonl", "checkpoints", "best", "final.json", "report.html"} <= {
        path.name for path in out.iterdir()
    }
    assert json.loads((out / "final.json").read_text())["status"] == "done"


def test_the_resolved_recipe_trains_the_same(volgrad, trained, tmp_path):
    _, out = trained
    again = tmp_path / "again"
    done = volgrad("train", out / "recipe.toml", "--out", again, "--no-report", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["state_sha256"] == json.loads((out / "final.json").read_text())["state_sha256"]
    assert not (again / "report.html").exists()


def test_set_takes_the_place_of_the_file(volgrad, recipe, tmp_path):
    words = ("--set", "batch.clusters=32", "--set", "budget.samples=320", "--no-report")
    done = volgrad("train", recipe, "--out", tmp_path / "run", *words)
    assert "320 samples in 10 steps" in done.out, done.err


def test_a_run_that_is_there_is_not_overwritten_and_resume_goes_on(volgrad, trained, recipe):
    _, out = trained
    done = volgrad("train", recipe, "--out", out)
    assert done.code == 2
    assert "--resume" in done.err
    assert volgrad("train", recipe, "--out", out, "--resume", "--no-report").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "batch.sise=8"), "did you mean"),
        (("--set", "optimizer.name=adm"), "adam"),
        (("--set", "task.use=implied-vool"), "did you mean 'implied-vol'"),
        (("--set", "batch.size=atuo"), "batch.size"),
        (("--set", "budget.samples=0"), "budget.samples"),
        (("--set", "data.validation=0.9"), "leave nothing to train on"),
        (("--set", "model.widht=9"), "did you mean"),
        (("--threads", "0"), "--threads is 0"),
        (("--resume",), "resume"),
    ],
    ids=["key", "name", "study", "size", "budget", "split", "model", "threads", "resume"],
)
def test_a_mistake_ends_in_one_sentence_and_exit_code_2(volgrad, recipe, tmp_path, words, says):
    done = volgrad("train", recipe, "--out", tmp_path / "run", *words)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("text", "says"), [("", "task.use"), ("[task", "not TOML"), ("[taks]\nuse = 'x'", "task")])
def test_a_recipe_that_is_none_is_named(volgrad, tmp_path, text, says):
    file = tmp_path / "broken.toml"
    file.write_text(text)
    done = volgrad("train", file, "--out", tmp_path / "run")
    assert done.code == 2
    assert "broken.toml" in done.err
    assert says in done.err


def test_a_recipe_that_is_not_there_is_named(volgrad, tmp_path):
    done = volgrad("train", tmp_path / "none.toml", "--out", tmp_path / "run")
    assert done.code == 2
    assert "none.toml: no such file" in done.err


def test_a_run_that_gives_up_ends_with_exit_code_1_and_a_page(volgrad, recipe, tmp_path):
    out = tmp_path / "run"
    done = volgrad("train", recipe, "--out", out, "--set", "model.explode=10000.0")
    assert done.code == 1
    assert "gave up; lower the learning rate" in done.err
    assert (out / "report.html").is_file()
    assert list((out / "checkpoints").iterdir())


def test_the_range_test_suggests_a_rate_that_set_takes(volgrad, recipe, tmp_path):
    done = volgrad("lr-range", recipe, "--out", tmp_path / "range", "--steps", "120", "--lowest", "1e-5")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "range" / "lr-range.json").read_text())
    assert len(found["rates"]) == len(found["losses"]) <= 120
    assert (tmp_path / "range" / "lr-range.html").is_file()
    assert (found["suggestion"] is None) == ("--set optimizer.learning_rate=" not in done.out)


def test_rates_out_of_order_are_refused(volgrad, recipe, tmp_path):
    done = volgrad("lr-range", recipe, "--out", tmp_path / "range", "--lowest", "1", "--highest", "0.1")
    assert done.code == 2
    assert "ascending" in done.err
