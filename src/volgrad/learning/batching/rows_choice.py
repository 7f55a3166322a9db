"""How many rows to draw of each cluster: many rows of few clusters are cheap to fetch, few rows of many say more.

A batch of C clusters with m rows of each takes `a + C (c + m r)` seconds, and its gradient has the variance
`(between + within / m) / C`. At the best C for each m what remains to be made small is
`(between + within / m) (c + m r)`: least at `m = sqrt(c / r * within / between)`, two-stage sampling (Cochran, Sampling
Techniques, 1977, 10.6 [paper]).
"""

from collections.abc import Sequence
from typing import NamedTuple

from volgrad.learning.batching.clusters import cheapest_rows_per_cluster
from volgrad.learning.batching.noise_scale import NoiseScale

__all__ = ["RowCost", "RowsChoice", "choose_rows"]


class RowCost(NamedTuple):
    """Seconds of a step that a cluster takes beside its rows, and that a row takes; measured."""

    cluster_s: float
    row_s: float


class RowsChoice(NamedTuple):
    """Rows to draw of each cluster.

    rows_per_cluster: of those that were looked at the one that gets furthest in a second.
    cheapest: by the formula, not rounded.
    options: rows per cluster that were looked at, ascending.
    relative: seconds to the same progress by each, in units of the best, where noise is what limits a step.
    """

    rows_per_cluster: int
    cheapest: float
    options: tuple[int, ...]
    relative: tuple[float, ...]


def choose_rows(noise: NoiseScale, cost: RowCost, most: int) -> RowsChoice:
    """The number of rows to draw of each cluster, of powers of two and `most`.

    Args:
        noise: with `between` and `within`.
        cost: of clusters and rows.
        most: rows that a cluster has.

    >>> class Noise:
    ...     between, within, intraclass = 1.0, 16.0, 1.0 / 17.0
    >>> choose_rows(Noise(), RowCost(4e-6, 1e-6), 64).rows_per_cluster
    8
    """
    options = _options(most)
    between, within = max(noise.between, 0.0), max(noise.within, 0.0)
    worth = [(between + within / m) * (cost.cluster_s + m * cost.row_s) for m in options]
    best = min(worth)
    place = worth.index(best) if best > 0.0 else len(options) - 1  # without any noise there is nothing to choose by
    cheapest = cheapest_rows_per_cluster(noise.intraclass, cost.cluster_s / cost.row_s)
    return RowsChoice(
        options[place], cheapest, tuple(options), tuple(one / best for one in worth) if best > 0.0 else ()
    )


def _options(most: int) -> Sequence[int]:
    sizes = [1 << power for power in range(most.bit_length())]
    return sizes if sizes[-1] == most else [*sizes, most]
