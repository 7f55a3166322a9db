"""The front door: what goes together, what is refused, and that both ways answer alike."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import volgrad
from tests.learning.problems import Regression, data
from volgrad.data.image import Feature, Image
from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.training.first_order import from_optax, named
from volgrad.learning.training.task import Task

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_step.py"


class Slope(Task):
    """Least squares on the rows of an image: the last column from the first."""

    def init(self, key):
        return jnp.zeros((), jnp.float32), None

    def loss(self, variables, statistics, batch, key):
        error = variables * batch.rows.values[..., 0] - batch.rows.values[..., 1]
        mask = batch.rows.mask & batch.mask[:, None]
        return jnp.where(mask, error**2, 0.0).sum(1) / jnp.maximum(mask.sum(1), 1).astype(error.dtype), statistics

    def evaluate(self, variables, statistics, batch):
        return {"loss": self.loss(variables, statistics, batch, None)[0].mean()}


def image(clusters=40) -> Image:
    counts = np.random.default_rng(0).integers(1, 4, clusters)
    x = np.random.default_rng(1).standard_normal(counts.sum())
    y = 0.5 * x + np.random.default_rng(2).standard_normal(counts.sum())
    stamps = np.arange(clusters)
    return Image.of(
        np.stack([x, y], axis=1).astype(np.float32), counts, stamps, stamps, [Feature("x", "1"), Feature("y", "1")]
    )


def own(count=200):
    x = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    rows = x, (x @ np.float32([1.0, -1.0, 0.5]) + np.random.default_rng(1).standard_normal(count)).astype(np.float32)
    slope = jax.grad(lambda w, batch: 0.5 * ((batch[0] @ w - batch[1]) ** 2).mean())
    return {
        "step": lambda w, batch: w - 0.01 * slope(w, batch),
        "grad": slope,
        "params": jnp.zeros(3, jnp.float32),
        "data": rows,
    }


@pytest.mark.parametrize(
    ("given", "optimizer"),
    [
        (lambda: (Regression(), data(60, 64)), None),
        (lambda: (Slope(), image()), named("sgd", learning_rate=0.05)),
        (lambda: (Slope(), image()), from_optax(optax.sgd(0.05))),
    ],
    ids=["batch", "image", "any optax"],
)
def test_a_task_and_its_data_are_all_it_takes(given, optimizer):
    task, rows = given()
    how = {} if optimizer is None else {"optimizer": optimizer}
    decision = volgrad.choose_batch_size(task, rows, least=4, most=8, seconds=0.02, **how)
    assert decision.clusters in (4, 8)
    assert decision.noise.clusters > 0.0
    real = 60 if optimizer is None else 40
    # 20 epochs, with a rate that is meant for 32 clusters
    assert decision.samples[0] / (1.0 + 1.0 / max(decision.noise.clusters, 1.0)) < 20 * real
    assert any("no rule" in note for note in decision.notes) == (optimizer is not None and optimizer.name == "custom")
    json.dumps(decision.to_dict(), allow_nan=False)


def test_own_code_is_all_it_takes_too():
    decision = volgrad.choose_batch_size(**own(), least=8, most=16, seconds=0.02, clusters=np.arange(200) // 2)
    assert [rung.clusters for rung in decision.ladder] == [8, 16]
    assert decision.chosen.rows == 2 * decision.chosen.clusters
    assert decision["chosen"]["rows"] == decision.chosen.rows


def test_both_ways_find_the_same_noise():
    """Of all rows at the first variables."""
    held, how = data(200), {"least": 8, "most": 8, "seconds": 0.02}
    task = volgrad.choose_batch_size(Regression(), held, **how)

    def loss(at, rows):
        features, target = rows
        return 0.5 * ((features @ at["slope"] + at["level"] - target) ** 2).mean()

    start = {"slope": jnp.zeros(3), "level": jnp.zeros(())}
    mine = volgrad.choose_batch_size(step=loss, grad=jax.grad(loss), params=start, data=held.rows, **how)
    one, other = task.moments[0].noise, mine.moments[0].noise
    np.testing.assert_allclose((one.clusters, one.lo, one.hi), (other.clusters, other.lo, other.hi), rtol=1e-6)


@pytest.mark.parametrize("objective", ["time", "samples", "memory"])
def test_what_counts_is_heeded(objective):
    decision = volgrad.choose_batch_size(**own(), objective=objective, least=8, most=32, seconds=0.02)
    assert decision.objective == objective
    assert decision.chosen.rows in (8, 16, 32)
    if objective == "memory":
        fast = [
            one
            for one, s in zip(decision.ladder, decision.predicted_s, strict=True)
            if s <= 1.25 * min(decision.predicted_s)
        ]
        assert decision.chosen.rows == min(fast, key=lambda one: one.bytes).rows


def test_the_run_that_it_is_for_scales_what_is_predicted():
    """As much progress as `budget` samples bring in batches of `reference`."""
    kept = own()
    kept["step"] = lambda w, batch: jnp.abs(batch[1]).max()  # no pilot: both see the same noise
    short, long = (
        volgrad.choose_batch_size(**kept, budget=budget, reference=16, least=16, most=16, seconds=0.02)
        for budget in (1000, 5000)
    )
    assert short.samples == pytest.approx([1000.0])
    assert long.samples == pytest.approx([5000.0])


def test_another_seed_is_another_order():
    kept = own()
    kept["step"] = lambda w, batch: jnp.abs(batch[1]).max()
    kept["data"] = jax.tree.map(lambda leaf: np.concatenate([leaf] * 3), kept["data"])

    def found(seed):
        return volgrad.choose_batch_size(**kept, least=16, most=16, seconds=0.02, seed=seed).noise.clusters

    assert found(1) == found(1) != found(2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict, "neither task nor step and grad and params and data given: give task and data, or step, grad"),
        (lambda: own() | {"grad": None}, "neither task nor grad given"),
        (lambda: own() | {"task": Regression()}, "task and step and grad and params do not go together"),
        (lambda: {"task": Slope(), "data": image(), "clusters": [1]}, "task and clusters do not go together"),
        (lambda: {"task": Slope()}, "data of a task is NoneType: give an Image or a Batch"),
        (lambda: {"task": Slope, "data": image()}, "no Task"),
        (lambda: own() | {"step": 3}, r"step is int: give a function \(params, batch\)"),
        (lambda: own() | {"optimizer": named("adam")}, "a step of your own has its own"),
        (lambda: {"task": Slope(), "data": image(), "optimizer": optax.sgd(0.1)}, "give a FirstOrder"),
        (lambda: own() | {"least": 0}, "least is 0: give a whole number of at least 1"),
        (lambda: own() | {"most": 2.5}, "most is 2.5: give a whole number"),
        (lambda: own() | {"least": 8, "most": 4}, "least is 8 and most 4"),
        (lambda: own() | {"least": 1000}, "least is 1,000, but there are 200 in data"),
        (lambda: own() | {"seconds": 0.0}, "seconds is 0.0"),
        (lambda: own() | {"budget": -1}, "budget is -1"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_sentence(given, said):
    with pytest.raises(InputError, match=said):
        volgrad.choose_batch_size(**given())


@pytest.mark.parametrize(("name", "value"), [("objectiv", "time"), ("objective", "tim")])
def test_a_typing_error_is_met_with_the_nearest_name(name, value):
    with pytest.raises(UnknownOptionError) as caught:
        volgrad.choose_batch_size(**own(), **{name: value})
    assert caught.value.suggestion in ("objective", "time")


def test_the_example_of_the_docs_runs_in_single_precision():
    spec = importlib.util.spec_from_file_location("own_step", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with jax.enable_x64(False):
        decision = example.choose(snapshots=60, seconds=0.02, least=4, most=8)
    assert decision.clusters in (4, 8)
    assert decision.chosen.rows_per_cluster == pytest.approx(decision.chosen.rows / decision.clusters, rel=0.05)
    assert decision.noise.significant
    assert 0.0 < decision.noise.intraclass < 1.0
