"""Renormalisation: batch statistics corrected towards running ones, in training and in serving, within bounds."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from volgrad.errors import InputError
from volgrad.models.networks.affine import Affine, check, check_bounds, served
from volgrad.models.networks.batch_norm import BatchNorm, GhostNorm
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.statistics import Moments, Running, advance, moments

__all__ = ["BatchRenorm", "Live", "Renormed", "StreamNorm", "Streamed"]

Rows = Float[Array, "clusters rows features"]
Mask = Bool[Array, "clusters rows"]


class Renormed(NamedTuple):
    """Statistics of `BatchRenorm`.

    running: as in batch normalisation.
    ramp: clusters seen, as a share of those after which the bounds are at their widest; at most 1. Shape: ().
    """

    running: Running
    ramp: Float[Array, ""]


class Live(NamedTuple):
    """What was seen while serving, starting from the training statistics. Shapes: (features,).

    offset: mean less the training mean's `centre`.
    variance: of single rows around it, the movement of the mean included.
    """

    offset: Float[Array, " features"]
    variance: Float[Array, " features"]


class Streamed(NamedTuple):
    """Statistics of `StreamNorm`: those of the form it wraps, and the live ones."""

    inner: PyTree
    live: Live


class BatchRenorm(Layer):
    """Batch renormalisation (Ioffe 2017) [paper]: in training, too, rows meet nearly what they meet in serving.

    The batch's normalised values are multiplied by `r` and shifted by `d`, constants in differentiation, which would
    make them those of the running statistics if they were not bounded: `1 / r_max <= r <= r_max`, `|d| <= d_max`.
    Bounds widen linearly from batch normalisation (1 and 0).

    Attributes:
        features: of a row.
        r_max: widest bound of the ratio of standard deviations (3 in the paper).
        d_max: widest bound of the shift, in running standard deviations (5 in the paper).
        hold_clusters: clusters at the beginning for which it is plain batch normalisation.
        ramp_clusters: clusters after those until the bounds are at their widest.
        half_life_clusters: clusters after which a batch counts half in the running statistics.
        epsilon: added to variances.
        axis_name: of the mapped axis over whose devices a batch is spread; None where it is on one.
    """

    features: int = eqx.field(static=True)
    r_max: float = eqx.field(static=True, default=3.0)
    d_max: float = eqx.field(static=True, default=5.0)
    hold_clusters: float = eqx.field(static=True, default=10_000.0)
    ramp_clusters: float = eqx.field(static=True, default=40_000.0)
    half_life_clusters: float = eqx.field(static=True, default=10_000.0)
    epsilon: float = eqx.field(static=True, default=1e-5)
    axis_name: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check(self, half_life_clusters=self.half_life_clusters, epsilon=self.epsilon, ramp_clusters=self.ramp_clusters)
        check_bounds(self.r_max, self.d_max)
        if not self.hold_clusters >= 0.0:
            raise InputError(f"hold_clusters is {self.hold_clusters}: give 0 or a positive number.")

    def init(self, key: PRNGKeyArray) -> tuple[Affine, Renormed]:
        """The identity, and statistics of nothing yet; nothing is drawn."""
        del key
        return Affine.start(self.features), Renormed(Running.start(self.features), jnp.zeros((), jnp.float32))

    def __call__(
        self, variables: Affine, statistics: Renormed, x: Rows, mask: Mask, training: bool, key: Any = None
    ) -> tuple[Rows, Renormed]:
        """By the batch's moments, corrected, in training; by the running ones in serving."""
        del key
        running, ramp = statistics
        if not training:
            return served(variables, running, x, mask, self.epsilon), statistics
        found, centred = moments(x[None], mask[None], self.axis_name)
        r, d = (jax.lax.stop_gradient(value) for value in self._correction(found, statistics))
        deviation = jnp.sqrt(found.variance + self.epsilon)[None]
        corrected = centred[0] / deviation * r[None, None] + d[None, None]
        y = variables.scale[None, None] * corrected + variables.shift[None, None]
        y = jnp.where(mask[..., None], y, variables.shift[None, None])
        ramp = jnp.minimum(ramp + found.clusters[0] / (self.hold_clusters + self.ramp_clusters), 1.0)
        moved = Renormed(advance(running, found, self.half_life_clusters), jax.lax.stop_gradient(ramp))
        return y, moved

    def _correction(self, found: Moments, statistics: Renormed) -> tuple[Array, Array]:
        """`r` and `d`: 1 and 0 where there is nothing to compare with. Shapes: (features,)."""
        running, ramp = statistics
        held = self.hold_clusters / (self.hold_clusters + self.ramp_clusters)
        width = jnp.where(running.age > 0.0, jnp.clip((ramp - held) / (1.0 - held), 0.0, 1.0), 0.0)
        width = jnp.where(found.rows[0] > 1.0, width, 0.0)
        widest = 1.0 + width * (self.r_max - 1.0)
        deviation = jnp.sqrt(running.variance + self.epsilon)
        r = jnp.clip(jnp.sqrt(found.variance[0] + self.epsilon) / deviation, 1.0 / widest, widest)
        d = ((found.centre[0] - running.centre) + (found.offset[0] - running.offset)) / deviation
        return r, jnp.clip(d, -width * self.d_max, width * self.d_max)


class StreamNorm(Layer):
    """Bounded renormalisation in serving, for live quotes, whose batches are correlated in time.

    It trains as the form it wraps. In serving it normalises by the training statistics moved towards those of the live
    stream: `mean + d * deviation` and `r * deviation`, with `r` and `d` bounded as in batch renormalisation. Statistics
    of a single live batch are no estimate of anything, as its rows belong together (test-time batch normalisation fails
    there: Gong et al. 2022, NOTE [paper]); so a slow average is used, as in DELTA (Zhao et al. 2023) [paper], which
    starts from the training statistics, and whose variance includes the movement of the batches' means.
    A row is normalised by what was seen *before* its batch: predict first, then look. So the layer is affine while it
    serves. Rows that come again and again in training reset the live statistics to the training ones.

    Attributes:
        inner: `BatchNorm`, `GhostNorm` or `BatchRenorm`.
        live_half_life_clusters: clusters after which half of the move from the training statistics is made.
        r_max: bound of the ratio of standard deviations.
        d_max: bound of the shift, in training standard deviations.
    """

    inner: BatchNorm | GhostNorm | BatchRenorm
    live_half_life_clusters: float = eqx.field(static=True, default=500.0)
    r_max: float = eqx.field(static=True, default=3.0)
    d_max: float = eqx.field(static=True, default=5.0)

    def __check_init__(self) -> None:
        check(self, live_half_life_clusters=self.live_half_life_clusters)
        check_bounds(self.r_max, self.d_max)

    def init(self, key: PRNGKeyArray) -> tuple[Affine, Streamed]:
        """Those of the wrapped form, and live statistics equal to the training ones."""
        variables, statistics = self.inner.init(key)
        return variables, Streamed(statistics, _live(statistics))

    def __call__(
        self, variables: Affine, statistics: Streamed, x: Rows, mask: Mask, training: bool, key: Any = None
    ) -> tuple[Rows, Streamed]:
        """As the wrapped form in training; in serving by the moved statistics, which then move on."""
        if training:
            y, inner = self.inner(variables, statistics.inner, x, mask, True, key)
            return y, Streamed(inner, _live(inner))
        running, live = _running(statistics.inner), statistics.live
        epsilon = self.inner.epsilon
        deviation = jnp.sqrt(running.variance + epsilon)
        r = jnp.clip(jnp.sqrt(live.variance + epsilon) / deviation, 1.0 / self.r_max, self.r_max)
        d = jnp.clip((live.offset - running.offset) / deviation, -self.d_max, self.d_max)
        moved = running._replace(offset=running.offset + d * deviation, variance=jnp.square(r * deviation) - epsilon)
        y = served(variables, moved, x, mask, epsilon)
        return y, Streamed(statistics.inner, self._look(running, live, x, mask))

    def _look(self, running: Running, live: Live, x: Rows, mask: Mask) -> Live:
        """Weighted mean and variance after one more batch (West 1979) [paper]."""
        found, _ = moments(jax.lax.stop_gradient(x)[None], mask[None], self.inner.axis_name)
        # none is made of the first batches: there is nothing to move from before training
        fresh = jnp.where(running.age > 0.0, found.clusters[0] / self.live_half_life_clusters, 0.0)
        gain = 1.0 - jnp.exp2(-fresh)
        away = (found.centre[0] - running.centre) + (found.offset[0] - live.offset)
        spread = found.variance[0] + (1.0 - gain) * jnp.square(away)
        return Live(live.offset + gain * away, (1.0 - gain) * live.variance + gain * spread)


def _running(statistics: PyTree) -> Running:
    return statistics.running if isinstance(statistics, Renormed) else statistics


def _live(statistics: PyTree) -> Live:
    running = _running(statistics)
    return Live(running.offset, running.variance)
