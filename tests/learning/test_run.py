"""A run ends with the same bits however often it was killed; and what else goes wrong is told and survived."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.learning.studies import Waves
from volgrad.errors import ForeignError, InputError, WorkError
from volgrad.learning.recipe import RawRecipe, resolve
from volgrad.learning.run import Hooks, train
from volgrad.learning.training.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "task": {"use": "waves"},
    "budget": {"samples": 13_952},
    "batch": {"clusters": 16, "then": [{"samples": 8_000, "clusters": 64}]},
    "optimizer": {"learning_rate": 0.01, "average": "ema"},
    "evaluate": {"every": 2_000},
    "checkpoint": {"every_seconds": 0.0},
    "seed": 3,
}


def recipe_of(**tables):
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in SMALL.items()}
    for name, value in tables.items():
        merged[name] = (
            value if name in ("batch", "budget") or not isinstance(value, dict) else merged.get(name, {}) | value
        )
    return resolve(RawRecipe("waves.toml", merged, {}), Waves.Data, Waves.Model)


def run(out: Path, recipe=None, **options):
    return train(Waves(), recipe or recipe_of(), Path(), out, **options)


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


def killed_after(segments: int) -> Hooks:
    left = [segments]

    def step(*_) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return Hooks(step=step)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    run(out)
    return out


def final_of(out: Path) -> dict:
    return json.loads((out / "final.json").read_text())


def metrics_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_is_promised(undisturbed):
    final = final_of(undisturbed)
    assert {"state_sha256", "samples", "best", "wall_s", "compile_s"} <= final.keys()
    assert final["samples"] >= 13_952
    lines = metrics_of(undisturbed)
    assert all({"samples", "step", "loss", "lr", "batch", "rows_per_s", "event"} <= line.keys() for line in lines)
    assert [line["samples"] for line in lines] == sorted(line["samples"] for line in lines)
    assert {line["batch"] for line in lines} == {16, 64}
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]  # it learns
    assert final["best"]["loss"] < 0.2
    assert (undisturbed / "recipe.toml").is_file()
    assert (undisturbed / "versions.json").is_file()
    assert read_checkpoint(undisturbed / "best").samples == final["best"]["samples"]


@pytest.mark.parametrize("segments", [2, 3])
def test_killed_and_resumed_a_run_ends_with_the_same_bits(undisturbed, tmp_path, segments):
    out = tmp_path / "run"
    resumed, kills = False, 0
    while True:
        try:
            run(out, resume=resumed, hooks=killed_after(segments))
            break
        except Killed:
            resumed, kills = True, kills + 1
            assert kills < 50
    assert kills >= 2
    assert final_of(out)["state_sha256"] == final_of(undisturbed)["state_sha256"]
    assert final_of(out)["best"] == final_of(undisturbed)["best"]
    exact = [{key: value for key, value in line.items() if key != "rows_per_s"} for line in metrics_of(out)]
    wanted = [{key: value for key, value in line.items() if key != "rows_per_s"} for line in metrics_of(undisturbed)]
    assert exact == wanted


PROGRAM = """
import sys
from pathlib import Path
from volgrad import runtime
runtime.use_double_precision()
runtime.enable_compilation_cache(Path(sys.argv[1]))
from tests.learning.test_run import run
run(Path(sys.argv[2]), resume=sys.argv[3] == "resume")
"""


def test_killed_by_the_system_while_it_writes_it_ends_with_the_same_bits(undisturbed, tmp_path):
    """SIGKILL as soon as another checkpoint appears, and then at the next one, and then let it end."""
    out, cache = tmp_path / "run", ROOT / ".cache" / "xla"
    for wanted in (2, 4):
        words = [sys.executable, "-c", PROGRAM, str(cache), str(out), "resume" if wanted > 2 else "new"]
        child = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            while child.poll() is None and not any((out / "checkpoints").glob(f"{wanted:06d}-*")):
                os.sched_yield()
            child.kill()
        finally:
            child.wait()
    run(out, resume=(out / "recipe.toml").exists())
    assert final_of(out)["state_sha256"] == final_of(undisturbed)["state_sha256"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(undisturbed, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        run(out, hooks=killed_after(3))
    newest = sorted((out / "checkpoints").glob("*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    notes: list[str] = []
    run(out, resume=True, hooks=Hooks(note=notes.append))
    assert any(newest.stem in note and "falls back" in note for note in notes)
    assert final_of(out)["state_sha256"] == final_of(undisturbed)["state_sha256"]


def test_a_checkpoint_of_another_recipe_is_refused_with_the_key_and_both_values(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", hooks=killed_after(1))
    with pytest.raises(ForeignError, match=r"optimizer\.learning_rate.*0\.01.*0\.02"):
        run(tmp_path / "run", recipe_of(optimizer={"learning_rate": 0.02}), resume=True)


def test_a_run_that_is_there_is_not_overwritten(undisturbed):
    with pytest.raises(InputError, match="resume"):
        run(undisturbed)


@pytest.mark.parametrize("kind", ["diverges", "is not finite"])
def test_a_run_that_cannot_be_saved_says_why_and_keeps_its_last_state(tmp_path, kind):
    recipe = {
        "diverges": recipe_of(optimizer={"learning_rate": 1e4, "clip_norm": 0.0, "name": "sgd"}),
        "is not finite": recipe_of(model={"explode": 1e4}),
    }[kind]
    with pytest.raises(WorkError, match="gave up; lower the learning rate"):
        run(tmp_path / "run", recipe)
    events = [line["event"] for line in metrics_of(tmp_path / "run") if line["event"]]
    assert len(events) == 6  # five roll-backs, then the end
    assert "roll-back 1 of 5" in events[0]
    state = read_checkpoint(tmp_path / "run")
    floats = [leaf.value for leaf in state.leaves.values() if np.issubdtype(leaf.value.dtype, np.floating)]
    assert all(np.isfinite(values).all() for values in floats)


def test_a_device_whose_memory_is_too_small_is_told_in_a_sentence(tmp_path):
    with pytest.raises(WorkError, match=r"out of memory .* with batches of 16 clusters: lower \[batch\] size"):
        run(tmp_path / "run", recipe_of(model={"needs": 1 << 57}))


def test_a_wild_rate_is_brought_down_by_roll_backs(tmp_path):
    wild = recipe_of(
        optimizer={"name": "sgd", "learning_rate": 20.0, "clip_norm": 0.0, "average": "none"},
        model={"norm": "none"},
        guard={"rollbacks": 12},
    )
    run(tmp_path / "run", wild)
    final = final_of(tmp_path / "run")
    assert final["rollbacks"] >= 1
    assert final["best"]["loss"] < 1.0


def test_seconds_become_samples_once_and_are_not_decided_again(tmp_path):
    recipe = recipe_of(budget={"seconds": 0.5}, batch={"clusters": 16})
    with pytest.raises(Killed):
        run(tmp_path / "run", recipe, hooks=killed_after(1))
    decided = read_checkpoint(tmp_path / "run").host["budget"]
    stages: list[str] = []
    run(tmp_path / "run", recipe, resume=True, hooks=Hooks(stage=stages.append))
    assert "timing" not in stages
    assert decided <= final_of(tmp_path / "run")["samples"] < decided + 16


@pytest.mark.parametrize(
    "tables",
    [
        {"batch": {"clusters": 16, "accumulate": 4}, "budget": {"samples": 8_000}},
        {"data": {"validation": 0.0}, "batch": {"clusters": 16}, "budget": {"samples": 8_000}},
        {
            "batch": {"clusters": 1},
            "budget": {"samples": 50},
            "model": {"norm": "renorm"},
            "evaluate": {"every": 10},
        },
        {"batch": {"clusters": 700}, "budget": {"epochs": 3.0}, "model": {"norm": "ghost"}},
        {"schedule": {"name": "plateau", "patience": 1}, "batch": {"clusters": 16}, "budget": {"samples": 8_000}},
        {
            "optimizer": {"name": "schedule-free", "average": "none"},
            "batch": {"clusters": 16},
            "budget": {"samples": 8_000},
        },
        {"batch": {"clusters": 32, "rows_per_cluster": 2}, "budget": {"samples": 7_936}},
        {
            "schedule": {"name": "warm-up-stable-decay", "warm_up": 1_000, "decay": 2_000},
            "batch": {"clusters": 16},
            "budget": {"samples": 8_000},
        },
        {
            "schedule": {"name": "one-cycle", "warm_up": 0.2},
            "batch": {"clusters": 16},
            "budget": {"samples": 8_000},
        },
    ],
    ids=[
        "accumulate",
        "no-validation",
        "one-row",
        "whole-data",
        "plateau",
        "schedule-free",
        "some-rows",
        "lengths-in-samples",
        "one-cycle",
    ],
)
def test_every_kind_of_recipe_runs_and_resumes_to_the_same_bits(tmp_path, tables):
    recipe = recipe_of(**tables)
    run(tmp_path / "one", recipe)
    with pytest.raises(Killed):
        run(tmp_path / "two", recipe, hooks=killed_after(2))
    run(tmp_path / "two", recipe, resume=True)
    assert final_of(tmp_path / "one")["state_sha256"] == final_of(tmp_path / "two")["state_sha256"]
    assert np.isfinite(metrics_of(tmp_path / "one")[-1]["loss"])


def test_accumulating_parts_of_a_batch_is_the_whole_batch_where_no_statistics_are_kept(tmp_path):
    small = {"model": {"norm": "none"}, "budget": {"samples": 2_000}, "optimizer": {"average": "none"}}
    for name, batch in (("whole", {"clusters": 16}), ("parts", {"clusters": 16, "accumulate": 4})):
        run(tmp_path / name, recipe_of(batch=batch, **small))
    whole, parts = (metrics_of(tmp_path / name)[-1]["validation_loss"] for name in ("whole", "parts"))
    assert parts == pytest.approx(whole, rel=1e-3)


def test_the_folder_may_be_moved(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", hooks=killed_after(2))
    shutil.move(tmp_path / "run", tmp_path / "moved")
    run(tmp_path / "moved", resume=True)
    assert final_of(tmp_path / "moved")["status"] == "done"
