"""Segments of a run to its end, and what is done between them: evaluating, telling, storing."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from volgrad.errors import WorkError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batch_size.adaptation import Adaptation
from volgrad.learning.batch_size.timing import out_of_memory
from volgrad.learning.prepared import Prepared
from volgrad.learning.run_folder import Metrics, RunFolder
from volgrad.learning.training.checkpoint import Checkpoints, Loaded
from volgrad.learning.training.guard import Action, Guard
from volgrad.learning.training.leaves import state_sha256
from volgrad.learning.training.schedules import Plateau
from volgrad.learning.training.state import State
from volgrad.learning.training.trainer import Progress, Segment, Trainer, Validation, scaled

__all__ = ["SILENT", "Context", "Hooks", "Loop", "Result", "resumed", "stored"]

_SEGMENT_DISPATCHES = 32
_SEGMENTS = 100  # a run has at least so many, where it has as many dispatches: for the curve, and for progress
_BEST = "best"


def _silent(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Hooks:
    """What is told while a run goes on.

    stage: name of what begins now ("reading data", "choosing the batch size", "compiling", "training").
    step: samples done so far, of how many, and the last segment.
    note: a sentence worth reading.
    """

    stage: Callable[[str], None] = _silent
    step: Callable[[int, int, Segment], None] = _silent
    note: Callable[[str], None] = _silent


#: Tells nobody.
SILENT = Hooks()


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


class _Stored(eqx.Module):
    """What a checkpoint holds of a run: the state by its own names, and where a roll-back leads."""

    variables: PyTree
    statistics: PyTree
    optimizer: PyTree
    key: PRNGKeyArray
    samples: Int[Array, ""]
    sound: State


def stored(progress: Progress) -> _Stored:
    """The arrays of a run, as its checkpoints name them."""
    state = progress.state
    return _Stored(state.variables, state.statistics, state.optimizer, state.key, state.samples, progress.sound)


def resumed(loaded: Loaded) -> Progress:
    """Where a stored run goes on."""
    held, host = loaded.state, loaded.host
    state = State(held.variables, held.statistics, held.optimizer, held.key, held.samples)
    return Progress(state, held.sound, Guard.from_dict(host["guard"]), int(host["step"]), int(host["sound_step"]))


class Context:
    """What is the same throughout one call of `train`.

    Attributes:
        prepared: data and task.
        folder: of the run.
        hooks: told of progress.
        identity: of the configuration, which checkpoints carry.
        checkpoints: of the run.
        best: the one of the least validation loss.
        notes: told so far.
        data: what there is to learn from.
        began: on the clock.
    """

    def __init__(self, prepared: Prepared, folder: RunFolder, hooks: Hooks, began: float) -> None:
        """Open the checkpoints."""
        self.began = began
        self.prepared, self.folder, self.hooks = prepared, folder, hooks
        self.recipe = prepared.recipe
        self.identity = prepared.recipe.identity() | {"image": prepared.image.digest, "task.file": prepared.code}
        self.checkpoints = Checkpoints(folder.checkpoints, prepared.recipe.checkpoint.keep)
        self.best = Checkpoints(folder.path / _BEST, 1)
        self.notes: list[str] = []
        self.data = prepared.worth()
        for text in prepared.notes():
            self.note(text)

    def note(self, text: str) -> None:
        """Tell a sentence, and keep it."""
        self.notes.append(text)
        self.hooks.note(text)


class Loop:
    """Segments of a run, and what is done between them."""

    def __init__(
        self,
        context: Context,
        trainer: Trainer,
        validation: Validation | None,
        budget: int,
        host: dict[str, Any],
        adaptation: Adaptation | None = None,
    ) -> None:
        self._context, self.trainer, self.validation, self.budget = context, trainer, validation, budget
        self.adaptation, self._event = adaptation, ""
        self.recipe = recipe = context.recipe
        self.compile_s = 0.0
        self.spent = float(host.get("wall_s", 0.0))
        self.best: dict[str, float] | None = host.get("best")
        self.evaluated, self.quiet = int(host.get("evaluated", 0)), int(host.get("quiet", 0))
        self.plateau = Plateau(*host["plateau"]) if "plateau" in host else Plateau()
        self.plateau_rule = recipe.schedule.plateau
        self.every = recipe.evaluate.samples(budget)
        self.optimizer = optimizers(recipe, budget, context.prepared.clusters)(context.prepared.clusters)
        self.saved = time.perf_counter()
        self.unsaved_best: State | None = None
        self.stored = -1
        self.status = str(host.get("status", "done"))
        self.metrics: Metrics | None = None
        context.notes[:0] = [note for note in host.get("notes", ()) if note not in context.notes]

    def run(self, progress: Progress, metrics: Metrics) -> Result:
        """To the end of the plan, or to where the guard or `evaluate.patience` ends it."""
        self.metrics = metrics
        try:
            progress = self._advance(progress, metrics)
        except (KeyboardInterrupt, SystemExit):  # asked to stop: what was done so far is kept
            self.save(self.latest, self.latest_host)
            self._context.note(f"stored at {int(self.latest.state.samples):,} samples: go on with --resume")
            raise
        if self.best and not self.best["samples"]:
            self._context.note(
                "validation was never better than before the first step: try another "
                "optimizer.learning_rate (see volgrad lr-range)"
            )
        return self._finished(progress)

    def _advance(self, progress: Progress, metrics: Metrics) -> Progress:
        self.latest, self.latest_host = progress, self.host(progress)
        if self.trainer.plan.next(int(progress.state.samples)) is None or self.status != "done":
            self._context.note("this run had ended already; nothing was trained")
        elif self.validation is not None and self.best is None:
            found = self.validation.metrics(self._context.prepared.task, self.optimizer, progress.state)
            self.best = {"samples": 0} | found  # so that a run which only gets worse is told
        while self.status == "done" and self.trainer.plan.next(position := int(progress.state.samples)) is not None:
            segment = self._segment(progress)
            progress = segment.progress
            if segment.action is not Action.GO_ON:
                self._context.note(segment.message)
            if segment.action is Action.GIVE_UP:
                if int(progress.state.samples) == position:
                    self._tell(metrics, progress, segment, segment.message, {})
                    self.save(progress)
                    raise WorkError(f"{self._context.folder.path}: {segment.message}")
                self.status = "stalled"
            found, event = self._evaluated(progress, segment), segment.message
            found = {f"validation_{name}": value for name, value in found.items()}
            if found and (factor := self._plateau(found["validation_loss"])) != 1.0:
                progress = scaled(progress, factor)
                cut = f"no better validation loss in {self.plateau_rule.patience} evaluations: the rate is cut"
                self._context.note(cut)
                event = f"{event}; {cut}" if event else cut
            changed, noise = self._adapted(progress, segment)
            event = "; ".join(told for told in (self._event, event, changed) if told)
            self._event = ""
            self._tell(metrics, progress, segment, event or None, found | noise)
            if self.recipe.evaluate.patience and self.quiet >= self.recipe.evaluate.patience:
                self.status = "no better"
            if time.perf_counter() - self.saved >= self.recipe.checkpoint.every_seconds:
                self.save(progress)
            self.latest, self.latest_host = progress, self.host(progress)
            self._context.hooks.step(int(progress.state.samples), self.budget, segment)
        return progress

    def _dispatches(self, position: int) -> int:
        """Of a segment: by the size at the run's start, or where the run changes it itself, by the present one."""
        first = self._context.prepared.clusters
        clusters = first if self.adaptation is None else self.trainer.plan.rung(position).clusters
        whole = self.trainer.plan.steps(clusters) * clusters
        return int(np.clip(self.budget // whole // _SEGMENTS, 1, _SEGMENT_DISPATCHES))

    def _segment(self, progress: Progress) -> Segment:
        """The next segment; where memory does not suffice for a size that the run took itself, in a smaller one."""
        position = int(progress.state.samples)
        while True:
            try:
                self._compiled(progress, position)
                return self.trainer.segment(progress, self._dispatches(position))
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if self.adaptation is None or not out_of_memory(error):
                    raise
                clusters = self.trainer.plan.rung(position).clusters
                if not (told := self.adaptation.without(position)):
                    raise WorkError(
                        f"{self._context.folder.path}: out of memory with batches of {clusters} clusters, the smallest "
                        "that may be taken: lower batch.least or batch.rows_per_cluster, or use a smaller model"
                    ) from error
                self._event = f"{self._event}; {told}" if self._event else told
                self._context.note(f"at {position:,} samples: {told}")

    def _compiled(self, progress: Progress, position: int) -> None:
        """Make the programs of the next segment, where a size is new."""
        dispatches = self._dispatches(position)
        if self.adaptation is None or not self.trainer.missing(position, dispatches):
            return
        self._context.hooks.stage("compiling")
        before = time.perf_counter()
        try:
            self.trainer.compile_segment(progress.state, dispatches)
        finally:
            self.compile_s += time.perf_counter() - before
        self._context.hooks.stage("training")

    def _adapted(self, progress: Progress, segment: Segment) -> tuple[str, dict[str, float]]:
        """What became of the batch size, in words, and the noise where it was measured."""
        if self.adaptation is None:
            return "", {}
        before = self.adaptation.compile_s
        told, noise = self.adaptation.after(progress, segment)
        self.compile_s += self.adaptation.compile_s - before
        if told:
            self._context.note(f"at {int(progress.state.samples):,} samples: {told}")
        if noise is None:
            return told, {}
        return told, {"noise_clusters": noise.clusters, "noise_lo": noise.lo, "noise_hi": noise.hi}

    def _evaluated(self, progress: Progress, segment: Segment) -> dict[str, float]:
        """Metrics where an evaluation is due."""
        samples = int(progress.state.samples)
        due = samples - self.evaluated >= self.every or samples >= self.budget or segment.action is Action.GIVE_UP
        if self.validation is None or not due or samples == self.evaluated:
            return {}
        self.evaluated = samples
        metrics = self.validation.metrics(self._context.prepared.task, self.optimizer, progress.state)
        beaten = self.best["loss"] if self.best else float("inf")
        better = metrics["loss"] < (beaten if math.isfinite(beaten) else float("inf"))
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
            **found,
        )

    def host(self, progress: Progress) -> dict[str, Any]:
        """What a checkpoint holds beside the state."""
        return {
            "budget": self.budget,
            "guard": progress.guard.as_dict(),
            "step": progress.step,
            "sound_step": progress.sound_step,
            "status": self.status,
            "lines": self.metrics.lines if self.metrics else 0,
            "notes": list(self._context.notes),
            "plateau": list(self.plateau),
            "best": self.best,
            "evaluated": self.evaluated,
            "quiet": self.quiet,
            "wall_s": self.spent + time.perf_counter() - self._context.began,
            "compile_s": self.compile_s,
            "order": self._context.prepared.loader.identity(),
            **({} if self.adaptation is None else {"batch": self.adaptation.host()}),
        }

    def save(self, progress: Progress, host: dict[str, Any] | None = None) -> None:
        """Store a checkpoint, and before it the best state so far; `host`: what was known then, where it is not now."""
        samples, host = int(progress.state.samples), self.host(progress) if host is None else host
        if self.unsaved_best is not None:
            best = int(self.unsaved_best.samples)
            self._context.best.save(best, self.unsaved_best, host, self._context.identity)
            self.unsaved_best = None
        self._context.checkpoints.save(samples, stored(progress), host, self._context.identity)
        self.saved, self.stored = time.perf_counter(), samples

    def _finished(self, progress: Progress) -> Result:
        if self.stored != int(progress.state.samples):
            self.save(progress)
        final = {
            "state_sha256": state_sha256(progress.state),
            "samples": int(progress.state.samples),
            "best": self.best,
            "wall_s": self.spent + time.perf_counter() - self._context.began,
            "compile_s": self.compile_s,
            "status": self.status,
            "steps": progress.step,
            "rollbacks": progress.guard.rollbacks,
            "notes": self._context.notes,
            "data": self._context.data,
            **({} if self.adaptation is None else {"batch": self.adaptation.told()}),
        }
        self._context.folder.finish(final)
        return Result(self.status, final, self._context.notes)
