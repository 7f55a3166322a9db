"""What a run needs before its first step: data, splits, task, batch sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from volgrad.data.image import Image
from volgrad.errors import InputError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.order import Blocks
from volgrad.learning.batching.splits import Splits
from volgrad.learning.recipe import Recipe
from volgrad.learning.study import Study
from volgrad.learning.training.dispatch import Plan, Rung
from volgrad.learning.training.leaves import strong
from volgrad.learning.training.loop import begin
from volgrad.learning.training.state import State
from volgrad.learning.training.trainer import Trainer, Validation, first_progress

__all__ = ["BlocksChoice", "Prepared", "prepare", "samples_in"]

_PROBE_S = 0.5  # of steps that are timed to turn a budget of seconds into samples
_ANY_BUDGET = 1_000_000  # samples of a schedule that only times steps

BlocksChoice = Blocks | Literal["auto"] | None


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


def samples_in(prepared: Prepared, seconds: float) -> int:
    """Samples that a run sees in so many seconds of training: by timing steps whose results are thrown away."""
    left, samples = seconds, 0
    far = 1 << 62
    for place, rung in enumerate(prepared.rungs):
        plan = Plan([Rung(0, rung.clusters)], far, prepared.loader.rows)
        of = optimizers(prepared.recipe, _ANY_BUDGET, prepared.clusters)
        trainer = Trainer(prepared.task, of, prepared.loader, plan, prepared.recipe.guard.rule)
        progress = first_progress(prepared.first_state(_ANY_BUDGET))
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
