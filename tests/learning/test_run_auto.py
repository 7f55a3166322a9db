"""Runs that find their batch size themselves: what they do follows from data, and so they resume to the same bits.

What the clock would tell (the ladder) is given as data; noise is measured on the run's own gradients.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.learning.studies import Waves, WaveTask
from tests.learning.test_run import Killed, final_of, killed_after, metrics_of
from volgrad.errors import InputError, WorkError
from volgrad.learning.batch_size.adaptation import Start, samples_for, time_probe
from volgrad.learning.batch_size.decision import Chosen, Decision
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batching.noise_scale import noise_scale
from volgrad.learning.batching.size_choice import Timed
from volgrad.learning.recipe import RawRecipe, resolve
from volgrad.learning.run import SILENT, Hooks, train
from volgrad.learning.training.checkpoint import read_checkpoint

TABLES = {
    "task": {"use": "waves"},
    "budget": {"samples": 4_000},
    "data": {"clusters": 240, "rows": 2},
    "batch": {"size": "auto"},
    "model": {"norm": "none"},
    "optimizer": {"learning_rate": 0.01},
    "evaluate": {"every": 0.1},
    "checkpoint": {"every_seconds": 0.0},
    "seed": 3,
}
#: Larger sizes take no longer.
FLAT = {32: 1e-2, 64: 1e-2, 128: 1e-2}
#: 32 is the best by far, whatever the noise.
STEEP = {32: 1e-4, 64: 1e-1}


def recipe_of(**tables):
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in TABLES.items()}
    for name, value in tables.items():
        merged[name] = merged.get(name, {}) | value if isinstance(value, dict) else value
        if name == "batch":
            merged[name] = {key: given for key, given in merged[name].items() if given is not None}
    return resolve(RawRecipe("waves.toml", merged, {}), Waves.Data, Waves.Model)


def noise_of(clusters: float, units: int = 64):
    """A noise scale of about so many clusters."""
    gradients = np.random.default_rng(0).standard_normal((units, 2000)) + math.sqrt(1.0 / clusters)
    return noise_scale(gradients @ gradients.T)


def start_of(first: int, seconds: dict[int, float], **more: Any) -> Start:
    return Start(first, tuple(Timed(size, 2 * size, step, 0.0, 0) for size, step in seconds.items()), **more)


def chooser(first: int, seconds: dict[int, float], rows: float = 2.0, probe_s: float = 0.0, alike: float = 1.0):
    """What `choose_size` would return, had it measured these seconds a step, and a noise scale of about 50 clusters."""

    def choose(subject, wish, *, tell):
        tell("choosing")
        ladder, chosen = start_of(first, seconds).ladder, Chosen(first, rows, round(first * rows))
        none, reason = tuple(0.0 for _ in ladder), f"Batches of {first} clusters."
        noise, objective = noise_of(50.0), wish.objective
        more = {"noise_s": probe_s, "alike": alike, "rows_drawn": int(rows) if wish.rows else None}
        return Decision(chosen, objective, ladder, none, none, noise, (), (), 0.0, 0.0, reason, **more)

    return choose


def run(out: Path, first: int, seconds: dict[int, float], recipe=None, study=None, hooks=SILENT, **how):
    choose = chooser(first, seconds, **how)
    return train(study or Waves(), recipe or recipe_of(), Path(), out, hooks=hooks, choose=choose)


def refuse(*_, **__):
    raise AssertionError("a run that is resumed does not choose again")


def without_clock(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "rows_per_s"} for line in lines]


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> Path:
    """A run whose size rises from 32 to 128 clusters."""
    out = tmp_path_factory.mktemp("auto") / "grown"
    notes: list[str] = []
    stages: list[str] = []
    run(out, 32, FLAT, hooks=Hooks(note=notes.append, stage=stages.append))
    (out / "told.json").write_text(json.dumps({"notes": notes, "stages": stages}))
    return out


def test_the_size_moves_along_the_ladder_and_says_why(grown):
    final, lines = final_of(grown), metrics_of(grown)
    told = json.loads((grown / "told.json").read_text())
    assert final["batch"]["first"] == 32
    assert final["batch"]["last"] == 128
    assert final["samples"] >= 4_000
    changes = final["batch"]["changes"]
    assert all(change["to"] > change["from"] for change in changes)
    for change in changes:
        assert "noise scale" in change["reason"]
        assert "learning rate x" in change["reason"]
        (line,) = [line for line in lines if line["samples"] == change["samples"]]
        assert line["event"] == change["reason"]
        assert any(change["reason"] in note for note in told["notes"])
        after = next(line for line in lines if line["samples"] > change["samples"])
        assert (line["batch"], after["batch"]) == (change["from"], change["to"])
    assert any("noise_clusters" in line for line in lines)
    assert json.loads((grown / "batch-size.json").read_text())["chosen"]["clusters"] == 32
    assert told["stages"].count("choosing the batch size") == 1
    assert told["stages"].count("compiling") > len(changes)  # each new size says so
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_learning_rate_moves_with_the_size_no_further_than_the_noise(grown):
    rungs = read_checkpoint(grown).host["batch"]["rungs"]
    for start, clusters, noise in rungs[1:]:
        line = next(line for line in metrics_of(grown) if line["samples"] > start and line["batch"] == clusters)
        cap = math.inf if noise is None else noise
        rate = 0.01 * math.sqrt(min(clusters, cap) / min(16, cap))  # 16: what the study says
        assert 0.0 < line["lr"] <= rate * (1.0 + 1e-6)
    assert any(noise is not None for _, _, noise in rungs)


def test_killed_and_resumed_it_changes_size_where_it_did_and_ends_with_the_same_bits(grown, tmp_path):
    out, resumed = tmp_path / "run", False
    while True:
        try:
            choose = refuse if resumed else chooser(32, FLAT)
            train(Waves(), recipe_of(), Path(), out, resume=resumed, hooks=killed_after(3), choose=choose)
            break
        except Killed:
            resumed = True
    assert final_of(out)["state_sha256"] == final_of(grown)["state_sha256"]
    assert final_of(out)["batch"]["changes"] == final_of(grown)["batch"]["changes"]
    assert without_clock(metrics_of(out)) == without_clock(metrics_of(grown))
    ours, theirs = (read_checkpoint(folder).host["batch"] for folder in (out, grown))
    assert repr({**ours, "probe_s": 0}) == repr({**theirs, "probe_s": 0})


def test_a_size_that_stays_is_the_run_of_that_size_bit_by_bit(tmp_path):
    fixed = recipe_of(batch={"size": None, "clusters": 32}, optimizer={"reference_batch": 16})
    run(tmp_path / "auto", 32, STEEP)
    train(Waves(), fixed, Path(), tmp_path / "fixed")
    assert final_of(tmp_path / "auto")["batch"]["changes"] == []
    assert any("noise_clusters" in line for line in metrics_of(tmp_path / "auto"))
    assert final_of(tmp_path / "auto")["state_sha256"] == final_of(tmp_path / "fixed")["state_sha256"]
    assert "batch" not in final_of(tmp_path / "fixed")
    assert not (tmp_path / "fixed" / "batch-size.json").exists()


def test_the_size_goes_down_too_and_stays_within_bounds(tmp_path):
    run(tmp_path / "down", 64, {16: 1e-5, 32: 1e-3, 64: 1e-2}, recipe_of(batch={"least": 32}))
    assert final_of(tmp_path / "down")["batch"]["last"] == 32


def test_probes_that_cost_too_much_are_left_out_and_it_says_so(tmp_path):
    run(tmp_path / "short", 64, FLAT, recipe_of(budget={"samples": 1_000}), probe_s=1.0)
    final = final_of(tmp_path / "short")
    assert final["batch"]["changes"] == []
    assert not any("noise_clusters" in line for line in metrics_of(tmp_path / "short"))
    assert any("more than a hundredth of this run" in note for note in final["notes"])


class Heavy(WaveTask):
    """No memory suits batches of 128 clusters or more."""

    def loss(self, variables, statistics, batch, key):
        losses, after = super().loss(variables, statistics, batch, key)
        if losses.shape[0] >= 128:
            losses = losses + jnp.cumsum(jnp.arange(1 << 57, dtype=losses.dtype) * losses[0])[5]
        return losses, after


class HeavyWaves(Waves):
    def task(self, model, image, train):
        task = super().task(model, image, train)
        assert isinstance(task, WaveTask)
        return Heavy(task.network)


def test_where_memory_does_not_suffice_it_goes_back_a_rung_and_no_larger(tmp_path):
    run(tmp_path / "run", 32, FLAT, study=HeavyWaves())
    final = final_of(tmp_path / "run")
    assert final["status"] == "done"
    assert final["batch"]["last"] == 64
    (lost,) = [change for change in final["batch"]["changes"] if "memory" in change["reason"]]
    assert "memory does not suffice for batches of 128 clusters: back to 64, and no larger" in lost["reason"]
    assert max(line["batch"] for line in metrics_of(tmp_path / "run")) == 64
    assert any(line["event"] and "memory" in line["event"] for line in metrics_of(tmp_path / "run"))


def test_where_not_even_the_smallest_fits_it_is_told_in_a_sentence(tmp_path):
    with pytest.raises(WorkError, match="out of memory with batches of 128 clusters, the smallest that may be taken"):
        run(tmp_path / "run", 128, {128: 1e-3}, study=HeavyWaves())


def test_rows_that_were_chosen_are_drawn_after_a_resumption_too(tmp_path):
    recipe = recipe_of(batch={"rows_per_cluster": "auto"}, budget={"samples": 1_000})
    with pytest.raises(Killed):
        run(tmp_path / "run", 32, STEEP, recipe, rows=1.0, hooks=killed_after(1))
    train(Waves(), recipe, Path(), tmp_path / "run", resume=True, choose=refuse)
    assert read_checkpoint(tmp_path / "run").host["order"]["rows_per_cluster"] == 1
    assert final_of(tmp_path / "run")["status"] == "done"


def test_clusters_that_are_worth_less_stretch_the_run_and_the_size_that_its_rate_is_meant_for(tmp_path):
    recipe = recipe_of(batch={"rows_per_cluster": "auto"}, budget={"samples": 1_000}, schedule={"name": "constant"})
    for name, alike in (("same", 1.0), ("twice", 2.0)):
        run(tmp_path / name, 32, STEEP, recipe, rows=1.0, alike=alike)
    same, twice = (final_of(tmp_path / name)["samples"] for name in ("same", "twice"))
    assert 1_900 <= twice <= 2_100
    assert same < 1_100
    rates = [metrics_of(tmp_path / name)[0]["lr"] for name in ("same", "twice")]
    assert rates[0] / rates[1] == pytest.approx(math.sqrt(2.0))  # Adam's rule: the root of the size over the reference


def test_a_run_that_is_rolled_back_decides_anew_and_resumes_to_the_same_bits(tmp_path):
    wild = recipe_of(
        optimizer={"name": "sgd", "learning_rate": 20.0, "clip_norm": 0.0},
        guard={"rollbacks": 12},
    )
    run(tmp_path / "one", 32, FLAT, wild)
    with pytest.raises(Killed):
        run(tmp_path / "two", 32, FLAT, wild, hooks=killed_after(3))
    train(Waves(), wild, Path(), tmp_path / "two", resume=True, choose=refuse)
    assert final_of(tmp_path / "one")["rollbacks"] >= 1
    assert final_of(tmp_path / "one")["state_sha256"] == final_of(tmp_path / "two")["state_sha256"]


def test_bounds_that_no_size_meets_are_refused(tmp_path):
    with pytest.raises(InputError, match="widen"):
        run(tmp_path / "run", 32, STEEP, recipe_of(batch={"least": 100}))


def test_seconds_become_samples_by_the_ladder_and_pay_for_the_probes():
    ladder = {16: 1e-3, 64: 2e-3}
    assert samples_for(10.0, start_of(16, ladder, probe_s=1.0)) == 160_000  # no probe is affordable
    assert samples_for(10.0, start_of(16, ladder, probe_s=0.02)) == 160_000 - 16 * 5 * 20  # five are
    choosing = start_of(16, ladder, probe_s=1.0, spent_s=5.0)
    assert samples_for(10.0, choosing) == 80_000
    assert samples_for(1.0, choosing) == 16  # one batch, however long the choosing took


def test_probes_are_as_small_as_a_short_run_can_afford(tmp_path):
    run(tmp_path / "run", 64, FLAT, recipe_of(budget={"samples": 1_000}), probe_s=0.0018)
    start = read_checkpoint(tmp_path / "run").host["batch"]["start"]
    assert 0 < start["probe_rows"] < 2 * 168
    assert 0.0 < start["probe_s"] < 0.0018
    assert sum("noise_clusters" in line for line in metrics_of(tmp_path / "run")) >= 2


def test_a_probe_is_timed_without_its_compilation():
    ticks = iter([0.0, 3.0, 5.0, 7.0])
    events: list[str] = []

    class Probe(NoiseProbe):
        def __init__(self):
            pass

        def compile(self, subject):
            events.append("compiled")

        def at(self, subject, position):
            events.append(f"at {position}")
            raise ValueError("a gradient is not finite")

    subject: Any = SimpleNamespace(state=SimpleNamespace(samples=7))
    assert time_probe(Probe(), subject, lambda: next(ticks)) == 2.0
    assert events == ["compiled", "at 7", "at 7"]


def test_what_a_run_begins_with_is_stored_exactly():
    ladder = (Timed(16, 48, 1.0 / 3.0, 0.0, 7), Timed(64, 192, math.nan, math.nan, 0, False, False))
    start = Start(16, ladder, 0.1, 48, 0.2, 0.3)
    again = Start.from_dict(json.loads(json.dumps(start.as_dict())))
    assert repr(again) == repr(start)
