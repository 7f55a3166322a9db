"""A run: from a recipe to a folder with a trained state, whatever happens on the way."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from volgrad.errors import InputError, WorkError
from volgrad.learning.assemble import Optimizers, optimizers
from volgrad.learning.batch_size.adaptation import Adaptation, Start, affordable_rows, probe_of, samples_for, time_probe
from volgrad.learning.batch_size.chooser import Wish, choose_size
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.from_recipe import budget_of, subject_of
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batch_size.timing import out_of_memory
from volgrad.learning.batching.order import Blocks
from volgrad.learning.prepared import BlocksChoice, prepare
from volgrad.learning.recipe import Recipe
from volgrad.learning.run_folder import RunFolder, run_folder
from volgrad.learning.run_loop import SILENT, Context, Hooks, Loop, Result, resumed, stored
from volgrad.learning.study import Study
from volgrad.learning.training.checkpoint import Loaded, read_checkpoint
from volgrad.learning.training.dispatch import Plan, Rung
from volgrad.learning.training.trainer import Trainer, first_progress
from volgrad.runtime import double_precision

__all__ = ["SILENT", "Choose", "Hooks", "Result", "train"]

#: What finds a size: `(subject, wish, *, tell) -> decision`.
Choose = Callable[..., Decision]


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
    choose: Choose = choose_size,
) -> Result:
    """Train, from the start or from the last checkpoint, and leave everything in the folder `out`.

    With batch.size "auto", `choose` finds the first size; tests give one that times nothing.

    Killed at any moment and resumed, a run ends with the very bits of one that was not. On one machine, that is, and
    with one number of threads: sums in another order round otherwise.

    Raises:
        InputError: the recipe, its data, or the folder cannot be used.
        WorkError: the run diverged for good, or a file could not be written; the last checkpoint stays.
    """
    with run_folder(out, resume=resume) as folder:
        began = time.perf_counter()
        hooks.stage("reading data")
        blocks, rows = _order_before(folder)
        prepared = prepare(study, recipe, base, folder.path / "image", blocks, rows)
        try:
            told = {"recipe_folder": _recipe_folder(folder, base)} | ({} if threads is None else {"threads": threads})
            return _go(Context(prepared, folder, hooks, began), told, choose)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            size = f"with batches of {prepared.clusters} clusters: lower [batch] size, or raise accumulate, and resume"
            if recipe.batch.auto:
                size = "whatever the size: bound it by batch.most, draw fewer rows of a cluster, or use a smaller model"
            raise WorkError(f"{out}: out of memory on the device {size}") from error
        finally:
            prepared.loader.close()


def _go(context: Context, told: dict[str, Any], choose: Choose) -> Result:
    """Set up or resume, then segment after segment to the end."""
    prepared, recipe = context.prepared, context.recipe
    loaded = _loaded(context)  # before anything is written: it may be of another recipe
    context.folder.begin(recipe.to_toml(), told)
    host: dict[str, Any] = loaded.host if loaded else {}
    chosen = _chosen(context, host, choose) if recipe.batch.auto else None
    budget = int(host.get("budget", 0)) or (_budget(context) if chosen is None else chosen.budget)
    of = optimizers(recipe, budget, prepared.clusters, 1.0 if chosen is None else chosen.start.alike)
    rungs = prepared.rungs if chosen is None else [Rung(0, chosen.start.clusters)]
    plan = Plan(rungs, budget, prepared.loader.rows, recipe.evaluate.samples(budget))
    adaptation = None if chosen is None else _adaptation(chosen, context, of, plan, host)
    trainer = Trainer(prepared.task, of, prepared.loader, plan, recipe.guard.rule)
    progress = first_progress(prepared.first_state(budget)) if loaded is None else resumed(loaded)
    validation = prepared.validation()
    context.hooks.stage("compiling")
    before = time.perf_counter()
    if adaptation is None:
        trainer.compile(progress.state)
    if validation is not None:
        validation.compile(prepared.task, of(prepared.clusters), progress.state)
    loop = Loop(context, trainer, validation, budget, host, adaptation)
    loop.compile_s = float(host.get("compile_s", 0.0)) + time.perf_counter() - before
    if chosen is not None and chosen.decision is not None:
        loop.compile_s += chosen.decision.compile_s
    if loaded is None:
        loop.save(progress)
    context.hooks.stage("training")
    with context.folder.metrics(int(progress.state.samples), int(host.get("lines", 0))) as metrics:
        return loop.run(progress, metrics)


class _Chosen(NamedTuple):
    """What a run with batch.size "auto" begins with, or began with.

    start: size and ladder.
    budget: samples of the run.
    subject: for probes.
    probe: of the noise.
    decision: as it was made; None in a run that is resumed.
    """

    start: Start
    budget: int
    subject: Subject
    probe: NoiseProbe
    decision: Decision | None


def _chosen(context: Context, host: dict[str, Any], choose: Choose) -> _Chosen:
    """The first size: as it was chosen in the run that is resumed, else by measurement."""
    prepared, table, seconds = context.prepared, context.recipe.batch, context.recipe.budget.seconds
    if "batch" in host:
        budget = int(host["budget"])
        start = Start.from_dict(host["batch"]["start"])
        subject = subject_of(prepared, budget, start.alike)
        return _Chosen(start, budget, subject, probe_of(subject, start.probe_rows), None)
    budget = _budget(context)
    context.hooks.stage("choosing the batch size")
    subject = subject_of(prepared, budget)
    wish = Wish(table.objective or "time", table.bounds, rows=table.rows_per_cluster == "auto")
    decision = choose(subject, wish, tell=context.hooks.stage)
    if (drawn := decision.rows_drawn) is not None:
        told, budget = budget, max(1, round(budget * decision.alike))
        context.note(
            f"{drawn} of up to {prepared.loader.rows} rows are drawn of a cluster: {told:,} samples of all rows are "
            f"worth {budget:,} of these"
        )
        prepared.draw(drawn)
        subject = subject_of(prepared, budget, decision.alike)
    probe, start = _probing(decision, subject, budget if seconds is None else None, seconds)
    if seconds is not None:
        budget = samples_for(seconds, start)
    context.folder.write("batch-size.json", decision.to_dict())
    context.note(decision.reason)
    for note in decision.notes:
        context.note(note)
    return _Chosen(start, budget, subject, probe, decision)


def _probing(
    decision: Decision, subject: Subject, samples: int | None, seconds: float | None
) -> tuple[NoiseProbe, Start]:
    """A probe of the noise, as large as a run of so many samples or seconds can afford, and the start."""
    probe = probe_of(subject)
    probe_s = time_probe(probe, subject) if decision.noise_s is None else decision.noise_s
    step_s = next(rung.step_s_median for rung in decision.ladder if rung.clusters == decision.clusters)
    run_s = seconds if samples is None else samples / decision.clusters * step_s
    rows = affordable_rows(probe, subject, probe_s, run_s or 0.0)
    if rows is None:
        return probe, Start.of(decision, probe_s)
    smaller = probe_of(subject, rows)
    return smaller, Start.of(decision, probe_s * smaller.clusters / probe.clusters, rows)


def _adaptation(chosen: _Chosen, context: Context, of: Optimizers, plan: Plan, host: dict[str, Any]) -> Adaptation:
    made = Adaptation(chosen.start, chosen.subject, chosen.probe, of, context.recipe.batch, chosen.budget, plan)
    if chosen.decision is None:
        made.resume(host["batch"])
        return made
    made.begin(chosen.decision.noise)
    for note in made.notes():
        context.note(note)
    return made


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
    if context.recipe.budget.seconds is not None:
        context.hooks.stage("timing")
    return budget_of(context.prepared)


def _order_before(folder: RunFolder) -> tuple[BlocksChoice, int | None]:
    """The block-wise order and the rows a cluster of the run that is resumed, whatever memory is free now."""
    try:
        host = read_checkpoint(folder.checkpoints).host if folder.resumed else {}
    except InputError:  # none, or none sound: told where it is loaded
        return "auto", None
    order = host.get("order", {"blocks": "auto", "rows_per_cluster": None})
    blocks = order["blocks"]
    return Blocks(*blocks) if isinstance(blocks, list) else blocks, order["rows_per_cluster"]
