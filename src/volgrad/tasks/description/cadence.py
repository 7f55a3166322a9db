"""Which chains are of one cadence: memory is counted in chains, and means nothing over a mixture of steps."""

import numpy as np
from jaxtyping import Float

from volgrad.market.chain import Chain
from volgrad.market.duration import format_duration

__all__ = ["one_cadence"]

_APART = 3.0  # ratio of neighbouring distances, when sorted, beyond which two cadences are told apart (assumption)
_SECOND_US = 1_000_000


def one_cadence(chains: list[Chain]) -> tuple[list[Chain], tuple[str, ...]]:
    """The chains of the cadence that has most of them, in their order, and a sentence on the others if there are any.

    A chain's cadence is its distance from the nearest other of its underlying and split.
    """
    apart = _nearest(chains)
    known = np.sort(apart[np.isfinite(apart)])
    if not known.size:
        return chains, ()
    edges = np.flatnonzero(np.diff(np.log(known)) > np.log(_APART))
    limits = np.sqrt(known[edges] * known[edges + 1])
    group = np.where(np.isfinite(apart), np.searchsorted(limits, apart), -1)
    counts = np.bincount(group[group >= 0])
    kept = group == np.argmax(counts)
    if kept.all():
        return chains, ()
    others = [
        f"{int(np.sum(group == one))} {_words(np.median(apart[group == one]))} apart"
        for one in np.unique(group)
        if one >= 0 and one != np.argmax(counts)
    ]
    others += [f"{int(np.sum(group < 0))} alone"] if (group < 0).any() else []
    note = (
        f"cadences are mixed: {int(kept.sum())} chains {_words(np.median(apart[kept]))} apart are described, others "
        f"({', '.join(others)}) are left out: describe each by itself (--from, --to, --underlying)"
    )
    return [chain for chain, keep in zip(chains, kept.tolist(), strict=True) if keep], (note,)


def _nearest(chains: list[Chain]) -> Float[np.ndarray, " chains"]:
    """Microseconds to the nearest other chain of the same underlying and split; infinite where there is none."""
    apart = np.full(len(chains), np.inf)
    series: dict[tuple[str, str | None, str], list[int]] = {}
    for place, chain in enumerate(chains):
        series.setdefault((chain.ccy, chain.split, chain.settlement.value), []).append(place)
    for places in series.values():
        order = np.array(sorted(places, key=lambda place: chains[place].ts_us))
        gaps = np.diff([float(chains[place].ts_us) for place in order])
        apart[order] = np.minimum(np.append(gaps, np.inf), np.append(np.inf, gaps))
    return apart


def _words(micros: float) -> str:
    seconds = max(round(float(micros) / _SECOND_US), 1)
    for size in (86_400, 3_600, 60):
        if seconds >= 2 * size:
            return format_duration(round(seconds / size) * size * _SECOND_US)
    return f"{seconds}s"
