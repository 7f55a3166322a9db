"""The optimiser that a recipe names, for every batch size of the run."""

from typing import Protocol

from volgrad.learning.recipe import Recipe
from volgrad.learning.training.first_order import FirstOrder, named

__all__ = ["Optimizers", "optimizers"]


class Optimizers(Protocol):
    """The optimiser for each batch size."""

    def __call__(self, clusters: int, noise: float | None = None, /) -> FirstOrder:
        """That of batches of so many clusters, where the noise scale in clusters was measured or is None."""
        ...


def optimizers(recipe: Recipe, budget: int, first_clusters: int, alike: float = 1.0) -> Optimizers:
    """The optimiser for each batch size; the state of one serves the others.

    Args:
        recipe: its tables.
        budget: samples of the run.
        first_clusters: clusters of the first batches, for which learning rate and moments are meant where the recipe
            names no `reference_batch`; with batch.size "auto" those that the study says.
        alike: clusters as the run draws them that are worth one as the recipe does, where rows a cluster were chosen.

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
    reference = max(1, round(alike * (table.reference_batch or first_clusters)))

    def of(clusters: int, noise: float | None = None, /) -> FirstOrder:
        cap = noise if table.noise_scale is None else table.noise_scale
        return base.at(clusters, reference, cap) if table.scale_with_batch else base

    return of
