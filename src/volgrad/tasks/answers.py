"""Answers of fitted surfaces to the rows of a query or of a grid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from volgrad.data import Located, Unanswerable
from volgrad.tasks.fitted import FittedChain

__all__ = ["WHY_UNANSWERED", "answer"]

_NOT_PUBLISHED = "surface_not_published"
_NOT_FINITE = "no_finite_volatility"

#: What each reason for a missing answer means, in words.
WHY_UNANSWERED = {
    Unanswerable.NO_CHAIN.label: "no chain of that time, underlying and split among the quotes",
    Unanswerable.CHAIN_REFUSED.label: "none of the chain's quotes is usable",
    Unanswerable.BAD_STRIKE.label: "strike or log-moneyness missing, not a number, zero or negative",
    Unanswerable.EXPIRED.label: "no time to expiry is left",
    Unanswerable.NO_FORWARD.label: "no forward to take log-moneyness against",
    _NOT_PUBLISHED: "the chain's surface failed its certificate",
    _NOT_FINITE: "the surface gives no finite number there",
}


def answer(located: Located, fitted: Sequence[FittedChain]) -> tuple[Float64[np.ndarray, " rows"], dict[str, int]]:
    """Implied volatility (a fraction) of each row, NaN where there is none, and how many of these by reason.

    `fitted` in the order of the chains that the rows were located in; the reasons are keys of `WHY_UNANSWERED`.
    """
    vol = np.full(located.chain.size, np.nan)
    reasons = dict(located.reasons())
    answerable = located.unanswerable == 0
    order = np.argsort(located.chain, kind="stable")
    order = order[answerable[order]]
    starts = np.searchsorted(located.chain[order], np.arange(len(fitted) + 1))
    unpublished = 0
    for place, one in enumerate(fitted):
        rows = order[starts[place] : starts[place + 1]]
        if one.surface is None:
            unpublished += rows.size
        elif rows.size:
            vol[rows] = one.surface.implied_vol(located.log_moneyness[rows], located.expiry_years[rows])
    vol[~np.isfinite(vol)] = np.nan
    silent = int(np.isnan(vol[answerable]).sum()) - unpublished
    more = {_NOT_PUBLISHED: unpublished, _NOT_FINITE: silent}
    return vol, reasons | {reason: count for reason, count in more.items() if count}
