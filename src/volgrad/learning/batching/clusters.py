"""How alike the rows of a cluster are: intraclass correlation, design effect, and rows worth drawing from each.

Rows are quotes, residuals or gradients (several quantities a row); a cluster is what is drawn as one, such as a
snapshot. The model is `y = mean + cluster + group + row` with independent effects (groups, such as the expiries of a
snapshot, may be left out). Its variances are estimated by the analysis of variance for clusters of unequal size: the
moments need no normal distribution, all sums are additive over clusters, and so a bootstrap over (blocks of) clusters
costs one product of matrices.

>>> rng = np.random.default_rng(0)
>>> cluster = np.repeat(np.arange(400), 10)
>>> values = np.sqrt(0.3) * rng.standard_normal(400)[cluster] + np.sqrt(0.7) * rng.standard_normal(4000)
>>> sums = ClusterSums.of(values, cluster)
>>> low, high = correlation_interval(sums)
>>> low < 0.3 < high, round(intraclass(sums).correlation, 1), design_effect(0.3, 11)
(True, 0.3, 4.0)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "ClusterSums",
    "Intraclass",
    "block_draws",
    "bootstrap_correlation",
    "cheapest_rows_per_cluster",
    "correlation_interval",
    "design_effect",
    "intraclass",
]

_NORMAL_95 = 1.959964
_LEAST_CLUSTERS = 10  # for an interval, and blocks of a bootstrap: with fewer it says little (assumption)
_MOST_COUNTS = 4_000_000  # numbers of a bootstrap that are held at a time
_LEAST_RATIO = 1e-6  # of mean squares: clusters of one mean have no logarithm

_Values = Float[np.ndarray, " rows"] | Float[np.ndarray, "rows quantities"]


@dataclass(frozen=True)
class ClusterSums:
    """What the analysis of variance needs of each cluster; a sum over clusters is a sum of these.

    Clusters stand in the order of their ids, which for a bootstrap over blocks must be the order of time.

    Attributes:
        rows: rows in the cluster.
        groups: groups in it (1 without groups).
        total: sum of the values, less their overall mean.
        square: sum of their squares.
        group_square: sum over groups of `(sum of values)^2 / rows`.
        group_rows: sum over groups of `rows^2`.
    """

    rows: Float[np.ndarray, " clusters"]
    groups: Float[np.ndarray, " clusters"]
    total: Float[np.ndarray, "clusters quantities"]
    square: Float[np.ndarray, "clusters quantities"]
    group_square: Float[np.ndarray, "clusters quantities"]
    group_rows: Float[np.ndarray, " clusters"]

    @classmethod
    def of(
        cls, values: _Values, cluster: Int[np.ndarray, " rows"], group: Int[np.ndarray, " rows"] | None = None
    ) -> "ClusterSums":
        """Sums of `values`; `group` numbers the groups, each within one cluster or numbered anew in each.

        Raises:
            ValueError: values that are not finite, or lengths that differ.
        """
        table = np.atleast_2d(values.T).T
        if len(cluster) != len(table) or (group is not None and len(group) != len(table)):
            raise ValueError(f"{len(table)} values, {len(cluster)} cluster ids: give one each")
        if not np.isfinite(table).all():
            raise ValueError("values must be finite: leave the other rows out")
        ids, place = np.unique(cluster, return_inverse=True)
        code = place if group is None else np.unique(group, return_inverse=True)[1]
        width = int(code.max(initial=0)) + 1
        pairs, within = np.unique(place * width + code, return_inverse=True)
        owner = pairs // width
        count, in_group = np.bincount(place, minlength=len(ids)), np.bincount(within, minlength=len(pairs))
        sums = np.zeros((3, len(ids), table.shape[1]))
        for number in range(table.shape[1]):  # one column at a time: the table may be large
            column = table[:, number].astype(np.float64)
            column -= column.mean() if len(column) else 0.0  # sums of squares of what is far from 0 would cancel
            of_groups = np.bincount(within, weights=column, minlength=len(pairs))
            weights = {0: (place, column), 1: (place, column**2), 2: (owner, of_groups**2 / in_group)}
            for kind, (where, weight) in weights.items():
                sums[kind, :, number] = np.bincount(where, weights=weight, minlength=len(ids))
        return cls(
            rows=count.astype(np.float64),
            groups=np.bincount(owner, minlength=len(ids)).astype(np.float64),
            total=sums[0],
            square=sums[1],
            group_square=sums[2],
            group_rows=np.bincount(owner, weights=in_group.astype(np.float64) ** 2, minlength=len(ids)),
        )

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(self.rows)

    @property
    def means(self) -> Float[np.ndarray, "clusters quantities"]:
        """Mean of each cluster, less the overall mean."""
        return self.total / self.rows[:, None]


class Intraclass(NamedTuple):
    """Variances of the random effects, summed over quantities, and what follows from them.

    An estimate may be negative: then rows of a cluster are less alike than chance would have it, as residuals of a
    fit to that very cluster are. NaN where there are fewer than two clusters, or no cluster of two rows.

    clusters, rows: how many.
    between: variance of the cluster effect.
    nested: variance of the group effect within clusters; NaN without groups.
    within: variance of what is left.
    correlation: of two rows of a cluster (of different groups, where there are any).
    group_correlation: of two rows of a group; NaN without groups.
    rows_per_cluster: `sum n^2 / sum n`, which is what counts in the design effect of a mean over rows.
    """

    clusters: int
    rows: int
    between: float
    nested: float
    within: float
    correlation: float
    group_correlation: float
    rows_per_cluster: float


def intraclass(sums: ClusterSums, *, nested: bool = False) -> Intraclass:
    """Intraclass correlation of rows in clusters of unequal size; of a vector: by the traces of its covariances.

    One-way without groups; `nested` takes the groups of `sums` for a second level.

    Source: Searle, Casella and McCulloch, Variance Components (1992), 3.6 and 5.2 (Henderson's method I)
    [paper]; the effective cluster size `sum n^2 / sum n`: Kish, Survey Sampling (1965), 8.2 [paper].
    """
    variances = _variances(sums, np.ones((1, sums.clusters)), nested)
    between, group, within = (float(part[0]) for part in variances)
    shared = 0.0 if math.isnan(group) else group
    whole = between + shared + within
    known = whole > 0.0
    rows = float(sums.rows.sum())
    return Intraclass(
        clusters=sums.clusters,
        rows=int(rows),
        between=between,
        nested=group,
        within=within,
        correlation=between / whole if known else math.nan,
        group_correlation=(between + group) / whole if known else math.nan,
        rows_per_cluster=float((sums.rows**2).sum() / rows) if rows else math.nan,
    )


def block_draws(
    clusters: int, block: int, draws: int, seed: int | Sequence[int]
) -> Float[np.ndarray, "draws clusters"]:
    """How often each cluster is drawn in each of `draws` samples of blocks of `block` neighbours.

    The clusters are bent to a ring, so that each is as likely as any other (circular block bootstrap: Politis and
    Romano 1992 [paper]). Each sample holds the least number of whole blocks that reach `clusters`.

    >>> block_draws(6, 3, 2, seed=0).sum(axis=1).tolist()
    [6.0, 6.0]
    """
    if clusters < 1 or not 1 <= block <= clusters:
        raise ValueError(f"a block of {block} in {clusters} clusters")
    starts = np.random.default_rng(seed).integers(clusters, size=(draws, -(-clusters // block)))
    counts = np.zeros((draws, clusters))
    np.add.at(counts, (np.arange(draws)[:, None], starts), 1.0)
    ring = np.concatenate([counts[:, clusters - block + 1 :], counts], axis=1)
    summed = np.cumsum(np.pad(ring, ((0, 0), (1, 0))), axis=1)
    return summed[:, block:] - summed[:, :-block]


def bootstrap_correlation(
    sums: ClusterSums, *, block: int = 1, draws: int = 1000, seed: int = 0, nested: bool = False
) -> Float[np.ndarray, " draws"]:
    """The correlation of :func:`intraclass` in samples of whole (blocks of) clusters; NaN where nothing can be said.

    `block` should reach over the time in which neighbouring clusters are alike.
    """
    if sums.clusters < 2:
        return np.full(draws, np.nan)
    found = np.full(draws, np.nan)
    piece = max(1, _MOST_COUNTS // sums.clusters)
    for number, start in enumerate(range(0, draws, piece)):
        part = found[start : start + piece]
        counts = block_draws(sums.clusters, min(block, sums.clusters), len(part), (seed, number))
        between, group, within = _variances(sums, counts, nested)
        whole = between + np.nan_to_num(group) + within
        np.divide(between, whole, out=part, where=whole > 0.0)
    return found


def correlation_interval(
    sums: ClusterSums, *, time: float = 1.0, variance_time: float = 1.0, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the correlation of :func:`intraclass`, one-way; NaN for fewer than ten clusters.

    Symmetric on Fisher's scale, half the logarithm of the ratio of mean squares `(1 + (m - 1) rho) / (1 - rho)` (Fisher
    1925, Statistical Methods, 40 [paper]). Its standard error is that of a bootstrap over blocks of clusters, which
    knows heavy tails, or that of normal effects, which knows memory, `sqrt(2 variance_time / clusters)`, whichever is
    larger (assumption). Measured for a correlation of .3, it holds the truth in 94 to 97 % where clusters are
    independent (40 to 400 of them); where their effects follow an AR(1), in 92, 90 and 85 % of series 44, 13 and 10
    times as long as their memory, and in half to three quarters of those one to three times as long: the shorter the
    series, the more what is found is true of it alone.

    Args:
        sums: clusters in the order of time.
        time: integrated autocorrelation time of cluster means, in clusters: the length of the blocks.
        variance_time: the same for a variance, `1 + 2 sum rho^2`.
        draws, seed: of the bootstrap.
    """
    found = intraclass(sums)
    if sums.clusters < _LEAST_CLUSTERS or not math.isfinite(found.correlation):
        return math.nan, math.nan
    size = found.rows_per_cluster
    block = max(1, min(math.ceil(time), sums.clusters // _LEAST_CLUSTERS))
    drawn = _ratio(bootstrap_correlation(sums, block=block, draws=draws, seed=seed), size)
    normal = math.sqrt(2.0 * variance_time / sums.clusters)
    spread = _NORMAL_95 * max(float(np.nanstd(drawn)), normal)
    middle = float(_ratio(np.array([found.correlation]), size)[0])
    low, high = (math.exp(middle + side * spread) for side in (-1.0, 1.0))
    return (low - 1.0) / (low + size - 1.0), (high - 1.0) / (high + size - 1.0)


def design_effect(correlation: float, rows_per_cluster: float) -> float:
    """Variance of a mean over rows against that of as many independent rows: `1 + (m - 1) rho`.

    A negative correlation is taken for 0: nothing is gained by drawing rows that are alike. For clusters of unequal
    size `m = sum n^2 / sum n`. Source: Kish (1965), 5.4 [paper].

    >>> round(design_effect(0.3, 64.0), 2)
    19.9
    """
    return math.nan if math.isnan(correlation) else 1.0 + (rows_per_cluster - 1.0) * max(correlation, 0.0)


def cheapest_rows_per_cluster(correlation: float, cluster_cost: float) -> float:
    """Rows to draw from each cluster for the least variance at a given cost: `sqrt(c (1 - rho) / rho)`, at least 1.

    `cluster_cost` is what a cluster costs beside its rows, in rows. Infinite where rows of a cluster are not alike.
    Source: two-stage sampling, Cochran, Sampling Techniques (1977), 10.6 [paper].

    >>> cheapest_rows_per_cluster(0.5, 100.0), cheapest_rows_per_cluster(-0.01, 100.0)
    (10.0, inf)
    """
    if not correlation > 0.0:
        return math.nan if math.isnan(correlation) else math.inf
    return max(1.0, math.sqrt(cluster_cost * max(1.0 - correlation, 0.0) / correlation))


def _ratio(correlation: Float[np.ndarray, " draws"], size: float) -> Float[np.ndarray, " draws"]:
    """Logarithm of the ratio of mean squares, between over within, that belongs to a correlation."""
    above = np.maximum(1.0 + (size - 1.0) * correlation, _LEAST_RATIO)
    return np.log(above / np.maximum(1.0 - correlation, _LEAST_RATIO))


def _variances(
    sums: ClusterSums, counts: Float[np.ndarray, "draws clusters"], nested: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variance between clusters, between groups (NaN where not nested) and within, for each row of `counts`."""
    weighted = {
        "clusters": counts.sum(axis=1),
        "rows": counts @ sums.rows,
        "rows_squared": counts @ sums.rows**2,
        "total": counts @ sums.total,
        "square": (counts @ sums.square).sum(axis=1),
        "between": (counts @ (sums.total**2 / sums.rows[:, None])).sum(axis=1),
        "groups": counts @ sums.groups,
        "group_square": (counts @ sums.group_square).sum(axis=1),
        "group_rows": counts @ sums.group_rows,
        "group_share": counts @ (sums.group_rows / sums.rows),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        rows, clusters = weighted["rows"], weighted["clusters"]
        of_mean = (weighted["total"] ** 2).sum(axis=1) / rows
        around_mean = (weighted["between"] - of_mean) / (clusters - 1.0)
        size = (rows - weighted["rows_squared"] / rows) / (clusters - 1.0)
        if not nested:
            within = (weighted["square"] - weighted["between"]) / (rows - clusters)
            return _known((around_mean - within) / size), np.full_like(within, np.nan), _known(within)
        groups = weighted["groups"]
        within = (weighted["square"] - weighted["group_square"]) / (rows - groups)
        of_groups = (weighted["group_square"] - weighted["between"]) / (groups - clusters)
        group = (of_groups - within) * (groups - clusters) / (rows - weighted["group_share"])
        shared = (weighted["group_share"] - weighted["group_rows"] / rows) / (clusters - 1.0)
        return _known((around_mean - within - shared * group) / size), _known(group), _known(within)


def _known(part: np.ndarray) -> np.ndarray:
    """Division by nothing is no number, never an infinity."""
    return np.where(np.isfinite(part), part, np.nan)
