"""What a run needs before its first step: data, splits, task, batch sizes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import msgspec
import numpy as np

from volgrad.data.image import Image
from volgrad.errors import InputError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.order import Blocks
from volgrad.learning.batching.splits import Splits, effective_size
from volgrad.learning.recipe import Recipe
from volgrad.learning.recipe_tables import ScheduleTable
from volgrad.learning.study import Study
from volgrad.learning.training.dispatch import Plan, Rung
from volgrad.learning.training.leaves import strong
from volgrad.learning.training.loop import begin
from volgrad.learning.training.state import State
from volgrad.learning.training.trainer import Trainer, Validation, first_progress
from volgrad.learning.user_code import source_digest

__all__ = ["BlocksChoice", "Prepared", "prepare", "samples_in", "unscheduled"]

_PROBE_S = 0.5  # of steps that are timed to turn a budget of seconds into samples
_MOST_CLUSTERS = 5_000  # that the effective size is taken of: a tenth of a second
_ANY_BUDGET = 1_000_000  # samples of a schedule that only times steps

BlocksChoice = Blocks | Literal["auto"] | None


@dataclass
class Prepared:
    """All that a run needs before its first step; made by `prepare`.

    image, splits: the data, and how they are divided.
    loader: of the training split.
    task: what is learned.
    clusters: of the first batches; with batch.size "auto" the size that the study says, for which the learning rate is
        meant.
    rungs: batch sizes by the position where they begin; with "auto" that one.
    column: of the image, by which the effective sample size is told.
    code: SHA-256 of the file that the study comes from, where it is a user's own.
    """

    recipe: Recipe
    image: Image
    splits: Splits
    loader: Loader
    task: Any
    clusters: int
    rungs: list[Rung]
    column: str
    code: str | None

    def worth(self) -> dict[str, Any]:
        """What there is to learn from: clusters and rows of each split, and what those of training are worth.

        The effective size is that of the latest clusters, at most 5,000, by the column that the study names.
        """
        splits = {name: getattr(self.splits, name) for name in ("train", "validation", "test")}
        first_row = self.image.first_row
        told: dict[str, Any] = {
            name: {"clusters": len(part), "rows": int(first_row[part.stop] - first_row[part.start])}
            for name, part in splits.items()
        }
        train = self.splits.train
        latest = range(max(train.start, train.stop - _MOST_CLUSTERS), train.stop)
        rows = self.image.rows[int(first_row[latest.start]) : int(first_row[latest.stop])]
        if np.isfinite(rows[:, self.image.position(self.column)]).all():
            told["effective"] = {"column": self.column, **effective_size(self.image, latest, self.column)._asdict()}
        return told

    def notes(self) -> list[str]:
        """Sentences on what is out of the ordinary."""
        told = [self.loader.note] if self.loader.note else []
        table, size = self.recipe.optimizer, self.recipe.batch.size
        if isinstance(size, int) and self.clusters == 1 and size < self.loader.mean_drawn:
            told.append(
                f"batch.size = {size} rows is less than one cluster holds ({self.loader.mean_drawn:.0f} rows drawn): "
                "a batch is one cluster; lower batch.rows_per_cluster for smaller ones"
            )
        kept = jax.eval_shape(lambda: self.task.init(jax.random.key(0))[1])
        if table.average == "mean" and jax.tree.leaves(kept):
            told.append(
                "optimizer.average = 'mean' serves averaged weights with running statistics of the weights on the way: "
                "take 'ema' (of a short half-life), or a normalisation that keeps none"
            )
        return told

    def validation(self) -> Validation | None:
        """What is evaluated on; None where the recipe keeps nothing for it."""
        if not len(self.splits.validation):
            return None
        loader = Loader(self.image, self.splits.validation, self.recipe.seed, blocks=None)
        try:
            return Validation(loader)
        finally:
            loader.close()

    def draw(self, rows_per_cluster: int) -> None:
        """Draw so many rows of each cluster from now on."""
        before, self.loader = (
            self.loader,
            Loader(self.image, self.splits.train, self.recipe.seed, rows_per_cluster, blocks=self.loader.order.blocks),
        )
        before.close()

    def first_state(self, budget: int) -> State:
        """The state before the first step; it does not depend on the schedule, which may not fit into `budget`."""
        optimizer = optimizers(unscheduled(self.recipe), budget, self.clusters)(self.clusters)
        return strong(begin(self.task, optimizer, jax.random.key(self.recipe.seed)))


def prepare(
    study: Study,
    recipe: Recipe,
    base: Path,
    folder: Path,
    blocks: BlocksChoice = "auto",
    rows: int | None = None,
) -> Prepared:
    """Data, splits and task of a recipe.

    Args:
        study: what the recipe names.
        recipe: in full.
        base: folder that relative paths in the recipe start from.
        folder: where a training image may be kept.
        blocks: of the block-wise order; a resumed run gives what it had.
        rows: drawn of each cluster where batch.rows_per_cluster is "auto"; a resumed run gives what it had; None: all.

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
    drawn = recipe.batch.rows_per_cluster
    loader = Loader(image, splits.train, recipe.seed, rows if drawn == "auto" else drawn, blocks=blocks)
    try:
        default = min(study.clusters, len(splits.train))
        rungs = [Rung(*rung) for rung in recipe.batch.rungs(loader.mean_drawn, default)]
        for rung in rungs:
            if rung.clusters > len(splits.train):
                raise InputError(
                    f"a batch of {rung.clusters:,} clusters, and the training split has {len(splits.train):,}: lower "
                    "[batch] size or clusters"
                )
            if rung.clusters % recipe.batch.accumulate:
                raise InputError(
                    f"batch.accumulate = {recipe.batch.accumulate} does not divide a batch of {rung.clusters} "
                    "clusters: choose one that does"
                )
        task = study.task(recipe.model, image, splits.train)
    except BaseException:  # whatever it is goes on; the loader's threads must not
        loader.close()
        raise
    column = study.column or image.features[-1].name
    return Prepared(recipe, image, splits, loader, task, rungs[0].clusters, rungs, column, source_digest(type(study)))


def unscheduled(recipe: Recipe) -> Recipe:
    """The same recipe with a rate that stays: for what is done outside of the budget that lengths were chosen for."""
    return msgspec.structs.replace(recipe, schedule=ScheduleTable(name="constant"))


def samples_in(prepared: Prepared, seconds: float) -> int:
    """Samples that a run sees in so many seconds of training: by timing steps whose results are thrown away."""
    left, samples = seconds, 0
    far, table = 1 << 62, prepared.recipe.schedule
    budget = _ANY_BUDGET + math.ceil(table.warm_up or 0) + math.ceil(table.decay or 0)  # into which both fit
    for place, rung in enumerate(prepared.rungs):
        plan = Plan([Rung(0, rung.clusters)], far, prepared.loader.rows)
        of = optimizers(prepared.recipe, budget, prepared.clusters)
        trainer = Trainer(prepared.task, of, prepared.loader, plan, prepared.recipe.guard.rule)
        progress = first_progress(prepared.first_state(budget))
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
