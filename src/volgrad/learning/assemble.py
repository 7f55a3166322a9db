"""The optimiser that a recipe names, for every batch size of the run."""

from collections.abc import Callable

from volgrad.learning.recipe import Recipe
from volgrad.learning.training.first_order import FirstOrder, named

__all__ = ["optimizers"]


def optimizers(recipe: Recipe, budget: int, first_clusters: int) -> Callable[[int], FirstOrder]:
    """The optimiser for each batch size; the state of one serves the others.

    Args:
        recipe: its tables.
        budget: samples of the run.
        first_clusters: clusters of the first batches, for which learning rate and moments are meant where the recipe
            names no `reference_batch`.

    Raises:
        InputError: tables that do not go together.
    """
    table = recipe.optimizer
    base = named(
        table.name,
        recipe.schedule.over(budget),
        clip=table.clip_norm or None,
        averaging=table.averaging(budget),
        micro_batches=recipe.batch.accumulate,
        **table.hyper,
    )
    reference = table.reference_batch or first_clusters

    def of(clusters: int) -> FirstOrder:
        return base.at(clusters, reference, table.noise_scale) if table.scale_with_batch else base

    return of
