"""Rungs of a ladder, as a trial leaves them."""

import math

import numpy as np
from jaxtyping import Float

from volgrad.learning.batching.size_choice import Timed

__all__ = ["drawn_on", "lost", "timed"]


def timed(clusters: int, rows: int, steps_s: Float[np.ndarray, " rounds"], needed: int) -> Timed:
    """One that was timed: median and interquartile range over rounds.

    >>> timed(2, 6, np.array([1.0, 2.0, 4.0]), 100)[:4]
    (2, 6, 2.0, 1.5)
    """
    low, median, high = np.quantile(steps_s, [0.25, 0.5, 0.75])
    return Timed(clusters, rows, float(median), float(high - low), needed)


def lost(clusters: int, rows: int, needed: int = 0) -> Timed:
    """One that does not fit into memory."""
    return Timed(clusters, rows, math.nan, math.nan, needed, fits=False, measured=False)


def drawn_on(last: Timed, clusters: int, rows: int) -> Timed:
    """One that was not timed, in proportion to the largest that was."""
    factor = clusters / last.clusters
    step, spread, needed = last.step_s_median * factor, last.step_s_iqr * factor, int(last.bytes * factor)
    return Timed(clusters, rows, step, spread, needed, measured=False)
