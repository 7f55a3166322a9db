"""The study `surface-net`: what chains lack, learned from chains that have it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from volgrad.data import build, read_quotes
from volgrad.data.image import Image, ImageWriter
from volgrad.errors import EmptyInputError, InputError, SchemaError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.market.chain import Chain
from volgrad.models.local_vol import KNOTS
from volgrad.models.surface_net import Spoken, SurfaceNetwork, spoken
from volgrad.tasks.network import located
from volgrad.tasks.surface_net.features import FEATURES, LEVEL_UNIT, SMILE_UNIT
from volgrad.tasks.surface_net.markets import market_chains
from volgrad.tasks.surface_net.sequences import COLUMNS, TARGETS, Example, examples
from volgrad.tasks.surface_net.views import VIEWS

__all__ = ["Shapes", "SurfaceNetData", "SurfaceNetModel", "SurfaceNetStudy"]

_COUNT = KNOTS.size
_INPUTS = len(FEATURES)
_VERSION = 1
_OWN = (
    "markets",
    "chains",
    "first_seed",
    "views",
    "mixed",
)  # keys of `[data]` that examples depend on, beside the files
_AT = {name: place for place, name in enumerate((*FEATURES, *TARGETS))}


class SurfaceNetData(StudyData, frozen=True, kw_only=True):
    """`[data]`.

    Attributes:
        sources: files, folders or stores of recorded quotes; simulated markets where there are none.
        markets: simulated ones; beside recorded quotes they are made where `mixed` says so.
        chains: of each simulated market.
        first_seed: of the first market; the others follow.
        views: what is hidden; simulated markets take turns, recorded quotes are looked at in each.
        mixed: whether simulated markets stand beside recorded quotes.
    """

    sources: str | tuple[str, ...] = ()
    markets: int = 4
    chains: int = 8
    first_seed: int = 1000
    views: tuple[str, ...] = VIEWS
    mixed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.markets < 1 or self.chains < 2 or self.first_seed < 0:
            raise InputError(f"data.markets = {self.markets}, data.chains = {self.chains}: give 1 and 2 or more")
        for view in self.views:
            if view not in VIEWS:
                raise InputError(f"data.views has {view!r}: views are {', '.join(VIEWS)}")
        if not self.views:
            raise InputError(f"data.views is empty: views are {', '.join(VIEWS)}")


class SurfaceNetModel(StudyModel, frozen=True, kw_only=True):
    """`[model]`.

    Attributes:
        width, depth: of encoder and decoder.
        norm: normalisation of the hidden rows; "ghost" in groups of 16 chains.
        own_shape: whether the network may move the prior's mean by itself; without it, memory alone moves it.
        penalty: weight of the squares of what it says beyond memory.
    """

    width: int = 64
    depth: int = 2
    norm: Literal["none", "batch", "ghost", "renorm", "layer"] = "ghost"
    own_shape: bool = True
    penalty: float = 0.01

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1 or not 0.0 <= self.penalty < 1e6:
            raise InputError(
                f"model: width {self.width}, depth {self.depth} and penalty {self.penalty} must be positive"
            )


class SurfaceNetStudy(Study):
    """A cluster is a chain, a row an expiry of it."""

    name: ClassVar[str] = "surface-net"
    Data: ClassVar[type[StudyData]] = SurfaceNetData
    Model: ClassVar[type[StudyModel]] = SurfaceNetModel
    clusters: ClassVar[int] = 64

    def image(self, data: SurfaceNetData, base: Path, folder: Path) -> Image:
        """Examples of all markets, in the order of time.

        Raises:
            EmptyInputError: no chain that could be fitted.
        """
        paths = [located(base, path) for path in _listed(data.sources)]
        own = {name: value for name, value in msgspec.to_builtins(data).items() if name in _OWN}
        made_of = {"version": _VERSION, "files": [_digest(path) for path in paths], **own}
        place = folder / "surface-net-image"
        if place.is_dir():
            found = Image.open(place)
            if found.provenance.get("made_of") == made_of and tuple(found.features) == tuple(COLUMNS):
                return found
        every = sorted(_every(data, paths), key=lambda one: one.ts_us)
        if not every:
            raise EmptyInputError("surface-net: no chain could be fitted: give other data.sources")
        stamps = [one.ts_us for one in every]
        with ImageWriter(place, COLUMNS) as writer:
            rows = np.concatenate([one.rows for one in every])
            writer.append(rows, [len(one.rows) for one in every], stamps, stamps)
            return writer.seal({"made_of": made_of})

    def task(self, model: SurfaceNetModel, image: Image, train: range) -> "Shapes":
        """Nothing is fitted to the data beforehand: features have units of about 1."""
        del train
        if [one.name for one in image.features] != [one.name for one in COLUMNS]:
            raise SchemaError("surface-net needs an image of its own columns: derive it with its study")
        network = SurfaceNetwork.of(_INPUTS, model.width, model.depth, model.norm)
        return Shapes(network, model.own_shape, model.penalty)


class Shapes(Task):
    """Own levels and smiles of expiries that are missing, shapes of those that are there.

    Attributes:
        network: from the features of an expiry to what `spoken` names.
        own_shape: see `SurfaceNetModel`.
        penalty: likewise.
    """

    network: SurfaceNetwork
    own_shape: bool = eqx.field(static=True)
    penalty: float = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """A network that says nothing."""
        return self.network.init(key)

    def loss(
        self, variables: PyTree, statistics: PyTree, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, " clusters"], PyTree]:
        """Mean over a chain's expiries."""
        mask = batch.rows.mask & batch.mask[:, None]
        x = jnp.where(mask[..., None], batch.rows.values, 0.0)
        out, after = self.network(variables, statistics, x[..., :_INPUTS], mask, True, key)
        said = spoken(out)
        level, smile, shape = _errors(x, said, self.own_shape)
        extra = (said.shape**2).mean(-1) * 25.0 + (said.level / LEVEL_UNIT) ** 2
        total = _huber(level).sum(-1) + 0.3 * _huber(smile).mean(-1) + _huber(shape).mean(-1) + self.penalty * extra
        return jnp.where(mask, total, 0.0).sum(1) / jnp.maximum(mask.sum(1), 1), after

    def evaluate(self, variables: PyTree, statistics: PyTree, batch: Batch) -> dict[str, Any]:
        """`loss`; and for level, smile and shape the loss over that of a network which says nothing."""
        mask = batch.rows.mask & batch.mask[:, None]
        x = jnp.where(mask[..., None], batch.rows.values, 0.0)
        out = self.network(variables, statistics, x[..., :_INPUTS], mask, False)[0]
        found = _errors(x, spoken(out), self.own_shape)
        without = _errors(x, spoken(jnp.zeros_like(out)), self.own_shape)
        names = ("level", "smile", "shape")
        told = {
            name: _mean(_huber(one), mask) / jnp.maximum(_mean(_huber(none), mask), 1e-9)
            for name, one, none in zip(names, found, without, strict=True)
        }
        level, smile, shape = found
        loss = _huber(level).sum(-1) + 0.3 * _huber(smile).mean(-1) + _huber(shape).mean(-1)
        return {"loss": _mean(loss[..., None], mask), **told}


def _errors(x: Float[Array, "clusters rows columns"], said: Spoken, own_shape: bool) -> tuple[Array, Array, Array]:
    """Errors of level, smile and shape in units of what matters, times the roots of their weights."""

    def at(name: str, count: int = 1) -> Array:
        first = _AT[name] if count == 1 else _AT[f"{name}_0"]
        return x[..., first : first + count]

    # a level that is off by less than half a spread is good enough
    unit = jnp.sqrt(at("scale") ** 2 + 0.003**2)
    remembered = x[..., _AT["level_fast"] : _AT["level_slow"] + 1] * LEVEL_UNIT
    level = (said.level_shares * remembered).sum(-1, keepdims=True) + said.level[..., None]
    level = (level - at("own_level")) / unit * jnp.sqrt(at("own_level_weight"))
    smile = said.smile_share * at("smile", _COUNT) * SMILE_UNIT - at("own_smile", _COUNT)
    smile = smile / unit * jnp.sqrt(at("own_smile_weight", _COUNT))
    move = said.shape_share * at("shape", _COUNT)
    move = move + said.shape if own_shape else move
    shape = (move - at("move", _COUNT)) / 0.1 * jnp.sqrt(at("move_weight", _COUNT))
    return level, smile, shape


def _huber(error: Float[Array, "..."]) -> Float[Array, "..."]:
    """Squares up to 1, then straight."""
    size = jnp.abs(error)
    return jnp.where(size < 1.0, 0.5 * size**2, size - 0.5)


def _mean(values: Float[Array, "clusters rows columns"], mask: Bool[Array, "clusters rows"]) -> Float[Array, ""]:
    return jnp.where(mask[..., None], values, 0.0).sum() / jnp.maximum(mask.sum() * values.shape[-1], 1)


def _listed(sources: str | tuple[str, ...]) -> tuple[str, ...]:
    return (sources,) if isinstance(sources, str) else sources


def _digest(path: Path) -> list[str]:
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return [hashlib.sha256(one.read_bytes()).hexdigest() for one in files if one.is_file()]


def _every(data: SurfaceNetData, paths: list[Path]) -> Iterator[Example]:
    if paths:
        chains = build(read_quotes(paths)).chains
        for number, view in enumerate(data.views):
            for ccy in sorted({chain.ccy for chain in chains}):
                yield from examples(_of(chains, ccy), view, data.first_seed + number)
        if not data.mixed:
            return
    for market in range(data.markets):
        seed = data.first_seed + market
        yield from examples(market_chains(seed, data.chains), data.views[market % len(data.views)], seed)


def _of(chains: list[Chain], ccy: str) -> list[Chain]:
    return [chain for chain in chains if chain.ccy == ccy]
