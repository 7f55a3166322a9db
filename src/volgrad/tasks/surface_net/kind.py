"""`surface-net` as a kind of surface: the local-volatility fit around what a network expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float64

from volgrad.learning.batching.batch import Batch
from volgrad.market.chain import Chain
from volgrad.models.grid import stencil
from volgrad.models.local_vol import variables_from_shape
from volgrad.models.slices import SlicedSurface, extended
from volgrad.models.surface_net import Spoken, spoken
from volgrad.tasks.framing import NARROWEST, ladder_size, row_places
from volgrad.tasks.local_vol import LocalVol
from volgrad.tasks.model import Carried, Found, Framed, Model, Published, Training, listing
from volgrad.tasks.surface import QuoteRows, pad_rows
from volgrad.tasks.surface_net.features import LEVEL_UNIT, SMILE_UNIT, Told, tell
from volgrad.tasks.surface_net.memory import Memory, forget, remember, unquoted
from volgrad.tasks.surface_net.missing import with_missing
from volgrad.tasks.surface_net.weights import Weights, forward, shipped

__all__ = ["SurfaceNet"]

_LADDER = (16, 32, 64)
_SHAPE_HOURS, _OWN_HOURS = 18.0, 168.0  # over which what is remembered loses half its share (assumption)
_DAMPED = 0.5  # measured: wings +.7 points on months, where the whole way costs 1 to 4 in some of them


class _Said(NamedTuple):
    """What `frame` learned that `publish` needs.

    memory: of earlier chains; None: none is kept.
    stamps, level, smile: missing expiries and what is expected of them.
    """

    memory: dict[int, Memory] | None
    stamps: np.ndarray
    level: np.ndarray
    smile: np.ndarray


@dataclass(frozen=True, eq=False)
class SurfaceNet(Model):
    """Local volatility around what a network expects of the chain, given earlier ones.

    Attributes:
        weights: of the network.
        base: the fit around it.
    """

    weights: Weights = field(default_factory=shipped)
    base: LocalVol = field(default_factory=LocalVol)

    name: ClassVar[str] = "surface-net"
    leans: ClassVar[bool] = True
    freedoms: ClassVar[tuple[float, ...]] = LocalVol.freedoms
    may_arbitrage: ClassVar[bool] = False
    usual_inside: ClassVar[str] = LocalVol.usual_inside
    doubtful_inside: ClassVar[float] = LocalVol.doubtful_inside

    def __post_init__(self) -> None:
        self.say(np.zeros((1, self.weights.network.features), np.float32))  # compiled here, on no chain's account

    def say(self, values: Float64[np.ndarray, "expiries features"]) -> Spoken:
        """What the network says of a chain's rows."""
        count = values.shape[0]
        places = ladder_size(count, _LADDER)
        x = np.zeros((places, values.shape[1]), np.float32)
        x[:count] = values
        out = forward(
            self.weights.network, self.weights.variables, self.weights.statistics, x, np.arange(places) < count
        )
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[:count], _named(out))

    def frame(self, chain: Chain, earlier: Sequence[Carried], freedom: float) -> Framed:
        """Local-vol's frame, its mean moved by the network as far as `freedom`."""
        framed = self.base.frame(chain, (), freedom)
        frame = framed.task.frame
        mean, count = np.array(frame.mean), framed.expiries.size
        memory = forget(earlier[-1], chain.ts_us) if earlier else {}
        told = tell(chain, framed.expiries, framed.theta, mean[:count], memory)
        said = self.say(told.values)
        own = float(self.weights.told.get("own_shape", True))
        mean[:count] += freedom * moves(told, said, own)[told.listed]
        gone = ~told.listed
        expected = expectation(told, said)
        kept = _Said(memory, told.stamps[gone], *(freedom * part[gone] for part in expected))
        task, data = _with_remembered(framed, chain, memory)
        return framed._replace(task=_with_mean(task, mean), data=data, extra=kept)

    def start(self, framed: Framed, chain: Chain, before: Carried | None) -> tuple[np.ndarray, bool]:
        """The prior's mean, or the remembered shapes."""
        frame = framed.task.frame
        shape = np.array(frame.mean)
        known = forget(before, chain.ts_us)
        found = False
        for place, stamp in enumerate(chain.expiry_us[framed.expiries].tolist()):
            if stamp in known:
                shape[place] = np.where(known[stamp].shape_seen > 0.5, known[stamp].shape, shape[place])
                found = True
        return (variables_from_shape(frame, shape) if found else np.zeros(frame.factor.shape[-1])), found

    def solve(self, training: Training, task: Any, data: Any, start: Array, seed: Array) -> Found:
        """As local-vol, to the chain's quotes and to the remembered ones behind them."""
        real = data.weight > 0.0
        return self.base.solve(training, task, Batch(data.rows, real, data.weight), start, seed)

    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The slices and the missing expiries, joined as far as the certificate allows."""
        count, said = framed.expiries.size, framed.extra
        variance, shape = found.parameters
        surface = SlicedSurface(variance=extended(variance[:count]), **listing(chain, framed.expiries))
        made, certificate = with_missing(surface, said.stamps, said.level, said.smile)
        stamps = chain.expiry_us[framed.expiries]
        if not np.isfinite(surface.variance).all():
            return Published(made, certificate, {})
        after = remember(said.memory, surface, stamps, shape[:count], chain)
        return Published(made, certificate, {stamp: one.numbers() for stamp, one in after.items()})


def moves(told: Told, said: Spoken, own: float = 1.0) -> Float64[np.ndarray, "expiries knots"]:
    """How far the prior's mean goes at each knot: part of the way to what is remembered, and the network's own.

    Half of what the network says: it learns from memories of fits that did not lean on memories themselves.
    """
    fresh = 1.0 / (1.0 + (_age_hours(told) / _SHAPE_HOURS) ** 4)
    return np.asarray(_DAMPED * (fresh[:, None] * said.shape_share * told.knotted("shape") + own * said.shape))


def expectation(told: Told, said: Spoken) -> tuple[np.ndarray, np.ndarray]:
    """Level beyond the neighbours' and smile beyond theirs that are expected of each expiry."""
    remembered = np.stack([told.single("level_fast"), told.single("level_slow")], axis=-1) * LEVEL_UNIT
    fresh = 1.0 / (1.0 + (_age_hours(told) / _OWN_HOURS) ** 2)
    level = fresh * (said.level_shares * remembered).sum(-1) + said.level
    return np.asarray(level), np.asarray(fresh[:, None] * said.smile_share * told.knotted("smile")) * SMILE_UNIT


def _age_hours(told: Told) -> Float64[np.ndarray, " expiries"]:
    """Hours since each expiry was last seen; the network has not been taught to tell days."""
    return np.expm1(3.0 * told.single("age").astype(np.float64))


def _with_remembered(framed: Framed, chain: Chain, memory: Mapping[int, Memory]) -> tuple[Any, Batch]:
    """Task and data with remembered quotes behind the chain's own.

    The mask tells the chain's own quotes, as whoever reads the fit expects; the weight is 1 wherever there is a quote.
    """
    found = [unquoted(memory.get(int(chain.expiry_us[one])), chain, int(one)) for one in framed.expiries]
    expiry = np.repeat(np.arange(len(found)), [len(one) for one in found])
    k, vol, half_spread, years = np.concatenate(found).T
    node, weight = stencil(k)
    half_spread = np.maximum(half_spread, NARROWEST)
    more = QuoteRows(expiry.astype(np.int32), node, weight, k, vol, half_spread, np.sqrt(years))
    rows = QuoteRows(
        *(np.concatenate([old[: chain.n_rows], new]) for old, new in zip(framed.data.rows, more, strict=True))
    )
    count = chain.n_rows + k.size
    places = row_places(count)
    place = np.arange(places)
    data = Batch(pad_rows(rows, places), place < chain.n_rows, np.where(place < count, 1.0, 0.0))
    return eqx.tree_at(lambda one: one.quotes, framed.task, np.asarray(float(count))), data


def _with_mean(task: Any, mean: Float64[np.ndarray, "expiries knots"]) -> Any:
    """The task around another mean shape."""
    return eqx.tree_at(lambda one: one.frame, task, task.frame._replace(mean=mean))


_named = jax.jit(spoken)
