"""`volgrad check`: finds the classes of a file by itself, prints the verdicts, and tells by its exit code."""

import functools
import json

import pytest

from volgrad.cli import build_app, main
from volgrad.cli.check import examine
from volgrad.errors import InputError, UnknownOptionError

VERB = (("check", "volgrad.cli.check:check", "Hold the studies, tasks and layers of a file against their contracts."),)
run = functools.partial(main, make_app=functools.partial(build_app, VERB))

STUDY = """
from typing import ClassVar
import jax
import jax.numpy as jnp
import numpy as np
from volgrad.data.image import Feature, Image
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.models.networks.layer import Layer


class Data(StudyData, frozen=True, kw_only=True):
    days: int = 12


class Mean(Study):
    name, Data, Model, clusters = "mean", Data, StudyModel, 4

    def image(self, data, base, folder):
        rows = np.arange(data.days, dtype=np.float32)[:, None]
        stamps = np.arange(data.days)
        return Image.of(rows, np.ones(data.days, int), stamps, stamps, [Feature("value", "1")])

    def task(self, model, image, train):
        return Level()


class Level(Task):
    def init(self, key):
        return jax.random.normal(key, (1,), jnp.float32), None

    def loss(self, variables, statistics, batch, key):
        return (batch.rows.values[:, 0, 0] - variables[0]) ** 2, None

    def evaluate(self, variables, statistics, batch):
        return {"level": variables[0]}
"""
LAYER = """

class Half(Layer):
    features: int

    def init(self, key):
        return (), ()

    def __call__(self, variables, statistics, x, mask, training, key=None):
        return jnp.where(mask[..., None], 0.5 * x, 0.0), ()
"""
WRONG = STUDY.replace("- variables[0]) ** 2", "- variables[0]).mean() ** 2")


@pytest.fixture
def written(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_sound_file_ends_with_0(written, capsys):
    assert run(["check", str(written(STUDY))]) == 0
    said = capsys.readouterr().out
    assert "study Mean" in said
    assert "none broken" in said


def test_a_broken_law_ends_with_1_and_is_told(written, capsys):
    assert run(["check", str(written(WRONG)), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    failed = [law for one in told["classes"] for law in one["laws"] if law["status"] == "fail"]
    assert [law["law"] for law in failed] == ["losses"]
    assert "one a cluster" in failed[0]["why"]


def test_a_task_counts_as_judged_with_the_study_that_makes_it(written):
    lonely = (
        "\n\nclass Lonely(Level):\n    def evaluate(self, variables, statistics, batch):\n        return {'x': 0.0}\n"
    )
    found = {one.name: one for one in examine(str(written(STUDY + lonely)))}
    assert [one.status for one in found["Level"].verdicts] == ["ok"]
    assert found["Lonely"].verdicts[0].status == "skip"


def test_one_class_can_be_asked_for(written):
    assert [one.name for one in examine(f"{written(STUDY)}:Level")] == ["Level"]


def test_a_layer_is_held_against_the_laws_of_layers(written):
    pytest.importorskip("volgrad.models.networks.contract")
    checked = examine(f"{written(STUDY + LAYER)}:Half")
    assert [(one.kind, one.verdicts[0].status) for one in checked] == [("layer", "ok")]
    crooked = LAYER.replace("jnp.where(mask[..., None], 0.5 * x, 0.0)", "x - x.mean((0, 1))[None, None]")
    checked = examine(f"{written(STUDY + crooked, 'other.py')}:Half")
    assert checked[0].verdicts[0].status == "fail"


def test_a_recipe_gives_the_data(written, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[task]\nuse = "mine.py:Mean"\n[data]\ndays = 3\n')
    verdicts = examine(f"{written(STUDY)}:Mean", recipe)[0].verdicts
    assert verdicts[-1].status == "fail"
    assert "3 clusters" in verdicts[-1].why
    recipe.write_text("[data]\nday = 3\n")
    with pytest.raises(UnknownOptionError, match=r"data\.days"):
        examine(f"{written(STUDY)}:Mean", recipe)


@pytest.mark.parametrize(
    ("text", "reference", "said"),
    [
        ("x = 1\n", "{}", "no study, task or layer"),
        ("x = 1 / 0\n", "{}", "line 1: ZeroDivisionError"),
        (STUDY, "{}:Levle", "did you mean 'Level'"),
        (STUDY, "{}x", "no Python file"),
    ],
)
def test_what_is_no_such_file_is_wrong_usage(written, capsys, text, reference, said):
    assert run(["check", reference.format(written(text))]) == 2
    assert said in capsys.readouterr().err


def test_no_study_of_the_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        examine(str(tmp_path / "nothing.py"))
