"""The whole description of a set of quotes."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from volgrad.data.chains import Built
from volgrad.data.read import Quotes
from volgrad.errors import EmptyInputError
from volgrad.learning.batching.clusters import cheapest_rows_per_cluster
from volgrad.tasks.description.ages import Ages, row_ages
from volgrad.tasks.description.cadence import one_cadence
from volgrad.tasks.description.inventory import Inventory, inventory
from volgrad.tasks.description.likeness import Likeness, likeness
from volgrad.tasks.description.panel import Panel
from volgrad.tasks.description.quantities import Quantity, gradient, innovation, level, surprise
from volgrad.tasks.description.smile import SmileResiduals, smile_residuals
from volgrad.tasks.description.staleness import Staleness, staleness

__all__ = ["PARTS", "Batching", "Description", "Neighbours", "describe"]

#: Steps that `describe` tells of.
PARTS = 4
_COSTS = (1.0, 10.0, 100.0)  # of a snapshot beside its rows, in rows


@dataclass(frozen=True)
class Neighbours:
    """Residuals of one smile an expiry: correlation of neighbouring strikes, and what it would be by chance alone."""

    expiries: int
    correlation: float
    by_chance: float


@dataclass(frozen=True)
class Batching:
    """What the choice of a batch size may start from.

    Attributes:
        quantity: whose design effect it takes: the gradient of a coarse surface.
        design_effect, design_effect_low, design_effect_high: so many rows of whole snapshots are worth one; and its
            95 % interval.
        level_design_effect: the same of a parameter that all quotes push alike, such as the level.
        rows_per_snapshot: cost of a snapshot, in rows -> rows to draw of each for the least noise at a given cost.
    """

    quantity: str
    design_effect: float
    design_effect_low: float
    design_effect_high: float
    level_design_effect: float
    rows_per_snapshot: dict[str, float]


@dataclass(frozen=True)
class Description:
    """What quotes are worth for learning.

    Attributes:
        inventory: what there is.
        likeness: each quantity, of each underlying and of all (underlying None).
        neighbours: smile residuals of neighbouring strikes.
        batching: what a choice of batch size may start from.
        ages: own times of rows against their chain's stamp.
        staleness: quotes that stand.
        notes: sentences of reading and building.
    """

    inventory: Inventory
    likeness: tuple[Likeness, ...]
    neighbours: Neighbours
    batching: Batching
    ages: Ages
    staleness: Staleness
    notes: tuple[str, ...]

    def of(self, quantity: str, underlying: str | None = None) -> Likeness:
        """The likeness of one quantity of one underlying (None: of all)."""
        return next(one for one in self.likeness if (one.quantity, one.underlying) == (quantity, underlying))

    def shown(self) -> list[Likeness]:
        """Each likeness once: where there is one underlying, all together is the same again."""
        single = len(self.inventory.underlyings) == 1
        return [one for one in self.likeness if not (single and one.underlying is None)]


def describe(
    quotes: Quotes, built: Built, *, seed: int = 0, advance: Callable[[int], object] = lambda _done: None
) -> Description:
    """Describe `quotes` and the chains that were built from them.

    Args:
        quotes, built: of one another.
        seed: of the bootstrap.
        advance: is called with 1 after each of the `PARTS`.

    Raises:
        EmptyInputError: no chain has a usable quote.
    """
    if not built.chains:
        why = f" ({built.refused[0].why})" if built.refused else ""
        raise EmptyInputError(
            f"{quotes.sources[0].name}: no chain has a usable quote{why}: there is nothing to describe."
        )
    chains, mixed = one_cadence(built.chains)
    panel = Panel.of(chains)
    counted = inventory(quotes, built, panel)
    advance(1)
    smiles = smile_residuals(panel)
    found: list[Likeness] = []
    off = level(panel)
    for quantity in (innovation(panel), surprise(panel), off, gradient(panel, off), smiles.quantity):
        found += _likenesses(panel, quantity, seed)
    advance(1)
    stands = staleness(panel)
    advance(1)
    ages = row_ages(quotes, chains, panel)
    advance(1)
    return Description(
        inventory=counted,
        likeness=tuple(found),
        neighbours=_neighbours(smiles),
        batching=_batching(found),
        ages=ages,
        staleness=stands,
        notes=(*mixed, *built.notes),
    )


def _likenesses(panel: Panel, quantity: Quantity, seed: int) -> list[Likeness]:
    one = [likeness(panel, quantity, number, seed=seed) for number in range(len(panel.underlyings))]
    if len(one) == 1:  # all is the same as the only one
        return [dataclasses.replace(one[0], underlying=None), *one]
    return [likeness(panel, quantity, None, seed=seed), *one]


def _neighbours(smiles: SmileResiduals) -> Neighbours:
    return Neighbours(smiles.expiries, smiles.neighbour, smiles.by_chance)


def _batching(found: list[Likeness]) -> Batching:
    whole = {one.quantity: one for one in found if one.underlying is None}
    taken = whole["gradient"]
    return Batching(
        quantity=taken.quantity,
        design_effect=taken.design_effect,
        design_effect_low=taken.design_effect_low,
        design_effect_high=taken.design_effect_high,
        level_design_effect=whole["level"].design_effect,
        rows_per_snapshot={f"{cost:g}": cheapest_rows_per_cluster(taken.correlation, cost) for cost in _COSTS},
    )
