"""`volgrad batch-size`: what is written, what is said, and how mistakes end."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cli.test_train import RECIPE
from tests.learning.studies import Waves, WaveTask
from volgrad.errors import WorkError
from volgrad.learning.batch_size.decision import Chosen, Decision
from volgrad.learning.batch_size.from_recipe import bounds_for, budget_of, effort_of, notes_of, settings_of, subject_of
from volgrad.learning.batching.noise_scale import noise_scale
from volgrad.learning.prepared import prepare
from volgrad.tasks.training import batch_size as work
from volgrad.tasks.training import read_plan

QUICK = ("--set", "data.clusters=60", "--set", "model.norm=none", "--most", "2", "--seconds", "0.3")
RUNG = {
    "clusters": int, "rows": int, "step_s_median": float, "step_s_iqr": float, "bytes": int, "predicted_s": float,
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "waves.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def chosen(volgrad, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("sizes") / "found"
    done = volgrad("batch-size", recipe, "--out", out, *QUICK)
    assert done.code == 0, done.err
    return done, json.loads((out / "batch-size.json").read_text()), out


def test_what_is_written_has_every_key(chosen):
    _, found, out = chosen
    assert {path.name for path in out.iterdir()} >= {"batch-size.json", "batch-size.html"}
    assert {name: type(value) for name, value in found["chosen"].items()} == {
        "clusters": int, "rows_per_cluster": float, "rows": int,
    }  # fmt: skip
    for rung in found["ladder"]:
        assert {name: type(rung[name]) for name in RUNG} == RUNG
        assert rung["step_s_iqr"] >= 0.0
        assert rung["step_s_median"] > 0.0
    assert isinstance(found["noise"]["significant"], bool)
    assert {"rows", "lo", "hi"} <= set(found["noise"])
    assert isinstance(found["branches"], list)
    assert min(found["probe_s"], found["compile_s"], found["wall_s"]) > 0.0
    assert found["reason"].startswith("Batches of ")
    assert {"version", "command", "objective", "moments", "notes"} <= set(found)


def test_the_ladder_stays_within_its_bound_and_the_choice_is_on_it(chosen):
    _, found, _ = chosen
    assert [rung["clusters"] for rung in found["ladder"]] == [1, 2]
    assert found["chosen"]["clusters"] in (1, 2)
    assert found["chosen"]["rows"] == 3 * found["chosen"]["clusters"]


def test_the_least_predicted_time_is_chosen_unless_branches_say_otherwise(chosen):
    _, found, _ = chosen
    own = next(rung for rung in found["ladder"] if rung["clusters"] == found["chosen"]["clusters"])
    least = min(rung["predicted_s"] for rung in found["ladder"])
    overturned = "got clearly further every time" in found["reason"]
    assert overturned or own["predicted_s"] <= 1.02 * least


def test_it_is_told_in_a_table_and_in_words(chosen):
    done, found, _ = chosen
    lines = done.out.splitlines()
    assert [name for name in ("clusters", "rows/s", "memory", "to target") if name not in lines[1]] == []
    assert len([line for line in lines if line.rstrip().endswith(("chosen", "chosen, not timed"))]) == 1
    plain = " ".join(done.out.split())
    assert " ".join(found["reason"].split()) in plain
    assert "To use it: " + " ".join(f"--set {setting}" for setting in found["settings"]) in plain
    assert "batch-size.html" in plain
    assert found["settings"] == [f"batch.clusters={found['chosen']['clusters']}", "optimizer.reference_batch=16"]


def test_what_it_says_to_set_is_a_recipe(chosen, recipe):
    _, found, _ = chosen
    plan = read_plan(recipe, found["settings"])
    assert plan.recipe.batch.clusters == found["chosen"]["clusters"]
    assert plan.recipe.optimizer.reference_batch == 16


def test_json_prints_what_the_file_holds(volgrad, recipe, tmp_path):
    words = ("--json", "--no-report", "--sharpness", "--objective", "samples", "--set", "batch.size=auto")
    done = volgrad("batch-size", recipe, "--out", tmp_path, *QUICK, *words)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads((tmp_path / "batch-size.json").read_text())
    assert not (tmp_path / "batch-size.html").exists()
    assert json.loads(done.out)["objective"] == "samples"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--objective", "tiem"], 'Did you mean "time"?'),
        (["--least", "9", "--most", "3"], "--least 9 is above --most 3"),
        (["--most", "0"], "--most is 0"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--threads", "0"], "--threads is 0"),
        (["--least", "5000"], "5,000 clusters a batch, and the training split has 700"),
        (["--set", "data.clusters=3"], "give more data"),
        (["--set", "batch.clusters=5000"], "lower [batch] size or clusters"),
        (["--set", "batch.size=autp"], "batch.size"),
    ],
    ids=["objective", "order", "most", "seconds", "nan", "threads", "least", "few", "large", "size"],
)
def test_wrong_input_is_one_sentence(volgrad, recipe, tmp_path, words, says):
    done = volgrad("batch-size", recipe, "--out", tmp_path / "found", *words)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "found" / "batch-size.json").exists()


def test_a_recipe_that_is_missing_and_a_folder_that_is_none(volgrad, recipe, tmp_path):
    assert volgrad("batch-size").code == 2
    missing = volgrad("batch-size", tmp_path / "no.toml", "--out", tmp_path)
    assert (missing.code, "no such file" in missing.err) == (2, True)
    file = volgrad("batch-size", recipe, "--out", recipe)
    assert (file.code, "is a file: give a folder" in file.err) == (2, True)


class FullTask(WaveTask):
    """A task for which no memory suffices."""

    def loss(self, variables, statistics, batch, key):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")


class FullWaves(Waves):
    def task(self, model, image, train):
        task = super().task(model, image, train)
        assert isinstance(task, WaveTask)
        return FullTask(task.network)


def test_memory_that_does_not_suffice_for_gradients_is_told(recipe, tmp_path):
    plan = dataclasses.replace(read_plan(recipe), study=FullWaves())
    with pytest.raises(WorkError, match="out of memory on the device while gradients were looked at: lower"):
        work(plan, tmp_path)


def prepared(tmp_path, *settings):
    recipe = tmp_path / "waves.toml"
    recipe.write_text(RECIPE)
    plan = read_plan(recipe, ["model.norm=none", "data.clusters=200", *settings])
    found = prepare(plan.study, plan.recipe, plan.base, tmp_path / "image")
    found.loader.close()
    return plan, found


def decision(clusters, reference=16, **more):
    scale = noise_scale(np.array([[2.0, 1.0], [1.0, 2.0]]))
    return Decision(
        Chosen(clusters, 3.0, 3 * clusters),
        "time",
        (),
        (),
        (),
        scale,
        (),
        (),
        0.0,
        0.0,
        "",
        reference=reference,
        **more,
    )


def test_the_subject_has_the_recipe_without_its_schedule(tmp_path):
    plan, found = prepared(tmp_path, "batch.accumulate=2")
    subject = subject_of(found, 8_000)
    assert (subject.work.samples, subject.work.reference) == (8_000, 16)
    same, larger = subject.optimizers(16, None), subject.optimizers(64, None)
    assert float(same.hyper.learning_rate) == pytest.approx(0.01)
    assert float(larger.hyper.learning_rate) == pytest.approx(0.02)  # Adam: the root of 64 / 16
    assert float(subject.optimizers(64, 16.0).hyper.learning_rate) == pytest.approx(0.01)  # no further than the noise
    assert float(same.schedule(jnp.asarray(0))) == float(same.schedule(jnp.asarray(7_999))) == 1.0
    assert same.micro_batches == 1
    assert [note.split()[0] for note in notes_of(found)] == ["batch.accumulate"]
    assert subject.held.values.shape[0] <= len(found.splits.validation)
    assert plan.recipe.batch.accumulate == 2


def test_budgets_of_every_kind_are_samples(tmp_path):
    _, found = prepared(tmp_path)
    assert budget_of(found) == 8_000
    _, epochs = prepared(tmp_path, "budget.epochs=2")
    assert budget_of(epochs) == 2 * len(epochs.splits.train)


def test_the_learning_rate_keeps_its_reference(tmp_path):
    plan, _ = prepared(tmp_path)
    assert settings_of(plan.recipe, decision(64)) == ["batch.clusters=64", "optimizer.reference_batch=16"]
    assert settings_of(plan.recipe, decision(16)) == ["batch.clusters=16"]
    for setting in ("optimizer.reference_batch=32", "optimizer.scale_with_batch=false"):
        fixed, _ = prepared(tmp_path, setting)
        reference = fixed.recipe.optimizer.reference_batch or 16
        assert settings_of(fixed.recipe, decision(64, reference=reference)) == ["batch.clusters=64"]
    auto, _ = prepared(tmp_path, "batch.size=auto", "batch.rows_per_cluster=auto")
    assert settings_of(auto.recipe, decision(64, rows_drawn=1, alike=2.0))[1:] == [
        "optimizer.reference_batch=16",
        "batch.rows_per_cluster=1",
        "budget.samples=16000",
    ]


def test_what_it_says_to_set_replaces_what_a_recipe_asks_of_auto(tmp_path):
    auto = ("batch.size=auto", "batch.least=4", "batch.most=64", "batch.rows_per_cluster=auto")
    found, _ = prepared(tmp_path, *auto)
    assert found.recipe.batch.bounds.least == 4
    path = tmp_path / "auto.toml"
    path.write_text(found.recipe.to_toml())
    told = settings_of(found.recipe, decision(64, rows_drawn=1))
    again = read_plan(path, told).recipe.batch
    assert (again.clusters, again.size, again.least, again.rows_per_cluster) == (64, None, None, 1)
    assert read_plan(path, ["batch.clusters=8"]).recipe.batch.rows_per_cluster is None


def test_bounds_and_effort():
    assert bounds_for(2, 8, 10).hold(8)
    assert sum(effort_of(40.0)[:3]) == pytest.approx(40.0)
