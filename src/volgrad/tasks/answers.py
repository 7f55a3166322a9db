"""Answers of fitted surfaces to the rows of a query or of a grid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from volgrad.data import Located
from volgrad.tasks.fitted import FittedChain

__all__ = ["answer"]

_NOT_PUBLISHED = "surface_not_published"


def answer(located: Located, fitted: Sequence[FittedChain]) -> tuple[Float64[np.ndarray, " rows"], dict[str, int]]:
    """Implied volatility (a fraction) of each row, NaN where there is none, and how many of these by reason.

    `fitted` in the order of the chains that the rows were located in.
    """
    vol = np.full(located.chain.size, np.nan)
    reasons = dict(located.reasons())
    answerable = located.unanswerable == 0
    order = np.argsort(located.chain, kind="stable")
    order = order[answerable[order]]
    starts = np.searchsorted(located.chain[order], np.arange(len(fitted) + 1))
    for place, one in enumerate(fitted):
        rows = order[starts[place] : starts[place + 1]]
        if not rows.size:
            continue
        if one.surface is None:
            reasons[_NOT_PUBLISHED] = reasons.get(_NOT_PUBLISHED, 0) + rows.size
        else:
            vol[rows] = one.surface.implied_vol(located.log_moneyness[rows], located.expiry_years[rows])
    return vol, reasons
