"""Training by recipe: the study that a recipe names, its run, what it left, its learning-rate range test, and the
batch size that serves it best.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from volgrad.errors import InputError, UnknownOptionError, WorkError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batch_size.chooser import Effort, Wish, choose_size
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.from_recipe import bounds_for, budget_of, notes_of, subject_of
from volgrad.learning.batch_size.timing import out_of_memory
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.batching.size_choice import OBJECTIVES, Objective
from volgrad.learning.prepared import Prepared, prepare, unscheduled
from volgrad.learning.recipe import Recipe, read_recipe, resolve
from volgrad.learning.run import SILENT, Hooks, Result
from volgrad.learning.run import train as run
from volgrad.learning.study import Study
from volgrad.learning.training.checkpoint import read_checkpoint
from volgrad.learning.training.range_test import RangeTest, range_test
from volgrad.learning.training.state import State
from volgrad.learning.training.task import Task
from volgrad.learning.training.trainer import Validation
from volgrad.runtime import double_precision
from volgrad.tasks.studies import find_study

__all__ = ["Plan", "Trained", "batch_size", "load_run", "lr_range", "read_plan", "train"]


@dataclass(frozen=True)
class Plan:
    """A recipe in full, and the study that it names.

    Attributes:
        study: what is learned, and from what.
        recipe: every key.
        base: folder that relative paths in the recipe start from.
    """

    study: Study
    recipe: Recipe
    base: Path


def read_plan(recipe: str | Path, settings: Sequence[str] = ()) -> Plan:
    """Read a recipe, and find the study that it names.

    Args:
        recipe: the file.
        settings: `key=value` each, in place of what the file says ("batch.size=128").

    Raises:
        InputError: it cannot be read, or names what is not there; the message says which key, and what to do.
    """
    raw = read_recipe(recipe, list(settings))
    study = find_study(raw.use, raw.base)
    return Plan(study, resolve(raw, study.Data, study.Model), raw.base)


def train(
    recipe: str | Path,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    hooks: Hooks = SILENT,
    threads: int | None = None,
) -> Result:
    """Train what a recipe says into the folder `out`.

    Killed at any moment and resumed, a run ends with the same bits as one that was not.

    Args:
        recipe: the file (docs/training.md).
        out: folder of the run: recipe.toml, metrics.jsonl, checkpoints, final.json.
        settings: `key=value` each, in place of what the file says.
        resume: go on with the run that is in `out`.
        hooks: told of progress.
        threads: that the process was held to, for the record.

    Raises:
        InputError: the recipe, its data or the folder cannot be used.
        WorkError: the run diverged for good, or a file could not be written.
    """
    plan = read_plan(recipe, settings)
    return run(plan.study, plan.recipe, plan.base, Path(out), resume=resume, hooks=hooks, threads=threads)


@dataclass(frozen=True)
class Trained:
    """What a run has learned, ready to be used.

    Attributes:
        prepared: recipe, data, splits and task of the run.
        state: the best by validation, or the last.
        variables: that serve: averaged ones where the recipe says so.
        statistics: of its normalisation.
    """

    prepared: Prepared
    state: State
    variables: PyTree
    statistics: PyTree

    @property
    def task(self) -> Task:
        """What was learned: for the studies that come with volgrad its `network` answers for rows of its inputs."""
        return self.prepared.task

    @double_precision()
    def evaluate(self, split: Literal["train", "validation", "test"] = "test") -> dict[str, float]:
        """Metrics on up to 65,536 rows of a split, drawn by the recipe's seed; `test` was never looked at before.

        Raises:
            InputError: the recipe keeps no cluster for it.
        """
        clusters = getattr(self.prepared.splits, split)
        if not len(clusters):
            raise InputError(f"the recipe keeps no cluster for {split}: data.{split} = 0")
        loader = Loader(self.prepared.image, clusters, self.prepared.recipe.seed, blocks=None)
        try:
            held = Validation(loader)
        finally:
            loader.close()
        optimizer = optimizers(unscheduled(self.prepared.recipe), 2, self.prepared.clusters)(self.prepared.clusters)
        held.compile(self.prepared.task, optimizer, self.state)
        return held.metrics(self.prepared.task, optimizer, self.state)


@double_precision()
def load_run(run: str | Path, *, last: bool = False) -> Trained:
    """What `volgrad train` left in a folder.

    The data are read again (the training image is kept in the folder), as the task takes its scaling from them.

    Args:
        run: the folder.
        last: take the last state instead of the best by validation.

    Raises:
        InputError: no run is there, its data are gone, or no checkpoint of it is sound.

    >>> trained = load_run("run")                           # doctest: +SKIP
    >>> trained.evaluate("test")                            # doctest: +SKIP
    {'loss': 0.41, 'inside': 0.76, 'rmse_vol_points': 1.6}
    """
    folder = Path(run)
    if not (folder / "recipe.toml").is_file():
        raise InputError(f"{folder}: no run is here; name the folder that `volgrad train --out` wrote.", file=folder)
    raw = read_recipe(folder / "recipe.toml")
    base = Path(json.loads((folder / "versions.json").read_text())["recipe_folder"])
    study = find_study(raw.use, base)
    prepared = prepare(study, resolve(raw, study.Data, study.Model), base, folder / "image", None)
    prepared.loader.close()
    best = folder / "best"
    found = read_checkpoint(folder if last or not any(best.glob("*.json")) else best)
    like = prepared.first_state(2)
    parts = {name: found.part(f".{name}", getattr(like, name)) for name in ("variables", "statistics", "optimizer")}
    state = State(**parts, key=like.key, samples=jnp.asarray(found.samples))
    optimizer = optimizers(unscheduled(prepared.recipe), 2, prepared.clusters)(prepared.clusters)
    return Trained(prepared, state, optimizer.serving(state), state.statistics)


@double_precision()
def lr_range(
    plan: Plan, image_folder: Path, *, lowest: float, highest: float, steps: int, hooks: Hooks = SILENT
) -> RangeTest:
    """The learning-rate range test of a recipe, from its first state, on the first batches of its training split.

    Rates are those of the recipe's `optimizer.learning_rate`: what `scale_with_batch` makes of them is a step's.

    Args:
        plan: from `read_plan`.
        image_folder: where a training image may be kept.
        lowest, highest: rates of the first and the last step.
        steps: one batch each.
        hooks: told of the stages.

    Raises:
        InputError: the recipe or its data cannot be used, or the rates are out of order.
    """
    hooks.stage("reading data")
    recipe = unscheduled(plan.recipe)
    prepared = prepare(plan.study, recipe, plan.base, image_folder)
    try:
        hooks.stage("testing rates")
        stack = prepared.loader.stack(0, steps, prepared.clusters)
        state = prepared.first_state(steps * prepared.clusters)
        optimizer = optimizers(recipe, steps * prepared.clusters, prepared.clusters)(prepared.clusters)
        unit = float(optimizer.hyper.learning_rate / recipe.optimizer.hyper["learning_rate"])
        device = jax.tree.map(jax.device_put, stack)
        return range_test(prepared.task, optimizer, state, device, lambda part: batch_of(*part), lowest, highest, unit)
    finally:
        prepared.loader.close()


@double_precision()
def batch_size(
    plan: Plan,
    image_folder: Path,
    *,
    objective: Objective | None = None,
    least: int | None = None,
    most: int | None = None,
    effort: Effort | None = None,
    hooks: Hooks = SILENT,
) -> Decision:
    """The batch size that serves a recipe best, from its first state on; nothing is trained.

    Args:
        plan: from `read_plan`; what it says of the size is what its learning rate is meant for.
        image_folder: where a training image may be kept.
        objective: what counts; by default what the recipe says, else "time".
        least, most: clusters a batch that may be chosen; by default what the recipe says, else any.
        effort: seconds of probing, compilation and reading apart; by default what the run is worth.
        hooks: told of the stages.

    Raises:
        InputError: the recipe, its data, the objective or the bounds cannot be used, or no size fits into memory.
        WorkError: memory does not suffice even for looking at gradients.
    """
    table = plan.recipe.batch
    objective = objective or table.objective or "time"
    if objective not in OBJECTIVES:
        raise UnknownOptionError.of("objective", objective, OBJECTIVES)
    bounds = bounds_for(table.bounds.least if least is None else least, table.bounds.most if most is None else most)
    hooks.stage("reading data")
    prepared = prepare(plan.study, plan.recipe, plan.base, image_folder)
    try:
        bounds = bounds_for(bounds.least, bounds.most, len(prepared.splits.train))
        subject = subject_of(prepared, budget_of(prepared))
        wish = Wish(objective, bounds, rows=table.rows_per_cluster == "auto")
        found = choose_size(subject, wish, effort, tell=hooks.stage)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise WorkError(
            "out of memory on the device while gradients were looked at: lower batch.rows_per_cluster, or take a "
            "smaller model"
        ) from error
    finally:
        prepared.loader.close()
    return dataclasses.replace(found, notes=(*prepared.notes(), *notes_of(prepared), *found.notes))
