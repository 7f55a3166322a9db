"""A run: from a recipe to a folder with a trained state, whatever happens on the way."""

import json
import time
from pathlib import Path
from typing import Any

import jax

from volgrad.errors import InputError, WorkError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batching.order import Blocks
from volgrad.learning.prepared import BlocksChoice, prepare, samples_in
from volgrad.learning.recipe import Recipe
from volgrad.learning.run_folder import RunFolder, run_folder
from volgrad.learning.run_loop import SILENT, Context, Hooks, Loop, Result, resumed, stored
from volgrad.learning.study import Study
from volgrad.learning.training.checkpoint import Loaded, read_checkpoint
from volgrad.learning.training.dispatch import Plan
from volgrad.learning.training.trainer import Trainer, first_progress
from volgrad.runtime import double_precision

__all__ = ["SILENT", "Hooks", "Result", "train"]


@double_precision()
def train(
    study: Study,
    recipe: Recipe,
    base: Path,
    out: Path,
    *,
    resume: bool = False,
    hooks: Hooks = SILENT,
    threads: int | None = None,
) -> Result:
    """Train, from the start or from the last checkpoint, and leave everything in the folder `out`.

    Killed at any moment and resumed, a run ends with the very bits of one that was not. On one machine, that is, and
    with one number of threads: sums in another order round otherwise.

    Raises:
        InputError: the recipe, its data, or the folder cannot be used.
        WorkError: the run diverged for good, or a file could not be written; the last checkpoint stays.
    """
    with run_folder(out, resume=resume) as folder:
        began = time.perf_counter()
        hooks.stage("reading data")
        prepared = prepare(study, recipe, base, folder.path / "image", _blocks_before(folder))
        try:
            told = {"recipe_folder": _recipe_folder(folder, base)} | ({} if threads is None else {"threads": threads})
            return _go(Context(prepared, folder, hooks, began), told)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise WorkError(
                f"{out}: out of memory on the device with batches of {prepared.clusters} clusters: lower "
                "[batch] size, or raise accumulate, and resume"
            ) from error
        finally:
            prepared.loader.close()


def _go(context: Context, told: dict[str, Any]) -> Result:
    """Set up or resume, then segment after segment to the end."""
    prepared, recipe = context.prepared, context.recipe
    loaded = _loaded(context)  # before anything is written: it may be of another recipe
    context.folder.begin(recipe.to_toml(), told)
    host: dict[str, Any] = loaded.host if loaded else {}
    budget = int(host.get("budget", 0)) or _budget(context)
    of = optimizers(recipe, budget, prepared.clusters)
    plan = Plan(prepared.rungs, budget, prepared.loader.rows, recipe.evaluate.samples(budget))
    trainer = Trainer(prepared.task, of, prepared.loader, plan, recipe.guard.rule)
    progress = first_progress(prepared.first_state(budget)) if loaded is None else resumed(loaded)
    validation = prepared.validation()
    context.hooks.stage("compiling")
    before = time.perf_counter()
    trainer.compile(progress.state)
    if validation is not None:
        validation.compile(prepared.task, of(prepared.clusters), progress.state)
    loop = Loop(context, trainer, validation, budget, host)
    loop.compile_s = float(host.get("compile_s", 0.0)) + time.perf_counter() - before
    if loaded is None:
        loop.save(progress)
    context.hooks.stage("training")
    with context.folder.metrics(int(progress.state.samples), int(host.get("lines", 0))) as metrics:
        return loop.run(progress, metrics)


def _recipe_folder(folder: RunFolder, base: Path) -> str:
    """Where relative paths in the recipe start from: of a run that is resumed, where they did at first."""
    try:
        return str(json.loads((folder.path / "versions.json").read_text())["recipe_folder"])
    except (OSError, ValueError, KeyError):
        return str(base.resolve())


def _loaded(context: Context) -> Loaded | None:
    if not context.folder.resumed:
        return None
    like = jax.eval_shape(lambda: stored(first_progress(context.prepared.first_state(2))))
    loaded = context.checkpoints.load(like, context.identity)
    for note in context.checkpoints.notes:
        context.note(note)
    return loaded


def _budget(context: Context) -> int:
    """Samples of the run; seconds are turned into samples once, by measurement."""
    table = context.recipe.budget
    if table.samples is not None:
        return table.samples
    if table.epochs is not None:
        return max(1, round(table.epochs * len(context.prepared.splits.train)))
    assert table.seconds is not None
    context.hooks.stage("timing")
    return samples_in(context.prepared, table.seconds)


def _blocks_before(folder: RunFolder) -> BlocksChoice:
    """The block-wise order of the run that is resumed, whatever memory is free now."""
    try:
        host = read_checkpoint(folder.checkpoints).host if folder.resumed else {}
    except InputError:  # none, or none sound: told where it is loaded
        return "auto"
    stored = host.get("order", {"blocks": "auto"})["blocks"]
    return Blocks(*stored) if isinstance(stored, list) else stored
