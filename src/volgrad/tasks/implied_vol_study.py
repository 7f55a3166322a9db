"""The study `implied-vol`: a network on single quotes, from where a quote stands to its implied volatility.

A cluster is a chain; `[batch] rows_per_cluster` says how many quotes of it are drawn. What is learned is the logarithm
of a quote's implied volatility over that of its expiry's quote nearest the forward, so that levels carry over.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from volgrad.data.image import Image
from volgrad.data.image.quotes import QUOTE_FEATURES, quote_image
from volgrad.errors import InputError, SchemaError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.models.networks.mlp import Mlp
from volgrad.tasks.network import NetworkModel, huber, located, mean_of, real_rows

__all__ = ["ImpliedVol", "ImpliedVolData", "ImpliedVolModel", "QuoteRegression"]

_AT = {feature.name: place for place, feature in enumerate(QUOTE_FEATURES)}
INPUTS = 8
_FARTHEST = 6.0  # deviations; what lies beyond is taken as there (assumption)
_LEAST_HALF_SPREAD = 1e-3  # of implied volatility; a tighter one weighs no more (assumption)
_BLOCK = 65_536


class ImpliedVolData(StudyData, frozen=True, kw_only=True):
    """`[data]`.

    Attributes:
        sources: files, folders or stores of quotes, one or a list.
        underlying: names such as "BTC"; all where empty.
        since, until: first and last stamp of the chains, such as "2026-01-31"; no bound where empty.
        every: cadence at which chains are drawn from streams of updates.
    """

    sources: str | tuple[str, ...] = ()
    underlying: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    every: str = "5m"


class ImpliedVolModel(NetworkModel, frozen=True, kw_only=True):
    """`[model]`.

    Attributes:
        loss: Huber's, of the error in half-spreads; or of the error in vol points, Huber's or squares.
    """

    loss: Literal["half-spreads", "points", "squares"] = "half-spreads"


class ImpliedVol(Study):
    """A multi-layer perceptron from a quote's features to its implied volatility."""

    name: ClassVar[str] = "implied-vol"
    Data: ClassVar[type[StudyData]] = ImpliedVolData
    Model: ClassVar[type[StudyModel]] = ImpliedVolModel
    clusters: ClassVar[int] = 16
    column: ClassVar[str] = "mid_iv"

    def image(self, data: ImpliedVolData, base: Path, folder: Path) -> Image:
        """A cluster a chain, a row a usable quote.

        Raises:
            InputError: no source, or none that can be used.
        """
        sources = (data.sources,) if isinstance(data.sources, str) else data.sources
        if not all(sources) or not sources:
            raise InputError('data.sources is empty: name quotes, such as sources = "market" after `volgrad simulate`')
        return quote_image(
            [located(base, path) for path in sources],
            folder,
            from_=data.since or None,
            to=data.until or None,
            underlying=data.underlying or None,
            every=data.every,
        )

    def task(self, model: ImpliedVolModel, image: Image, train: range) -> "QuoteRegression":
        """Inputs are scaled as they are in the training split."""
        if tuple(image.features) != QUOTE_FEATURES:
            raise SchemaError("implied-vol needs an image of quotes: derive it with quote_image")
        mean, scale = _scaling(image, train)
        return QuoteRegression(
            model.network(INPUTS, 1), jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32), model.loss
        )


class _Told(NamedTuple):
    """Errors of a batch, in vol points (hundredths) and in half-spreads; the statistics after it."""

    points: Float[Array, "clusters rows"]
    half_spreads: Float[Array, "clusters rows"]
    statistics: PyTree


class QuoteRegression(Task):
    """Each quote's implied volatility from its own features.

    Attributes:
        network: from `INPUTS` inputs, scaled, to the logarithm of the quote's volatility over the expiry's level.
        mean, scale: of the inputs. Shape: (inputs,).
        kind: of the loss.
    """

    network: Mlp
    mean: Float[Array, " inputs"]
    scale: Float[Array, " inputs"]
    kind: str = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """The network's."""
        return self.network.init(key)

    def loss(
        self, variables: PyTree, statistics: PyTree, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, " clusters"], PyTree]:
        """Mean over a chain's quotes."""
        told = self._told(variables, statistics, batch, True, key)
        return mean_of(self._cost(told), real_rows(batch), 1), told.statistics

    def evaluate(self, variables: PyTree, statistics: PyTree, batch: Batch) -> dict[str, Any]:
        """`loss`; `rmse_vol_points`; `inside`: share of quotes whose volatility lies between bid's and ask's."""
        told, mask = self._told(variables, statistics, batch, False, None), real_rows(batch)
        inside = (jnp.abs(told.half_spreads) <= 1.0).astype(told.points.dtype)
        return {
            "loss": mean_of(self._cost(told), mask),
            "rmse_vol_points": jnp.sqrt(mean_of(told.points**2, mask)),
            "inside": mean_of(inside, mask),
        }

    def _cost(self, told: _Told) -> Float[Array, "clusters rows"]:
        if self.kind == "half-spreads":
            return huber(told.half_spreads, 1.0)
        return huber(told.points, 1.0 if self.kind == "points" else None)

    def _told(
        self, variables: PyTree, statistics: PyTree, batch: Batch, training: bool, key: PRNGKeyArray | None
    ) -> _Told:
        values, mask = batch.rows.values, real_rows(batch)
        safe = jnp.where(mask[..., None], values, 1.0)  # logarithms and ratios of padding must be finite
        x = (inputs_of(safe) - self.mean[None, None]) / self.scale[None, None]
        x = jnp.clip(x, -_FARTHEST, _FARTHEST)
        y, statistics = self.network(variables, statistics, x, mask, training, key)
        level, mid, half = (safe[..., _AT[name]] for name in ("nearest_iv", "mid_iv", "half_spread_iv"))
        # beyond e^3 of the level nothing is quoted, and the exponential stays finite
        error = jnp.where(mask, level * jnp.exp(jnp.clip(y[..., 0], -3.0, 3.0)) - mid, 0.0)
        return _Told(100.0 * error, error / jnp.maximum(half, _LEAST_HALF_SPREAD), statistics)


def inputs_of(values: Float[Any, "*rows features"]) -> Float[Any, "*rows inputs"]:
    """What the network sees of a quote; numpy or JAX as it came.

    Moneyness over the root of time, the same over the level, root of time, logarithms of the clock's time and of the
    level, the expiry's carry, call or put, underlying.
    """
    xp = np if isinstance(values, np.ndarray) else jnp
    moneyness, root, clock, level, carry, is_call, underlying = (
        values[..., _AT[name]]
        for name in (
            "log_moneyness",
            "root_years",
            "clock_years",
            "nearest_iv",
            "log_forward_ratio",
            "is_call",
            "underlying_id",
        )
    )
    slope = moneyness / xp.maximum(root, 1e-4)
    clock_log, level_log = xp.log(xp.maximum(clock, 1e-8)), xp.log(xp.maximum(level, 1e-4))
    columns = [slope, slope / xp.maximum(level, 1e-4), root, clock_log, level_log, carry, is_call, underlying]
    return xp.stack(columns, axis=-1)


def _scaling(image: Image, train: range) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the inputs over the training split; a deviation of 1 where an input does not vary."""
    first, last = int(image.first_row[train.start]), int(image.first_row[train.stop])
    count, total, square = 0, np.zeros(INPUTS), np.zeros(INPUTS)
    origin = inputs_of(np.asarray(image.rows[first : first + 1], float))[0]
    for start in range(first, last, _BLOCK):
        shifted = inputs_of(np.asarray(image.rows[start : min(start + _BLOCK, last)], float)) - origin[None]
        count, total, square = count + len(shifted), total + shifted.sum(0), square + (shifted**2).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return origin + mean, np.where(deviation > 1e-6, deviation, 1.0)
