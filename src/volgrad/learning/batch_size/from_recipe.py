"""What a recipe asks for, as a subject whose batch size can be chosen."""

import msgspec

from volgrad.errors import InputError
from volgrad.learning.assemble import optimizers
from volgrad.learning.batch_size.chooser import Effort
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batching.size_choice import Bounds, Work
from volgrad.learning.prepared import Prepared, samples_in, unscheduled
from volgrad.learning.recipe import Recipe

__all__ = ["bounds_for", "budget_of", "effort_of", "notes_of", "settings_of", "subject_of"]


def subject_of(prepared: Prepared, budget: int, alike: float = 1.0) -> Subject:
    """The run that a recipe describes, before its first step, with a learning rate that stays.

    The schedule is left out because what is tried is the beginning: within it sizes should differ by their noise, not
    by how far the warm-up lets them come. Batches are taken whole, whatever `batch.accumulate` says: what fits into
    memory is to be found out.

    Args:
        prepared: from `prepare`; its loader stays the caller's to close.
        budget: samples of the run.
        alike: clusters as they are drawn now that are worth one as the recipe draws them.
    """
    recipe = unscheduled(prepared.recipe)
    recipe = msgspec.structs.replace(recipe, batch=msgspec.structs.replace(recipe.batch, accumulate=1))
    of = optimizers(recipe, budget, prepared.clusters, alike)
    work = Work(budget, max(1, round(alike * (recipe.optimizer.reference_batch or prepared.clusters))))
    state = prepared.first_state(budget)
    return Subject.of(prepared.task, prepared.loader, of, state, work, prepared.splits.validation)


def budget_of(prepared: Prepared) -> int:
    """Samples of the run; seconds are turned into samples by timing steps."""
    table = prepared.recipe.budget
    if table.samples is not None:
        return table.samples
    if table.epochs is not None:
        return max(1, round(table.epochs * len(prepared.splits.train)))
    assert table.seconds is not None
    return samples_in(prepared, table.seconds)


def bounds_for(least: int, most: int | None, clusters: int | None = None) -> Bounds:
    """Sizes from `least` to `most` clusters a batch, where there are `clusters` to learn from.

    Raises:
        InputError: there is no such size.
    """
    if least < 1:
        raise InputError(f"the least size is {least} clusters a batch: give 1 or more")
    if most is not None and most < least:
        raise InputError(f"the least size is {least:,} clusters a batch, and the most {most:,}: swap or widen them")
    if clusters is not None and least > clusters:
        raise InputError(
            f"the least size is {least:,} clusters a batch, and the training split has {clusters:,}: lower it"
        )
    return Bounds(least, most)


def effort_of(seconds: float, *, sharpness: bool = False, whole_ladder: bool = False) -> Effort:
    """So many seconds of probing, divided as usual.

    Raises:
        InputError: not above 0.

    >>> effort_of(10.0)[:3]
    (1.5, 2.5, 6.0)
    """
    if not 0.0 < seconds < float("inf"):
        raise InputError(f"{seconds:g} seconds of probing: give a number above 0")
    usual = Effort()
    share = seconds / (usual.timing + usual.pilot + usual.branches)
    parts = (share * usual.timing, share * usual.pilot, share * usual.branches)
    return Effort(*parts, sharpness=sharpness, whole_ladder=whole_ladder)


def notes_of(prepared: Prepared) -> list[str]:
    """Sentences on what of the recipe the choice leaves out of account."""
    batch = prepared.recipe.batch
    told = []
    if batch.accumulate > 1:
        told.append(
            f"batch.accumulate = {batch.accumulate} was left out: batches were taken whole, and a size to be used with "
            "it must be a multiple of it"
        )
    if batch.then:
        told.append("batch.then was left out: one size was chosen for the whole run")
    return told


def settings_of(recipe: Recipe, decision: Decision) -> list[str]:
    """What to `--set` so that a recipe runs in batches of the chosen size, as they were tried.

    The learning rate goes on being meant for the size that it was meant for, where it follows the size.

    Args:
        recipe: that the size was chosen for.
        decision: the choice.
    """
    table, clusters = recipe.optimizer, decision.clusters
    told = [f"batch.clusters={clusters}"]
    if table.scale_with_batch and clusters != decision.reference != table.reference_batch:
        told.append(f"optimizer.reference_batch={decision.reference}")
    if decision.rows_drawn is not None:
        told.append(f"batch.rows_per_cluster={decision.rows_drawn}")
        if recipe.budget.samples is not None:
            told.append(f"budget.samples={round(decision.alike * recipe.budget.samples)}")
    return told
