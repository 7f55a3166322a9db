"""Training, validation and test in the order of time, with gaps that nothing leaks through.

Shuffling makes gradients independent, not the future: what is scored must lie after all that was learned from.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from volgrad.data.image import Image
from volgrad.errors import EmptyInputError, InputError
from volgrad.learning.batching.autocorrelation import autocorrelation_time
from volgrad.learning.batching.clusters import ClusterSums, design_effect, intraclass

__all__ = ["EffectiveSize", "Splits", "effective_size"]

_MOST_ROWS = 4_000_000  # that are looked at for the effective size: some seconds


@dataclass(frozen=True)
class Splits:
    """Ranges of clusters, one after the other in time; those in the gaps are in none.

    Attributes:
        train, validation, test: the ranges; `validation` or `test` is empty where its share is 0.
        purge_us: labels of one part are known at least this long before the boundary to the next.
        embargo_us: the next part begins at least this long after that boundary.
    """

    train: range
    validation: range
    test: range
    purge_us: int
    embargo_us: int

    @classmethod
    def forward(
        cls,
        start_us: Int64[np.ndarray, " clusters"],
        known_us: Int64[np.ndarray, " clusters"],
        *,
        validation: float = 0.15,
        test: float = 0.15,
        purge_us: int = 0,
        embargo_us: int = 0,
    ) -> "Splits":
        """Split forward in time; clusters of one stamp stay together.

        A part ends before the first cluster whose label is known later than `purge_us` before the boundary. So, for
        every cluster of a part: `known_us <= first start_us of the next part - purge_us - embargo_us`.

        Args:
            start_us: when the inputs of each cluster are known, ascending; microseconds.
            known_us: when its labels are known.
            validation, test: shares of all clusters, 0 or more, together below 1.
            purge_us, embargo_us: 0 or more, microseconds. A feature that looks back over a time wants an embargo as
                long.

        Raises:
            InputError: shares or stamps that cannot be.
            EmptyInputError: nothing is left of a part.

        >>> stamps = np.arange(10) * 100
        >>> Splits.forward(stamps, stamps + 50, validation=0.2, test=0.2, purge_us=60)
        Splits(train=range(0, 5), validation=range(6, 7), test=range(8, 10), purge_us=60, embargo_us=0)
        """
        start, known = np.asarray(start_us), np.asarray(known_us)
        _check(start, known, validation, test, (purge_us, embargo_us))
        n = len(start)
        ideal = {"validation": n - round(n * (validation + test)), "test": n - round(n * test)}
        first, stop, parts = 0, 0, []
        for name in ("validation", "test"):
            share = validation if name == "validation" else test
            if share == 0.0:
                parts.append(None)
                continue
            boundary = start[min(ideal[name], n - 1)]
            stop = first + _prefix(known[first : np.searchsorted(start, boundary)], boundary - purge_us)
            parts.append(range(first, max(stop, first)))
            first = int(np.searchsorted(start, boundary + embargo_us))
        parts.append(range(first, n))
        named = _named(parts)
        for name, share in (("train", 1.0), ("validation", validation), ("test", test)):
            if share > 0.0 and not len(named[name]):
                raise EmptyInputError(
                    f"no cluster is left for {name}: {n} clusters over {_days(start[-1] - start[0])}, validation "
                    f"{validation:g}, test {test:g}, purge {_days(purge_us)}, embargo {_days(embargo_us)}; "
                    "give more data, or smaller gaps"
                )
        return cls(**named, purge_us=purge_us, embargo_us=embargo_us)


def _days(span_us: int) -> str:
    """A length of time in days, as people read it."""
    return f"{int(span_us) / 86_400_000_000:.4g} days"


def _prefix(known: np.ndarray, latest: int) -> int:
    """How many clusters come before the first whose label is known too late."""
    late = np.flatnonzero(known > latest)
    return int(late[0]) if late.size else len(known)


def _named(parts: list[range | None]) -> dict[str, range]:
    """The ranges found, by the names of those parts that were asked for."""
    last = parts[2]
    assert last is not None
    empty = range(last.stop, last.stop)
    if parts[0] is None and parts[1] is None:
        return {"train": last, "validation": empty, "test": empty}
    if parts[1] is None:
        assert parts[0] is not None
        return {"train": parts[0], "validation": last, "test": empty}
    if parts[0] is None:
        return {"train": parts[1], "validation": range(parts[1].stop, parts[1].stop), "test": last}
    return {"train": parts[0], "validation": parts[1], "test": last}


def _check(start: np.ndarray, known: np.ndarray, validation: float, test: float, gaps: tuple[int, int]) -> None:
    if len(start) != len(known) or not len(start):
        raise InputError(f"{len(start)} starts, {len(known)} label times: give one each, and at least one cluster")
    if not (min(validation, test) >= 0.0 and validation + test < 1.0):
        raise InputError(f"validation is {validation} and test {test}: give shares of 0 or more, together below 1")
    if min(gaps) < 0:
        raise InputError(f"purge is {gaps[0]} us and embargo {gaps[1]} us: neither may be below 0")
    if (np.diff(start) < 0).any() or (known < start).any():
        raise InputError("clusters must be in the order of start_us, and known_us not before it: sort them, check both")


class EffectiveSize(NamedTuple):
    """What the rows of a range are worth for the mean of one column.

    rows, clusters: how many were looked at (the latest, where there are too many).
    correlation: of two rows of a cluster.
    design_effect: how many times too small the variance of a mean over rows is, were they independent.
    effective_clusters: independent clusters that are worth as much, neighbours in time being alike.
    effective_rows: independent rows that are worth as much, by both.
    """

    rows: int
    clusters: int
    correlation: float
    design_effect: float
    effective_clusters: float
    effective_rows: float


def effective_size(image: Image, clusters: range, column: str) -> EffectiveSize:
    """The effective sample size of a range of clusters, judged by one column such as the target.

    The variance of the mean is that of independent rows times Kish's design effect (rows of a cluster are alike) times
    clusters over effective clusters (clusters near in time are alike): assumption, the two multiply.

    Raises:
        SchemaError: no such column.
        EmptyInputError: an empty range.
    """
    at = image.position(column)
    if not len(clusters):
        raise EmptyInputError(f"the effective size of {clusters}: there is no cluster in it")
    stop = int(image.first_row[clusters.stop])
    earliest = int(np.searchsorted(image.first_row, stop - _MOST_ROWS))
    begin = min(max(clusters.start, earliest), clusters.stop - 1)
    offsets = np.asarray(image.first_row[begin : clusters.stop + 1])
    values = np.asarray(image.rows[offsets[0] : stop, at], np.float64)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    sums = ClusterSums.of(values, owner)
    found = intraclass(sums)
    correlation = 0.0 if math.isnan(found.correlation) else found.correlation
    effect = max(1.0, design_effect(correlation, found.rows_per_cluster))
    seconds = np.asarray(image.start_us[begin : clusters.stop], np.float64) / 1e6
    time = autocorrelation_time(sums.means[:, 0], seconds)
    alike = float(sums.clusters) if math.isnan(time.effective) else min(time.effective, float(sums.clusters))
    rows = len(values) / effect * alike / sums.clusters
    return EffectiveSize(len(values), sums.clusters, found.correlation, effect, alike, rows)
