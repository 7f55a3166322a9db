"""A run: from a recipe to a folder with a trained state, whatever happens on the way."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from volgrad.data.image import Image
from volgrad.errors import InputError, WorkError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.order import Blocks
from volgrad.learning.batching.splits import Splits
from volgrad.learning.recipe import Recipe
from volgrad.learning.run_folder import Metrics, RunFolder, run_folder
from volgrad.learning.study import Study
from volgrad.learning.training.checkpoint import Checkpoints, Loaded, read_checkpoint
from volgrad.learning.training.dispatch import Plan, Rung
from volgrad.learning.training.guard import Action, Guard
from volgrad.learning.training.leaves import state_sha256, strong
from volgrad.learning.training.loop import begin
from volgrad.learning.training.schedules import Plateau
from volgrad.learning.training.state import State
from volgrad.learning.training.trainer import Progress, Segment, Trainer, Validation, first_progress, scaled
from volgrad.runtime import double_precision

__all__ = ["Hooks", "Prepared", "Result", "prepare", "train"]

_SEGMENT_DISPATCHES = 32
_SEGMENTS = 100  # a run has at least so many, where it has as many dispatches: for the curve, and for progress
_PROBE_S = 0.5  # of steps that are timed to turn a budget of seconds into samples
_BEST = "best"

BlocksChoice = Blocks | Literal["auto"] | None


def _silent(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Hooks:
    """What is told while a run goes on.

    stage: name of what begins now ("reading data", "compiling", "training").
    step: samples done so far, of how many, and the last segment.
    note: a sentence worth reading.
    """

    stage: Callable[[str], None] = _silent
    step: Callable[[int, int, Segment], None] = _silent
    note: Callable[[str], None] = _silent


@dataclass
class Result:
    """How a run ended.

    status: "done", "stalled" (no progress after all remedies), or "no better" (evaluate.patience).
    final: what `final.json` holds.
    notes: sentences on what was out of the ordinary.
    """

    status: str
    final: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass
class Prepared:
    """All that a run needs before its first step; made by `prepare`.

    image, splits: the data, and how they are divided.
    loader: of the training split.
    task: what is learned.
    clusters: of the first batches.
    rungs: batch sizes by the position where they begin.
    """

    recipe: Recipe
    image: Image
    splits: Splits
    loader: Loader
    task: Any
    clusters: int
    rungs: list[Rung]

    def validation(self) -> Validation | None:
        """What is evaluated on; None where the recipe keeps nothing for it."""
        if not len(self.splits.validation):
            return None
        loader = Loader(self.image, self.splits.validation, self.recipe.seed, blocks=None)
        try:
            return Validation(loader)
        finally:
            loader.close()

    def first_state(self, budget: int) -> State:
        """The state before the first step."""
        optimizer = optimizers(self.recipe, budget, self.clusters)(self.clusters)
        return strong(begin(self.task, optimizer, jax.random.key(self.recipe.seed)))


def prepare(study: Study, recipe: Recipe, base: Path, folder: Path, blocks: BlocksChoice = "auto") -> Prepared:
    """Data, splits and task of a recipe.

    Args:
        study: what the recipe names.
        recipe: in full.
        base: folder that relative paths in the recipe start from.
        folder: where a training image may be kept.
        blocks: of the block-wise order; a resumed run gives what it had.

    Raises:
        InputError: data that cannot be used, or too few.
    """
    image = study.image(recipe.data, base, folder)
    data = recipe.data
    splits = Splits.forward(
        image.start_us,
        image.known_us,
        validation=data.validation,
        test=data.test,
        purge_us=data.purge_us,
        embargo_us=data.embargo_us,
    )
    loader = Loader(image, splits.train, recipe.seed, recipe.batch.rows_per_cluster, blocks=blocks)
    rungs = [Rung(*rung) for rung in recipe.batch.rungs(loader.rows, study.clusters)]
    for rung in rungs:
        if rung.clusters % recipe.batch.accumulate:
            raise InputError(
                f"batch.accumulate = {recipe.batch.accumulate} does not divide a batch of {rung.clusters} clusters: "
                "choose one that does"
            )
    task = study.task(recipe.model, image, splits.train)
    return Prepared(recipe, image, splits, loader, task, rungs[0].clusters, rungs)


@double_precision()
def train(
    study: Study,
    recipe: Recipe,
    base: Path,
    out: Path,
    *,
    resume: bool = False,
    hooks: Hooks = Hooks(),
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
        hooks.stage("reading data")
        run = _Run(study, recipe, base, folder, hooks)
        try:
            folder.begin(recipe.to_toml(), {"threads": threads})
            return run.go()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise WorkError(
                f"{out}: out of memory on the device with batches of {run.prepared.clusters} clusters: lower "
                "[batch] size, or raise accumulate, and resume"
            ) from error
        finally:
            run.prepared.loader.close()


class _Run:
    """One call of `train`."""

    def __init__(self, study: Study, recipe: Recipe, base: Path, folder: RunFolder, hooks: Hooks) -> None:
        self.recipe, self.folder, self.hooks = recipe, folder, hooks
        self.began = time.perf_counter()
        self.notes: list[str] = []
        self.checkpoints = Checkpoints(folder.checkpoints, recipe.checkpoint.keep)
        self.best_checkpoints = Checkpoints(folder.path / _BEST, 1)
        self.prepared = prepare(study, recipe, base, folder.path / "image", _blocks_before(folder))
        self.identity = recipe.identity() | {"image": self.prepared.image.digest}
        if self.prepared.loader.note:
            self.note(self.prepared.loader.note)

    def go(self) -> Result:
        """Set up or resume, then segment after segment to the end."""
        prepared, recipe = self.prepared, self.recipe
        loaded = self._loaded()
        host: dict[str, Any] = loaded.host if loaded else {}
        budget = int(host.get("budget", 0)) or self._budget()
        of = optimizers(recipe, budget, prepared.clusters)
        trainer = Trainer(
            prepared.task,
            of,
            prepared.loader,
            Plan(prepared.rungs, budget, prepared.loader.rows, recipe.evaluate.samples(budget)),
            recipe.guard.rule,
        )
        state = prepared.first_state(budget) if loaded is None else loaded.state
        validation = prepared.validation()
        self.hooks.stage("compiling")
        before = time.perf_counter()
        trainer.compile(state)
        if validation is not None:
            validation.compile(prepared.task, of(prepared.clusters), state)
        loop = _Loop(self, trainer, validation, budget, host)
        loop.compile_s = float(host.get("compile_s", 0.0)) + time.perf_counter() - before
        progress = first_progress(state)
        if loaded is not None:
            progress = Progress(state, Guard.from_dict(host["guard"]), int(host["step"]))
        else:
            loop.save(progress)
        self.hooks.stage("training")
        with self.folder.metrics(int(progress.state.samples)) as metrics:
            return loop.run(progress, metrics)

    def _loaded(self) -> Loaded | None:
        if not self.folder.resumed:
            return None
        like = jax.eval_shape(lambda: self.prepared.first_state(2))
        loaded = self.checkpoints.load(like, self.identity)
        for note in self.checkpoints.notes:
            self.note(note)
        return loaded

    def _budget(self) -> int:
        """Samples of the run; seconds are turned into samples once, by timing steps whose results are thrown away."""
        table, train = self.recipe.budget, self.prepared.splits.train
        if table.samples is not None:
            return table.samples
        if table.epochs is not None:
            return max(1, round(table.epochs * len(train)))
        assert table.seconds is not None
        self.hooks.stage("timing")
        return self._samples_in(table.seconds)

    def _samples_in(self, seconds: float) -> int:
        prepared, left, samples = self.prepared, seconds, 0
        far = 1 << 62
        for place, rung in enumerate(prepared.rungs):
            plan = Plan([Rung(0, rung.clusters)], far, prepared.loader.rows)
            of = optimizers(self.recipe, 1_000_000, prepared.clusters)
            trainer = Trainer(prepared.task, of, prepared.loader, plan, self.recipe.guard.rule)
            progress = first_progress(prepared.first_state(1_000_000))
            dispatches, rate = 1, 0.0
            trainer.segment(progress, 1)  # compiles
            while True:
                spent = trainer.segment(progress, dispatches).seconds
                rate = dispatches * plan.steps(rung.clusters) * rung.clusters / spent
                if spent >= min(_PROBE_S, 0.2 * seconds):
                    break
                dispatches *= 2
            last = place + 1 == len(prepared.rungs)
            span = far if last else prepared.rungs[place + 1].start - rung.start
            taken = min(span, max(1, int(rate * left)))
            samples, left = samples + taken, left - taken / rate
            if left <= 0.0 or taken < span:
                break
        return max(samples, prepared.clusters)

    def note(self, text: str) -> None:
        """Tell a sentence, and keep it."""
        self.notes.append(text)
        self.hooks.note(text)


def _blocks_before(folder: RunFolder) -> BlocksChoice:
    """The block-wise order of the run that is resumed, whatever memory is free now."""
    try:
        host = read_checkpoint(folder.checkpoints).host if folder.resumed else {}
    except InputError:  # none, or none sound: told where it is loaded
        return "auto"
    stored = host.get("order", {"blocks": "auto"})["blocks"]
    return Blocks(*stored) if isinstance(stored, list) else stored


class _Loop:
    """Segments of a run, and what is done between them."""

    def __init__(
        self, run: _Run, trainer: Trainer, validation: Validation | None, budget: int, host: dict[str, Any]
    ) -> None:
        self.run_, self.trainer, self.validation, self.budget = run, trainer, validation, budget
        self.recipe = recipe = run.recipe
        self.compile_s = 0.0
        self.spent = float(host.get("wall_s", 0.0))
        self.best: dict[str, float] | None = host.get("best")
        self.evaluated, self.quiet = int(host.get("evaluated", 0)), int(host.get("quiet", 0))
        self.plateau = Plateau(*host["plateau"]) if "plateau" in host else Plateau()
        self.plateau_rule = recipe.schedule.plateau
        self.every = recipe.evaluate.samples(budget)
        self.optimizer = optimizers(recipe, budget, run.prepared.clusters)(run.prepared.clusters)
        self.saved = time.perf_counter()
        self.unsaved_best: State | None = None
        self.stored = -1
        whole = trainer.plan.steps(run.prepared.clusters) * run.prepared.clusters
        self.dispatches = int(np.clip(budget // whole // _SEGMENTS, 1, _SEGMENT_DISPATCHES))

    def run(self, progress: Progress, metrics: Metrics) -> Result:
        """To the end of the plan, or to where the guard or `evaluate.patience` ends it."""
        status = "done"
        while status == "done" and self.trainer.plan.next(position := int(progress.state.samples)) is not None:
            segment = self.trainer.segment(progress, self.dispatches)
            progress = segment.progress
            if segment.action is not Action.GO_ON:
                self.run_.note(segment.message)
            if segment.action is Action.GIVE_UP:
                if int(progress.state.samples) == position:
                    self._tell(metrics, progress, segment, segment.message, {})
                    self.save(progress)
                    raise WorkError(f"{self.run_.folder.path}: {segment.message}")
                status = "stalled"
            found, event = self._evaluated(progress, segment), segment.message
            if found and (factor := self._plateau(found["loss"])) != 1.0:
                progress = scaled(progress, factor)
                cut = f"no better validation loss in {self.plateau_rule.patience} evaluations: the rate is cut"
                self.run_.note(cut)
                event = f"{event}; {cut}" if event else cut
            self._tell(metrics, progress, segment, event or None, found)
            if self.recipe.evaluate.patience and self.quiet >= self.recipe.evaluate.patience:
                status = "no better"
            if time.perf_counter() - self.saved >= self.recipe.checkpoint.every_seconds:
                self.save(progress)
            self.run_.hooks.step(int(progress.state.samples), self.budget, segment)
        return self._finished(progress, status)

    def _evaluated(self, progress: Progress, segment: Segment) -> dict[str, float]:
        """Metrics where an evaluation is due."""
        samples = int(progress.state.samples)
        due = samples - self.evaluated >= self.every or samples >= self.budget or segment.action is Action.GIVE_UP
        if self.validation is None or not due or samples == self.evaluated:
            return {}
        self.evaluated = samples
        metrics = self.validation.metrics(self.run_.prepared.task, self.optimizer, progress.state)
        better = metrics["loss"] < (self.best["loss"] if self.best else float("inf"))
        self.quiet = 0 if better else self.quiet + 1
        if better:
            self.best = {"samples": samples} | metrics
            self.unsaved_best = progress.state  # held, not copied: what is donated is a copy
        return metrics

    def _plateau(self, loss: float) -> float:
        """By how much a plateau cuts the rate."""
        if self.recipe.schedule.name != "plateau":
            return 1.0
        before, self.plateau = self.plateau, self.plateau.after(loss, self.plateau_rule)
        return self.plateau.scale / before.scale

    def _tell(
        self, metrics: Metrics, progress: Progress, segment: Segment, event: str | None, found: dict[str, float]
    ) -> None:
        validation = {f"validation_{name}": value for name, value in found.items()}
        metrics.write(
            samples=int(progress.state.samples),
            step=progress.step,
            loss=segment.loss,
            lr=segment.learning_rate,
            batch=segment.clusters,
            rows_per_s=segment.rows / max(segment.seconds, 1e-9),
            event=event,
            gradient_norm=segment.gradient_norm,
            refused=segment.refused,
            **validation,
        )

    def host(self, progress: Progress) -> dict[str, Any]:
        """What a checkpoint holds beside the state."""
        return {
            "budget": self.budget,
            "guard": progress.guard.as_dict(),
            "step": progress.step,
            "plateau": list(self.plateau),
            "best": self.best,
            "evaluated": self.evaluated,
            "quiet": self.quiet,
            "wall_s": self.spent + time.perf_counter() - self.run_.began,
            "compile_s": self.compile_s,
            "order": self.run_.prepared.loader.identity(),
        }

    def save(self, progress: Progress) -> None:
        """Store a checkpoint, and before it the best state so far."""
        samples = int(progress.state.samples)
        if self.unsaved_best is not None:
            best, host = int(self.unsaved_best.samples), self.host(progress)
            self.run_.best_checkpoints.save(best, self.unsaved_best, host, self.run_.identity)
            self.unsaved_best = None
        self.run_.checkpoints.save(samples, progress.state, self.host(progress), self.run_.identity)
        self.saved, self.stored = time.perf_counter(), samples

    def _finished(self, progress: Progress, status: str) -> Result:
        if self.stored != int(progress.state.samples):
            self.save(progress)
        final = {
            "state_sha256": state_sha256(progress.state),
            "samples": int(progress.state.samples),
            "best": self.best,
            "wall_s": self.spent + time.perf_counter() - self.run_.began,
            "compile_s": self.compile_s,
            "status": status,
            "steps": progress.step,
            "rollbacks": progress.guard.rollbacks,
            "notes": self.run_.notes,
        }
        self.run_.folder.finish(final)
        return Result(status, final, self.run_.notes)
