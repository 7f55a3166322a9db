"""What a batch size is chosen for: a task, its data, how it steps, and where it stands."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from volgrad.learning.batching.loader import Loader, Stack
from volgrad.learning.batching.size_choice import Work
from volgrad.learning.training.first_order import FirstOrder
from volgrad.learning.training.state import State
from volgrad.learning.training.task import Task

__all__ = ["Subject", "ladder_sizes", "unit_of"]

_JUDGED_ROWS = 8192  # that a branch is judged on
_NORMALISED_ROWS = 64  # rows of a unit where a batch is normalised as a whole: moments of fewer are noise (assumption)


@dataclass(frozen=True)
class Subject:
    """All that probes need; none of them changes it.

    Attributes:
        task: what is learned.
        loader: of the training split.
        optimizers: the optimiser for batches of so many clusters, given the noise scale in clusters where it is known.
        state: where the run stands.
        work: how long the run is, and for which size its learning rate is meant.
        held: one batch that branches are judged on, of the validation split where there is one. Shapes: (clusters,
            rows, features), (clusters,), (clusters,).
    """

    task: Task
    loader: Loader
    optimizers: Callable[[int, float | None], FirstOrder]
    state: State
    work: Work
    held: Stack

    @classmethod
    def of(
        cls,
        task: Task,
        loader: Loader,
        optimizers: Callable[[int, float | None], FirstOrder],
        state: State,
        work: Work,
        validation: range | None = None,
    ) -> "Subject":
        """A subject that is judged on the clusters in `validation`, else on clusters of training."""
        if validation is None or not len(validation):
            return cls(task, loader, optimizers, state, work, _one_batch(loader))
        judged = Loader(loader.image, validation, loader.order.seed, blocks=None)
        try:
            return cls(task, loader, optimizers, state, work, _one_batch(judged))
        finally:
            judged.close()

    @property
    def clusters(self) -> int:
        """Clusters of the training split."""
        return len(self.loader.clusters)

    def at(self, state: State) -> "Subject":
        """The same at another point of the run."""
        return dataclasses.replace(self, state=state)

    def with_rows(self, rows_per_cluster: int, alike: float = 1.0) -> "Subject":
        """The same with another number of rows drawn of each cluster; its loader is to be closed.

        Args:
            rows_per_cluster: drawn of each.
            alike: clusters of the new kind that are worth one of the old: whose gradients are as noisy together.
        """
        old = self.loader
        loader = Loader(
            old.image, old.clusters, old.order.seed, rows_per_cluster, old.order.shuffle, old.order.blocks, old.share
        )
        work = Work(round(self.work.samples * alike), max(1, round(self.work.reference * alike)))
        return dataclasses.replace(self, loader=loader, work=work)

    def rows(self, clusters: int) -> int:
        """Rows that a batch of so many clusters draws, on average."""
        return max(1, round(clusters * self.loader.mean_drawn))

    def preconditioner(self) -> np.ndarray | None:
        """What the optimiser divides a gradient by, as a factor of each variable; None where it does not, or not yet.

        Adam's `1 / (sqrt(v) + eps)`, `v` debiased: AdaptDL measures noise so (adaptdl 0.2, gradient_noise_scale [read
        in source]).
        """
        found = [part for part in _parts(self.state.optimizer) if hasattr(part, "nu") and hasattr(part, "count")]
        if not found or not int(found[0].count):
            return None
        hyper = self.optimizers(self.work.reference, None).hyper
        square = np.asarray(ravel_pytree(found[0].nu)[0], float)
        square = square / (1.0 - float(hyper.beta2) ** int(found[0].count))
        return 1.0 / (np.sqrt(square) + float(hyper.eps))


def _one_batch(loader: Loader) -> Stack:
    """Some clusters of a loader, drawn in its order from the start."""
    count = min(len(loader.clusters), max(1, _JUDGED_ROWS // loader.rows))
    return Stack(*(part[0] for part in loader.stack(0, 1, count)))


def ladder_sizes(clusters: int, most: int | None = None, unit: int = 1, usual: int = 1) -> list[int]:
    """Sizes that are tried: powers of two from one unit on, the usual size, and all of the data at the end.

    Args:
        clusters: of the data.
        most: that are allowed.
        unit: clusters whose gradient exists by itself (`unit_of`): smaller batches would be another model.
        usual: size that the learning rate is meant for.

    >>> ladder_sizes(20), ladder_sizes(20, most=6), ladder_sizes(20, unit=8), ladder_sizes(20, usual=12)
    ([1, 2, 4, 8, 16, 20], [1, 2, 4, 6], [8, 16, 20], [1, 2, 4, 8, 12, 16, 20])
    """
    top = clusters if most is None else min(clusters, most)
    sizes = []
    size = min(unit, top)
    while size <= top:
        sizes.append(size)
        size *= 2
    return sorted({*sizes, top, *([usual] if sizes[0] <= usual <= top else [])})


def unit_of(task: Task, statistics: Any, rows: float) -> int:
    """Clusters whose gradient exists by itself: 1, or under batch normalisation those normalised together.

    That is the group of ghost normalisation; where all of a batch is normalised, as many as give moments of some rows.
    """
    if not jax.tree.leaves(statistics):
        return 1
    groups = [int(found) for found in _settings(task, "clusters_per_group")]
    return max(groups) if groups else max(2, int(np.ceil(_NORMALISED_ROWS / rows)))


def _parts(tree: Any) -> list[Any]:
    """A state of optax and all states within it."""
    inner = tree if isinstance(tree, tuple) else ()
    return [tree, *(found for part in inner for found in _parts(part))]


def _settings(node: Any, name: str) -> list[Any]:
    """Every setting of this name in a module and in those that it holds."""
    if isinstance(node, tuple | list):
        return [found for part in node for found in _settings(part, name)]
    if not isinstance(node, eqx.Module):
        return []
    own = [getattr(node, name)] if hasattr(node, name) else []
    return own + [found for field in dataclasses.fields(node) for found in _settings(getattr(node, field.name), name)]
