"""Recipes as users write them: what the range test makes of one, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volgrad.data.image import Feature, ImageWriter
from volgrad.errors import InputError
from volgrad.learning.run import Hooks
from volgrad.tasks.training import load_run, lr_range, read_plan, train

RECIPE = """
seed = 1
task = { use = "regression" }
data = { source = "table.parquet", features = ["a", "b"], target = "y" }
model = { width = 4, depth = 1, norm = "none" }
optimizer = { name = "sgd", beta1 = 0.0, clip_norm = 0.0 }
batch = { clusters = 16 }
budget = { samples = 1000 }
"""


@pytest.fixture
def recipe(tmp_path):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 600))
    pq.write_table(pa.table({"a": a, "b": b, "y": a + 0.5 * b}), tmp_path / "table.parquet")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_a_range_test_tells_rates_that_the_recipe_can_take(recipe, tmp_path):
    """At 16 clusters, with rates meant for 4, SGD makes a step of four times the recipe's rate."""
    plain = lr_range(read_plan(recipe), tmp_path / "image", lowest=4e-4, highest=4.0, steps=60)
    moved = read_plan(recipe, ["optimizer.reference_batch=4"])
    told = lr_range(moved, tmp_path / "image", lowest=1e-4, highest=1.0, steps=60)
    assert len(told.losses) == len(plain.losses) == 60
    np.testing.assert_allclose(told.losses[:40], plain.losses[:40], rtol=1e-3)


def test_a_range_test_is_shorter_than_the_schedule(recipe, tmp_path):
    plan = read_plan(recipe, ["budget.samples=1000000", "schedule.warm_up=100000"])
    assert lr_range(plan, tmp_path / "image", lowest=1e-4, highest=1.0, steps=30).rates.size == 30


def test_columns_of_an_image_are_not_chosen_by_keys_that_do_nothing(recipe, tmp_path):
    with ImageWriter(tmp_path / "ready", [Feature(name, "1") for name in "aby"]) as writer:
        rows = np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
        writer.append(rows, np.ones(600, int), np.arange(600), np.arange(600))
        writer.seal({})
    with pytest.raises(InputError, match=r"model\.inputs"):
        train(recipe, tmp_path / "run", settings=["data.source=ready"])


def test_what_was_trained_can_be_loaded_and_judged_on_the_test_split(recipe, tmp_path):
    averaged = ["optimizer.average=ema", "optimizer.learning_rate=0.05", "budget.samples=4000"]
    final = train(recipe, tmp_path / "run", settings=averaged).final
    trained = load_run(tmp_path / "run")
    assert int(trained.state.samples) == final["best"]["samples"]
    assert trained.evaluate("validation")["loss"] == pytest.approx(final["best"]["loss"], rel=1e-6)
    assert trained.evaluate()["loss"] < 0.05  # in variances of the target, which is linear
    latest = load_run(tmp_path / "run", last=True)
    assert int(latest.state.samples) == final["samples"]


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="no run is here"):
        load_run(tmp_path)


def test_a_split_of_nothing_is_told(recipe, tmp_path):
    train(recipe, tmp_path / "run", settings=["data.test=0.0", "budget.samples=100"])
    with pytest.raises(InputError, match=r"data\.test = 0"):
        load_run(tmp_path / "run").evaluate()


def test_whoever_asks_a_run_to_stop_keeps_what_was_done(recipe, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    notes: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", hooks=Hooks(step=stop, note=notes.append))
    assert any("go on with --resume" in note for note in notes)
    begun = load_run(tmp_path / "run", last=True)
    assert 0 < int(begun.state.samples) < 1000


def test_a_run_that_never_gets_better_is_told(recipe, tmp_path):
    final = train(recipe, tmp_path / "run", settings=["optimizer.learning_rate=1e-30"]).final
    assert final["best"]["samples"] == 0
    assert any("never better than before the first step" in note for note in final["notes"])


@pytest.mark.parametrize(("setting", "says"), [("batch.clusters=5000", "the training split has 420")])
def test_a_batch_larger_than_the_data_is_refused(recipe, tmp_path, setting, says):
    with pytest.raises(InputError, match=says):
        train(recipe, tmp_path / "run", settings=[setting])
