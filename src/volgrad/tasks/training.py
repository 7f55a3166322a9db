"""Training by recipe: the study that a recipe names, its run, and its learning-rate range test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from volgrad.learning.assemble import optimizers
from volgrad.learning.batching.loader import batch_of
from volgrad.learning.prepared import prepare, unscheduled
from volgrad.learning.recipe import Recipe, read_recipe, resolve
from volgrad.learning.run import SILENT, Hooks, Result
from volgrad.learning.run import train as run
from volgrad.learning.study import Study
from volgrad.learning.training.range_test import RangeTest, range_test
from volgrad.runtime import double_precision
from volgrad.tasks.studies import find_study

__all__ = ["Plan", "lr_range", "read_plan", "train"]


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
