"""From a sequence of chains to rows that the network learns from: features made by the code that serves, and targets.

Chain after chain is fitted twice: whole, which tells what is to be learned, and as a view shows it, which feeds the
memory. Some expiries are away for a while, others only now: of these the network is told what it would be told of a
missing one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from volgrad.data.image import Feature
from volgrad.market.chain import Chain
from volgrad.models.local_vol import KNOTS
from volgrad.models.slices import SlicedSurface
from volgrad.tasks.fit import FitOptions, Fitter
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.local_vol import LocalVol
from volgrad.tasks.surface_net.features import FEATURES, Told, tell
from volgrad.tasks.surface_net.memory import Memory, forget, own_parts, remember
from volgrad.tasks.surface_net.views import kept, shown

__all__ = ["COLUMNS", "TARGETS", "Example", "examples"]

_COUNT = KNOTS.size
_KNOTTED = ("own_smile", "own_smile_weight", "move", "move_weight")
#: Columns that tell what is to be learned: an expiry's own level, whether it counts, and its half-spread over its
#: volatility; its own smile and how the shape lies off the prior's mean, at the knots, with weights.
TARGETS = ("own_level", "own_level_weight", "scale", *(f"{name}_{knot}" for name in _KNOTTED for knot in range(_COUNT)))
#: Columns of the training image.
COLUMNS = [Feature(name, "1") for name in (*FEATURES, *TARGETS)]

_AWAY, _BACK, _ONLY_NOW = 0.02, 0.15, 0.2  # chances a chain: to go, to come back, to be hidden from the network alone
_FEWEST = 5  # expiries that stay
_SOFT = 0.3  # standard deviations over which a target fades beyond the quotes


class Example(NamedTuple):
    """A chain for the network: its stamp, and its rows (`COLUMNS`)."""

    ts_us: int
    rows: Float32[np.ndarray, "expiries columns"]


def examples(chains: Sequence[Chain], view: str, seed: int) -> Iterator[Example]:
    """Examples of the chains of one underlying, in the order of time.

    Args:
        chains: ascending in time.
        view: what is shown of each, a name in `views.VIEWS`.
        seed: of what is hidden.
    """
    random = np.random.default_rng(seed)
    fitter, base = Fitter(FitOptions()), LocalVol()
    memory: dict[int, Memory] = {}
    away: set[int] = set()
    for chain in chains:
        whole = fitter.fit(chain)
        if not isinstance(whole.surface, SlicedSurface):
            continue
        stamps = _stamps(whole)
        inner = stamps[1:-1].tolist()
        gone = {one for one in inner if one in away}
        away = {one for one in inner if random.random() < (1.0 - _BACK if one in gone else _AWAY)}
        unseen = [one for one in inner if one in away or random.random() < _ONLY_NOW]
        if stamps.size - len(unseen) < _FEWEST:
            unseen = []
        view_of = shown(chain, view, random)
        memory = forget({stamp: one.numbers() for stamp, one in memory.items()}, chain.ts_us)
        told, log_step = _told(_without(view_of, unseen), base, memory)
        rows = _rows(told, log_step, whole, base)
        yield Example(chain.ts_us, rows)
        met = fitter.fit(_without(view_of, sorted(away)))
        if isinstance(met.surface, SlicedSurface):
            seen = _stamps(met)
            memory = remember(memory, met.surface, seen, _shapes(met, seen), met.chain)


def _stamps(fitted: FittedChain) -> Int64[np.ndarray, " expiries"]:
    return fitted.chain.expiry_us[np.unique(fitted.chain.expiry_index)]


def _shapes(fitted: FittedChain, stamps: Int64[np.ndarray, " expiries"]) -> Float64[np.ndarray, "expiries knots"]:
    return np.stack([fitted.shape[stamp] for stamp in stamps.tolist()])


def _without(chain: Chain, stamps: Sequence[int]) -> Chain:
    rows: Bool[np.ndarray, " rows"] = ~np.isin(chain.expiry_us[chain.expiry_index], np.asarray(stamps, np.int64))
    return chain if rows.all() else kept(chain, rows)


def _told(chain: Chain, base: LocalVol, memory: dict[int, Memory]) -> tuple[Told, Float64[np.ndarray, " listed"]]:
    """Features, and the level of the listed expiries' intervals."""
    framed = base.frame(chain, (), 1.0)
    count = framed.expiries.size
    mean = np.asarray(framed.task.frame.mean)[:count]
    told = tell(chain, framed.expiries, framed.theta, mean, memory)
    return told, np.concatenate([np.asarray(framed.task.frame.log_step)[:count, None], mean], axis=1)


def _rows(
    told: Told, scales: Float64[np.ndarray, "listed scales"], whole: FittedChain, base: LocalVol
) -> Float32[np.ndarray, "expiries columns"]:
    """Features and targets of each row; targets of what the whole chain does not know weigh 0."""
    stamps = _stamps(whole)
    surface, chain = whole.surface, whole.chain
    assert isinstance(surface, SlicedSurface)
    own = own_parts(surface, stamps)
    framed = base.frame(chain, (), 1.0)
    low, high = (surface.quoted / np.sqrt(surface.theta)[:, None]).T
    spread = np.array([np.median((chain.half_spread_iv / chain.mid_iv)[chain.rows(one)]) for one in framed.expiries])
    level = np.asarray(framed.task.frame.log_step)[: stamps.size, None] + _shapes(whole, stamps)
    place = {stamp: number for number, stamp in enumerate(stamps.tolist())}
    single, knotted = np.zeros((told.stamps.size, 3)), np.zeros((told.stamps.size, 4, _COUNT))
    single[:, 2] = 1.0
    row_of = np.cumsum(told.listed) - 1
    for row, stamp in enumerate(told.stamps.tolist()):
        if stamp not in place:
            continue
        one = place[stamp]
        single[row] = own.level[one], float(own.known[one] and not told.listed[row]), spread[one]
        knotted[row, 0], knotted[row, 1] = own.smile[one], own.weight[one] * (not told.listed[row])
        if told.listed[row] and (row == 0 or told.listed[row - 1]):  # else its interval is another one
            knotted[row, 2] = level[one] - scales[row_of[row], 0] - scales[row_of[row], 1:]
            beyond = np.maximum(low[one] - KNOTS, KNOTS - high[one])
            knotted[row, 3] = 1.0 / (1.0 + np.exp(np.clip(beyond / _SOFT, -30.0, 30.0)))
    columns = [told.values, single, knotted.reshape(told.stamps.size, -1)]
    return np.concatenate(columns, axis=1).astype(np.float32)
