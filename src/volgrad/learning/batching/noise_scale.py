"""The gradient noise scale with the cluster as unit: how many clusters a batch needs for signal and noise to be equal.

`B_noise = trace / |E g|^2` (McCandlish et al. 2018, 1812.06162, 2.2 [paper]), where the trace is that of the covariance
of the gradient of *one cluster*. Rows of a cluster, such as the quotes of a snapshot, are alike; the per-row estimator
takes them for independent and is too small by the design effect.

Everything is computed from the inner products of the gradients of units, which is all that it depends on.

>>> rng = np.random.default_rng(0)
>>> gradients = 0.05 + rng.standard_normal((64, 1000))            # |E g|^2 = 2.5, trace 1000
>>> found = noise_scale(gradients @ gradients.T)
>>> found.significant, found.lo < 400.0 < found.hi
(True, True)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from volgrad.learning.batching.noise_in_time import between_units, whitened
from volgrad.learning.batching.noise_intervals import Evidence, evidence, interval, median_of_means

__all__ = ["NoiseScale", "noise_scale", "pooled"]

_GROUPS = 8  # of the two-batch estimator


class NoiseScale(NamedTuple):
    """A gradient noise scale with its interval, and what it is made of.

    clusters: the noise scale, trace / gradient_square; inf where gradient_square is not positive, NaN without gradient.
    lo, hi: its 95 % interval, in clusters; hi is inf where the signal is not significant.
    significant: the interval of |E g|^2 excludes 0.
    rows_per_cluster: rows drawn of a cluster, on average.
    gradient_square: unbiased |E g|^2; may be negative.
    trace: of the covariance of the gradient of one cluster.
    between, within: trace = between + within / rows_per_cluster; NaN where halves were not given.
    per_row: the naive estimate, in rows, that takes rows for independent; NaN where it cannot be told.
    micro_batch: the two-batch estimate, in rows.
    time: what autocorrelation multiplies the trace by; 1 where units are drawn at random.
    units: gradients that it was estimated from.
    evidence: what the interval follows from.
    """

    clusters: float
    lo: float
    hi: float
    significant: bool
    rows_per_cluster: float
    gradient_square: float
    trace: float
    between: float
    within: float
    per_row: float
    micro_batch: float
    time: float
    units: int
    evidence: Evidence

    @property
    def rows(self) -> float:
        """The noise scale in rows."""
        return self.clusters * self.rows_per_cluster

    @property
    def rows_lo(self) -> float:
        """Lower end of the interval, in rows."""
        return self.lo * self.rows_per_cluster

    @property
    def rows_hi(self) -> float:
        """Upper end of the interval, in rows."""
        return self.hi * self.rows_per_cluster

    @property
    def intraclass(self) -> float:
        """Intraclass correlation of the gradients of rows; below 0 by chance; NaN where halves were not given."""
        whole = self.between + self.within
        return self.between / whole if whole > 0.0 else math.nan

    def at(self, rows_per_cluster: float) -> "NoiseScale":
        """The same for another number of rows drawn of each cluster.

        An estimate of `between` below 0 is taken for 0 with the trace kept.

        Raises:
            ValueError: halves were not given, so that the noise within clusters is not known; or less than one row.
        """
        if not math.isfinite(self.within):
            raise ValueError("the noise within clusters is not known: give gradients of halves of clusters")
        if not rows_per_cluster > 0.0:
            raise ValueError(f"{rows_per_cluster} rows of a cluster: draw some")
        old, new = self.rows_per_cluster, rows_per_cluster
        if not self.trace > 0.0:
            return self._replace(rows_per_cluster=new)
        split = self.between > 0.0
        apart = 1.0 / new - 1.0 / old
        trace = self.trace + self.within * apart if split else self.trace * old / new
        known = self.evidence.scaled(trace / self.trace)
        if split:  # the error of the trace is another one; the rest goes with its size
            own, common = self.evidence.within
            variance = self.evidence.variance[3] + 2.0 * apart * common + apart**2 * own
            known = known._replace(variance=(*known.variance[:3], variance), within=(own, common + apart * own))
        micro = self.micro_batch * trace / self.trace * new / old
        alone = trace + self.trace * (1.0 / self.time - 1.0)  # rows of a cluster have no memory: what it adds stays
        time = trace / alone if self.time != 1.0 and alone > 0.0 else 1.0
        return _assembled(self, trace=trace, rows_per_cluster=new, evidence=known, micro_batch=micro, time=time)

    def words(self) -> str:
        """The noise scale in a sentence.

        >>> gradients = np.random.default_rng(0).standard_normal((32, 10)) + np.full(10, 0.5)
        >>> noise_scale(gradients @ gradients.T).words()
        'about 4 rows (2 to 8)'
        """
        if math.isnan(self.clusters):
            return "not known: there is no gradient"
        if not self.significant:
            if not self.lo > 0.0:
                return f"not known: {self.units} gradients are too few to tell"
            return f"at least {_count(self.rows_lo)} rows"
        return f"about {_count(self.rows)} rows ({_count(self.rows_lo)} to {_count(self.rows_hi)})"


def noise_scale(
    gram: Float64[np.ndarray, "gradients gradients"],
    *,
    rows_per_cluster: float = 1.0,
    halves: bool = False,
    unit_clusters: int = 1,
    ordered: bool = False,
) -> NoiseScale:
    """The gradient noise scale from the inner products of the gradients of units.

    `|E g|^2` is the mean inner product of two different units, which is `|g|^2 - S^2 / C` (McCandlish et al. 2018, A.1,
    and Gray et al. 2024, 2411.00999, with a cluster for their example [paper]); the trace is a median of means, as
    gradients of financial losses have heavy tails. The interval is that of `noise_intervals`.

    On planted problems the ratio of averages is right to 6 % (to some 10 % for 32 clusters with t(4) noise), and the
    interval holds the truth in 90 to 99.7 % of samples, above 98 % where the signal is faint (measured by
    `benchmarks.noise_scale`; goals 10 %, and 90 to 98 %). A stream should be thirty times as long as its
    autocorrelation time: of 64 units with memory 0.8, seven to fourteen times as long, 78 to 89 % were held (measured).

    Args:
        gram: inner products of the gradients. With `halves` of clusters in the order a_0, b_0, a_1, b_1, ...
        rows_per_cluster: rows drawn of a cluster, on average.
        halves: each gradient is the mean over one half of the rows drawn of a cluster; that of the cluster is the mean
            of both, and their distance tells the noise within.
        unit_clusters: whole clusters in a unit, whose gradient is the mean of theirs: a ghost batch, where batch
            normalisation leaves clusters without gradients of their own.
        ordered: units stand in the order of time and may be alike (a stream); at least 16 of them.

    Returns:
        Without any gradient (all inner products 0) `clusters` and `lo` are NaN and nothing is significant. With two or
        three units the interval is 0 to infinity.

    Raises:
        ValueError: inner products that are not square or not finite, an odd number of halves, fewer than two units, or
            rows or clusters that are not positive.
    """
    if not (rows_per_cluster > 0.0 and unit_clusters >= 1):
        raise ValueError(f"{rows_per_cluster} rows of a cluster, {unit_clusters} clusters in a unit: both are positive")
    gram = np.asarray(gram, np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"inner products of shape {gram.shape}: give one row and one column for each gradient")
    if not np.isfinite(gram).all():
        raise ValueError("inner products that are not finite: leave the units with such gradients out")
    if halves and len(gram) % 2:
        raise ValueError(f"{len(gram)} gradients of halves: give two for each cluster")
    gram, apart = _joined(gram) if halves else (gram, None)
    units = len(gram)
    if units < 2:
        raise ValueError(f"{units} units: the noise between units needs at least two")
    micro_batch = _two_batch(gram) * unit_clusters * rows_per_cluster
    white, remaining, gradient_square = whitened(gram) if ordered else (gram, 1.0, between_units(gram, 0))
    own = np.diag(white) - 2.0 * white.mean(axis=1) + white.mean()  # |g_i - mean|^2
    squares = np.maximum(own, 0.0) * len(white) / (len(white) - 1)
    alone = median_of_means(squares)
    trace = alone * remaining
    known = evidence(white, squares, None if apart is None else apart[-len(white) :], gradient_square, alone)
    known = known.inflated(remaining).scaled(unit_clusters)
    within, error = math.nan, known.within
    if apart is not None:
        drawn = rows_per_cluster * unit_clusters
        within, error = median_of_means(apart) * drawn, (error[0] * drawn**2, error[1] * drawn)
    known = known._replace(within=error, clusters=float(units * unit_clusters))
    single = float(np.trace(gram)) / units - gradient_square
    start = NoiseScale(
        clusters=math.nan,
        lo=math.nan,
        hi=math.inf,
        significant=False,
        rows_per_cluster=rows_per_cluster,
        gradient_square=gradient_square,
        trace=trace * unit_clusters,
        between=trace * unit_clusters - within / rows_per_cluster,
        within=within,
        per_row=math.nan,
        micro_batch=micro_batch,
        time=trace / single if ordered and single > 0.0 else 1.0,
        units=units,
        evidence=known,
    )
    return _assembled(start)


def pooled(scales: Sequence[NoiseScale], weights: Sequence[float] | None = None) -> NoiseScale:
    """Several independent noise scales as one, such as of several moments of a run.

    Traces and squares of gradients are averaged before they are divided, as a mean of ratios is not the ratio of means
    (McCandlish et al. 2018, A.1 [paper]); errors are added as those of independent samples.

    Args:
        scales: what to pool.
        weights: of each, in proportion; by default equal.

    Raises:
        ValueError: nothing to pool, or weights that are negative, not finite, or all 0.
    """
    if not scales:
        raise ValueError("no noise scales to pool: give at least one")
    share = np.ones(len(scales)) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (len(scales),) or not (np.isfinite(share).all() and (share >= 0.0).all() and share.sum() > 0.0):
        raise ValueError(
            f"weights {weights} of {len(scales)} noise scales: give one for each, none negative, not all 0"
        )
    scales = [scale for scale, part in zip(scales, share, strict=True) if part > 0.0]
    share = share[share > 0.0] / share.sum()

    def mean(values: Sequence[float]) -> float:
        return float(share @ np.asarray(values, np.float64))

    trace = mean([scale.trace for scale in scales])
    parts = {
        name: mean([getattr(scale, name) for scale in scales])
        for name in ("rows_per_cluster", "gradient_square", "between", "within")
    }
    # ratios of traces are averaged with their denominators, which is what dividing averages gives
    per_micro = mean([scale.trace / scale.micro_batch if scale.micro_batch > 0.0 else 0.0 for scale in scales])
    alone = mean([scale.trace / scale.time for scale in scales])
    start = scales[0]._replace(
        **parts,
        clusters=math.nan,
        lo=math.nan,
        hi=math.inf,
        significant=False,
        trace=trace,
        micro_batch=trace / per_micro if per_micro > 0.0 else math.nan,
        time=trace / alone if alone > 0.0 else 1.0,
        units=sum(scale.units for scale in scales),
        evidence=Evidence.summed([scale.evidence for scale in scales], share),
    )
    return _assembled(start)


def _joined(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of clusters from those of their halves; and a quarter of the squared distance of the halves.

    Each half has half the rows, so that this quarter is unbiased for within / rows_per_cluster.
    """
    clusters = len(gram) // 2
    pairs = gram.reshape(clusters, 2, clusters, 2)
    own = np.einsum("iaib->iab", pairs)
    apart = (own[:, 0, 0] + own[:, 1, 1] - own[:, 0, 1] - own[:, 1, 0]) / 4.0
    return pairs.mean(axis=(1, 3)), np.maximum(apart, 0.0)


def _assembled(start: NoiseScale, **changes) -> NoiseScale:
    """A noise scale whose ratio, interval and rivals follow from its parts."""
    scale = start._replace(**changes)
    if scale.trace == 0.0 and scale.gradient_square == 0.0:
        return scale
    lo, hi, significant = interval(scale.evidence, scale.gradient_square, scale.trace)
    clusters = scale.trace / scale.gradient_square if scale.gradient_square > 0.0 else math.inf
    return scale._replace(clusters=clusters, lo=lo, hi=hi, significant=significant, per_row=_per_row(scale))


def _per_row(scale: NoiseScale) -> float:
    """The estimate that takes all rows for independent."""
    rows = scale.rows_per_cluster
    alone = scale.trace if rows == 1.0 else scale.between + scale.within  # variance of the gradient of one row
    square = scale.gradient_square + (scale.trace - alone / rows) / scale.evidence.clusters
    return alone / square if square > 0.0 else math.inf if alone > 0.0 else math.nan


def _two_batch(gram: np.ndarray) -> float:
    """Noise scale in units from groups of units against all of them: McCandlish et al. (2018), A.1 [paper]."""
    groups = min(_GROUPS, len(gram))
    size = len(gram) // groups
    kept = groups * size
    blocks = gram[:kept, :kept].reshape(groups, size, groups, size).mean(axis=(1, 3))
    small, large = float(np.diag(blocks).mean()), float(blocks.mean())
    square = (kept * large - size * small) / (kept - size)
    trace = (small - large) / (1.0 / size - 1.0 / kept)
    return trace / square if square > 0.0 else math.inf if trace > 0.0 else math.nan


def _count(rows: float) -> str:
    return f"{rows:,.0f}" if rows < 1000.0 else f"{float(f'{rows:.3g}'):,.0f}"
