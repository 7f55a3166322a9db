"""Recipes as users write them: what the range test makes of one, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volgrad.data.image import Feature, ImageWriter
from volgrad.errors import InputError
from volgrad.tasks.training import lr_range, read_plan, train

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
