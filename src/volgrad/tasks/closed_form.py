"""The classical surfaces as kinds of surfaces that chains are fitted with: SSVI, eSSVI, raw SVI."""

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64

from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import Outcome
from volgrad.market.chain import Chain
from volgrad.models.certificate import certify
from volgrad.models.joining import certificate_reach, certificate_times
from volgrad.models.levels import at_the_money_variance
from volgrad.models.ssvi import EssviCoordinates, SsviCoordinates, SsviSlices, WingCoordinates
from volgrad.models.ssvi_surface import EssviSurface, SsviSurface
from volgrad.models.surface import ListedSurface
from volgrad.models.svi import SviSurface
from volgrad.tasks.framing import ladder_size
from volgrad.tasks.model import Care, Carried, Found, Framed, Model, Published, Training, listing
from volgrad.tasks.smiles import smile_rows
from volgrad.tasks.ssvi import SsviTask
from volgrad.tasks.svi import SviTask, quasi_explicit

__all__ = ["Essvi", "Ssvi", "Svi"]

# Saturated coordinates feel little and may run far: short steps, damped from the start (measured on 30 recorded chains
# with the loss of local-vol: 28 eSSVI fits converge, 23 with the usual constants, to a loss that is lower by .4 %)
_CARE = Care(LevenbergMarquardt(damping=0.1, largest=1.0), tolerance=1e-4)
# raw SVI descends long, nearly flat valleys (measured: at a tenth of the care its loss is 1 % higher)
_SVI_CARE = Care(LevenbergMarquardt(damping=0.1, largest=1.0), tolerance=1e-5, passes=120)
_FIRST_RHO, _FIRST_CURVE = 0.0, 1.0  # of a cold start: `rho`, and `psi / sqrt(theta)` (assumption)
# Coarser than those of local-vol: a place costs little here, and every shape is compiled
_EXPIRIES, _ROWS, _WIDTHS = (4, 14, 24, 40, 64), (64, 256, 512, 1024, 2048, 4096), (16, 48, 96, 192, 384)
_VERTICES = np.array([[0.0, 5.0], [0.0, 0.5], [-0.5, 1.5]])  # m and sigma of the starts, standard deviations


def _levels(chain: Chain) -> tuple[np.ndarray, np.ndarray, Float64[np.ndarray, " expiries"], np.ndarray]:
    """Expiries with quotes, each quote's among them, their level, and its growth, padded to the ladder."""
    expiries, expiry = np.unique(chain.expiry_index, return_inverse=True)
    theta = at_the_money_variance(chain)
    size = ladder_size(theta.size, _EXPIRIES)
    growth = np.full(size, 0.05 * theta[-1])
    growth[: theta.size] = np.diff(theta, prepend=0.0)
    return expiries, expiry, theta, growth


def _published(surface: ListedSurface, carried: Carried) -> Published:
    certificate = certify(surface, certificate_times(surface.expiry_years), certificate_reach(surface))
    return Published(surface, certificate, carried)


def _carried(chain: Chain, framed: Framed, *columns: np.ndarray) -> Carried:
    stamps = chain.expiry_us[framed.expiries].tolist()
    return dict(zip(stamps, np.stack(columns, axis=1), strict=True))


class Wings(Model):
    """SSVI and eSSVI: slices in coordinates that cannot arbitrage."""

    leans: ClassVar[bool] = False
    freedoms: ClassVar[tuple[float, ...]] = (1.0,)
    may_arbitrage: ClassVar[bool] = False

    @abc.abstractmethod
    def coordinates(self, growth: Float64[np.ndarray, " places"], expiries: int) -> WingCoordinates:
        """Coordinates of slices of which the first `expiries` are no padding; `growth` of level is usual to each."""

    def frame(self, chain: Chain, earlier: Sequence[Carried], freedom: float) -> Framed:
        """Coordinates scaled by the chain's own levels (nothing leans on earlier chains)."""
        del earlier, freedom
        expiries, expiry, theta, growth = _levels(chain)
        coordinates = self.coordinates(growth, theta.size)
        rows, mask = smile_rows(chain, expiry, slice(0, chain.n_rows), (ladder_size(chain.n_rows, _ROWS),))
        usual = SsviSlices(theta, np.full(theta.size, _FIRST_RHO), _FIRST_CURVE * np.sqrt(theta))
        task = SsviTask(coordinates, coordinates.variables(usual), np.asarray(float(chain.n_rows)))
        return Framed(task, Batch(rows, mask, np.ones(mask.size)), expiries, theta)

    def start(self, framed: Framed, chain: Chain, before: Carried | None) -> tuple[np.ndarray, bool]:
        """A usual smile everywhere, or `rho` and `psi / sqrt(theta)` of an earlier chain at the same expiries."""
        stamps = chain.expiry_us[framed.expiries].tolist()
        if before is None or not any(stamp in before for stamp in stamps):
            return framed.task.centre, False
        known = [stamp for stamp in stamps if stamp in before]
        near = [before[min(known, key=lambda other: abs(other - stamp))] for stamp in stamps]
        rho, curve = np.array(near).T
        return framed.task.coordinates.variables(SsviSlices(framed.theta, rho, curve * np.sqrt(framed.theta))), True

    def solve(self, training: Training, task: Any, data: Batch, start: Array, seed: Array) -> Found:
        """Fit and read the slices (inside `jit`)."""
        done = training.run(task, data, start, seed, _CARE)
        variables = done.state.variables
        slices = task.coordinates.slices(variables)
        return Found(slices, task.implied_vol(variables, data.rows), done.outcome, done.epochs, done.curve)


@dataclass(frozen=True)
class Essvi(Wings):
    """Extended SSVI: three numbers an expiry, no arbitrage by construction."""

    name: ClassVar[str] = "essvi"
    usual_inside: ClassVar[str] = "65 to 85 %"
    doubtful_inside: ClassVar[float] = 0.3  # (assumption)

    def coordinates(self, growth: Float64[np.ndarray, " places"], expiries: int) -> WingCoordinates:
        """Three numbers of every expiry."""
        return EssviCoordinates(growth, np.arange(growth.size) < expiries)

    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The slices as they are: what lies between them is free of arbitrage, too."""
        theta, rho, psi = (values[: framed.expiries.size] for values in found.parameters)
        surface = EssviSurface(theta=theta, rho=rho, psi=psi, **listing(chain, framed.expiries))
        return _published(surface, _carried(chain, framed, rho, psi / np.sqrt(theta)))


@dataclass(frozen=True)
class Ssvi(Wings):
    """SSVI: one correlation and a power law for all expiries, no arbitrage by construction."""

    name: ClassVar[str] = "ssvi"
    usual_inside: ClassVar[str] = "50 to 70 %"
    doubtful_inside: ClassVar[float] = 0.2  # (assumption)

    def coordinates(self, growth: Float64[np.ndarray, " places"], expiries: int) -> WingCoordinates:
        """The level of every expiry, one correlation and the power law."""
        return SsviCoordinates(growth, np.asarray(expiries - 1, np.int32))

    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The power law through the slices that were found."""
        theta, rho, psi = (values[: framed.expiries.size] for values in found.parameters)
        span = np.log(theta[-1] / theta[0])
        power = float(np.clip(np.log(psi[-1] / psi[0]) / span, 0.0, 1.0)) if span > 0.0 else 0.5
        eta = float(psi[0] / theta[0] ** power)
        surface = SsviSurface(
            theta=theta, rho=float(rho[0]), eta=eta, gamma=1.0 - power, **listing(chain, framed.expiries)
        )
        return _published(surface, _carried(chain, framed, rho, psi / np.sqrt(theta)))


@dataclass(frozen=True)
class Svi(Model):
    """Raw SVI: five numbers an expiry, each expiry by itself, from several starts."""

    name: ClassVar[str] = "svi"
    leans: ClassVar[bool] = False
    freedoms: ClassVar[tuple[float, ...]] = (1.0,)
    may_arbitrage: ClassVar[bool] = True
    usual_inside: ClassVar[str] = "96 to 98 %"
    doubtful_inside: ClassVar[float] = 0.85  # (assumption)

    def frame(self, chain: Chain, earlier: Sequence[Carried], freedom: float) -> Framed:
        """One task and one batch an expiry, stacked (nothing leans on earlier chains)."""
        del earlier, freedom
        expiries, expiry, count = np.unique(chain.expiry_index, return_inverse=True, return_counts=True)
        level = at_the_money_variance(chain)
        size = ladder_size(level.size, _EXPIRIES)
        column = np.arange(chain.n_rows) - np.repeat(np.cumsum(count) - count, count)
        shape = (size, ladder_size(int(count.max()), _WIDTHS))
        rows, mask = smile_rows(chain, expiry, (expiry, column), shape)
        theta, quotes = np.full(size, level[-1]), np.ones(size)
        theta[: level.size], quotes[: level.size] = level, count
        return Framed(SviTask(theta, quotes), Batch(rows, mask, np.ones(shape)), expiries, level)

    def start(self, framed: Framed, chain: Chain, before: Carried | None) -> tuple[np.ndarray, bool]:
        """Three starts an expiry; an earlier chain's smile stands in for the first where it has that expiry."""
        starts = quasi_explicit(framed.data.rows, np.asarray(framed.data.mask), framed.task.theta, _VERTICES)
        stamps = chain.expiry_us[framed.expiries].tolist()
        before = before or {}
        known = [place for place, stamp in enumerate(stamps) if stamp in before]
        for place in known:
            starts[place, 0] = before[stamps[place]]
        return starts, bool(known)

    def solve(self, training: Training, task: Any, data: Batch, start: Array, seed: Array) -> Found:
        """Every start of every expiry at once; the best of each expiry is kept."""
        starts = jax.vmap(functools.partial(training.run, care=_SVI_CARE), (None, None, 0, None))
        done = jax.vmap(starts, (0, 0, 0, None))(task, data, start, seed)
        best = jnp.argmin(jnp.where(jnp.isfinite(done.loss), done.loss, jnp.inf), axis=1)
        outcome, loss, epochs, curve, variables = jax.tree.map(
            lambda values: jax.vmap(lambda own, place: own[place])(values, best),
            (done.outcome, done.loss, done.epochs, done.curve, done.state.variables),
        )
        vol = jax.vmap(lambda own, at, batch: own.implied_vol(at, batch.rows))(task, variables, data)
        slices = jax.vmap(lambda own, at: own.slice_(at))(task, variables)
        real = data.mask.any(axis=1)
        weight = data.mask.sum(axis=1) / data.mask.sum()
        # an expiry that is done keeps its loss while others go on
        curve = jnp.where(jnp.arange(curve.shape[1])[None, :] <= epochs[:, None], curve, loss[:, None])
        outcome = jnp.max(jnp.where(real, outcome, Outcome.CONVERGED))  # in order of severity
        parameters = jnp.stack(slices, axis=-1), variables
        return Found(parameters, vol, outcome, jnp.max(jnp.where(real, epochs, 0)), jnp.dot(weight, curve))

    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The slices, joined at equal standard deviations; the certificate says what arbitrage that has."""
        count = framed.expiries.size
        parameters, variables = (np.asarray(values)[:count] for values in found.parameters)
        surface = SviSurface(parameters=parameters, **listing(chain, framed.expiries))
        return _published(surface, _carried(chain, framed, *variables.T))
