"""Workloads as volgrad's own users run them: a size chosen by `choose_size`, and whole runs with `size = "auto"`.

A workload becomes a study, and its run is `volgrad train`'s. The budget is what a user would plan who knows the
customary batch: twice the samples that it needs at its best rate for the target.
"""

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from benchmarks.batch_size_runs import crossing, smoothed
from benchmarks.batch_size_workloads import Workload, metric_of
from volgrad.learning.batch_size.chooser import Effort, Wish, choose_size
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.from_recipe import subject_of
from volgrad.learning.batching.size_choice import Bounds
from volgrad.learning.prepared import Prepared, prepare
from volgrad.learning.recipe import RawRecipe, Recipe, resolve
from volgrad.learning.run import Hooks
from volgrad.learning.run import train as run
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.checkpoint import read_checkpoint

BUDGET = 2.0  # of what the customary batch needs
ASKED = Effort(1.0, 1.5, 2.5)  # a run of less than a second is left alone where no seconds of probing are asked for
_DAY = "1d"


class AutoRun(NamedTuple):
    """A run that chooses for itself.

    steps: taken at each size until the target; empty where it was not reached.
    probe_s: of everything that was run only to choose, before the first step and on the way.
    run_s: of a run over the whole budget, by the chooser's own prediction.
    least: of the metric, smoothed.
    """

    steps: dict[int, float]
    probe_s: float
    run_s: float
    least: float = math.nan


class _Arrived(KeyboardInterrupt):
    """The target was reached: the rest of the run is of no interest. The run stores what it knows, as for Ctrl-C."""


def recipe_of(
    workload: Workload, rate: float, samples: int, seed: int, clusters: int | None = None
) -> tuple[Study, Recipe]:
    """A workload as a study, and a recipe for it, in batches of so many clusters or of a size that it finds itself."""

    class Told(Study):
        name: ClassVar[str] = "workload"
        Data: ClassVar[type[StudyData]] = StudyData
        Model: ClassVar[type[StudyModel]] = StudyModel
        clusters: ClassVar[int] = min(workload.clusters, len(workload.train))

        def image(self, data: Any, base: Path, folder: Path) -> Any:
            del data, base, folder
            return workload.image

        def task(self, model: Any, image: Any, train: range) -> Any:
            del model, image
            if train != workload.train:
                raise ValueError(f"{workload.name}: the recipe's training split is {train}, not {workload.train}")
            return workload.task

    tables = {
        "task": {"use": "workload"},
        "data": {"test": 0.0, **_split_of(workload)},
        "optimizer": {
            "name": workload.optimizer,
            "learning_rate": rate,
            "clip_norm": workload.clip or 0.0,
            "reference_batch": Told.clusters,
        },
        "schedule": {"name": "constant"},
        "batch": {"clusters": clusters} if clusters else {"size": "auto", "most": workload.sizes()[-1]},
        "budget": {"samples": samples},
        "evaluate": {"every": 0.01},
    }
    if workload.rows_per_cluster is not None:
        tables["batch"]["rows_per_cluster"] = workload.rows_per_cluster
    return Told(), resolve(RawRecipe("workload", tables | {"seed": seed}, {}), StudyData, StudyModel)


def decide(workload: Workload, rate: float, samples: int, seed: int, effort: Effort = ASKED) -> Decision:
    """What the chooser says before a run of so many samples, asked as `volgrad batch-size` asks it."""
    study, recipe = recipe_of(workload, rate, samples, seed)
    with tempfile.TemporaryDirectory() as folder:
        prepared: Prepared = prepare(study, recipe, Path(), Path(folder))
        try:
            wish = Wish(bounds=Bounds(1, workload.sizes()[-1]))
            return choose_size(subject_of(prepared, samples), wish, effort)
        finally:
            prepared.loader.close()


def auto_run(
    workload: Workload, target: float, rate: float, samples: int, seed: int, clusters: int | None = None
) -> AutoRun:
    """A run with `size = "auto"`, or of a fixed size, until the workload's metric is at the target.

    The rate is meant for the customary size; a fixed size has what the rules make of it.
    """
    study, recipe = recipe_of(workload, rate, samples, seed, clusters)
    seen: list[tuple[int, int, float]] = []
    metric: list[Any] = []
    arrived: list[float] = []
    decisions: list[Decision] = []

    def look(done: int, total: int, segment: Any) -> None:
        del total
        state = segment.progress.state
        if not metric:
            metric.append(jax.jit(lambda v, s, k: metric_of(workload, workload.task, v, s, k, workload.validation)))
        seen.append((done, segment.clusters, float(metric[0](state.variables, state.statistics, state.key))))
        at = crossing(np.array([one[0] for one in seen], float), np.array([one[2] for one in seen]), target)
        if math.isfinite(at) and done > 1.2 * at:  # the smoothing has seen what comes after
            arrived.append(at)
            raise _Arrived

    def choose(subject: Any, wish: Wish, **settings: Any) -> Decision:
        decisions.append(choose_size(subject, wish, **settings))
        return decisions[-1]

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with contextlib.suppress(_Arrived):
            run(study, recipe, Path(), out, hooks=Hooks(step=look), choose=choose)
        host = read_checkpoint(out).host.get("batch")
    if not arrived:
        metrics = np.array([one[2] for one in seen])
        arrived.append(crossing(np.array([one[0] for one in seen], float), metrics, target))
    probe_s = float(host["start"]["spent_s"] + host["probe_s"]) if host else 0.0
    predicted_s = min(decisions[0].predicted_s) if decisions else math.nan
    curve = smoothed(np.array([one[0] for one in seen], float), np.array([one[2] for one in seen]))
    return AutoRun(steps_by_size(seen, arrived[0]), probe_s, predicted_s, float(curve.min()))


def steps_by_size(seen: list[tuple[int, int, float]], samples: float) -> dict[int, float]:
    """Steps taken at each size until so many samples were seen; none where that is never.

    >>> steps_by_size([(100, 10, 1.0), (300, 20, 0.5)], 200.0)
    {10: 10.0, 20: 5.0}
    """
    if not math.isfinite(samples):
        return {}
    found: dict[int, float] = {}
    before = 0
    for done, clusters, _ in seen:
        taken = min(done, samples) - before
        if taken <= 0:
            break
        found[clusters] = found.get(clusters, 0.0) + taken / clusters
        before = done
    return found


def _split_of(workload: Workload) -> dict[str, Any]:
    """The keys of `[data]` that lead to the workload's own split."""
    clusters, train = workload.image.clusters, len(workload.train)
    if train == clusters:
        return {"validation": 0.0}
    if abs(train / clusters - 0.8) < 0.02:
        purged = train < round(0.8 * clusters) - 1
        return {"validation": 0.2} | ({"purge": _DAY} if purged else {})
    return {"validation": (clusters - train) / clusters}
