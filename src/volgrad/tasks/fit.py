"""Fit chains: each to a certified local-volatility surface, by steps of one optimiser on batches of its quotes."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float64, Int8, Int32

from volgrad.errors import InputError, UnknownOptionError, suggest
from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.first_order import adam, sgd
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import Outcome, Rules, begin, fit
from volgrad.learning.training.state import Optimizer
from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement
from volgrad.models.joining import join
from volgrad.models.local_vol import Prior, slice_time_values, variables_from_shape, whole_shape
from volgrad.models.slices import SlicedSurface, extended, slice_variance
from volgrad.runtime import double_precision
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.framing import Framed, Shape, blank, diffused, frame_chain
from volgrad.tasks.surface import SurfaceTask

__all__ = ["OPTIMIZERS", "FitOptions", "Fitter", "fit_chain", "fit_chains"]

#: Names of the optimisers; `auto` is the one that reaches the target first (measured: LOG.md).
OPTIMIZERS = ("auto", "lm", "adam", "sgd")
# a thousandth of a loss of about 20 is .02 in log posterior: nothing (measured: share inside moved by .006 points)
_TOLERANCE = {"lm": 1e-3, "adam": 1e-4, "sgd": 1e-4}
_EPOCHS = {"lm": 60, "adam": 1500, "sgd": 1500}
# shrinks the prior's freedom when a surface fails its certificate (measured: of 8,000 random chains, 11
# fail down to .3 of own and smooth alone, none down to .1 of all four)
_STIFFER = (1.0, 0.6, 0.3, 0.1, 0.02)
_FREEDOMS = ("shared", "smooth", "own", "level")


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        optimizer: one of `OPTIMIZERS`.
        batch: quotes a step; None: the whole chain (docs/optimizers.md).
        warm: begin from the previous chain of the same underlying and split.
        history: how many previous chains of the same underlying and split the prior's mean leans on.
        seed: of the random order of quotes in batches, and of the kick out of a stall; 0 or more.
        prior: constants of the surface's prior.
    """

    optimizer: str = "auto"
    batch: int | None = None
    warm: bool = False
    history: int = 0
    seed: int = 0
    prior: Prior = field(default_factory=Prior)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            near = suggest(self.optimizer, OPTIMIZERS)
            names = ", ".join(OPTIMIZERS)
            raise UnknownOptionError(f"optimizer {self.optimizer!r} is not one of {names}", suggestion=near)
        wanted = [("seed", self.seed, 0), ("history", self.history, 0)]
        wanted += [] if self.batch is None else [("batch", self.batch, 1)]
        for name, value, least in wanted:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number from {least} on, not {value!r}")
        if not isinstance(self.warm, bool):
            raise InputError(f"warm must be True or False, not {self.warm!r}")


def fit_chains(
    chains: Iterable[Chain],
    options: FitOptions | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[FittedChain]:
    """Fit chain after chain, in the order given, and yield each as it is done (`Fitter` does the same by hand)."""
    fitter = Fitter(options or FitOptions())
    for chain in chains:
        fitted = fitter.fit(chain)
        progress(1)
        yield fitted


def fit_chain(chain: Chain, options: FitOptions | None = None) -> FittedChain:
    """Fit one chain by itself."""
    return Fitter(options or FitOptions()).fit(chain)


class Fitter:
    """Fits chains one after the other, and keeps what carries over: compiled programs and the latest chains.

    Attributes:
        options: how to fit.
        compile_seconds: spent on compiling so far; not part of any chain's `fit_ms`.
    """

    def __init__(self, options: FitOptions) -> None:
        """Programs are compiled when the first chain of a shape comes."""
        began = time.perf_counter()
        diffused(1.0)  # compiled here, on no chain's account
        self.options = options
        self.compile_seconds = time.perf_counter() - began
        self._latest: dict[tuple[str, str | None, Settlement], list[FittedChain]] = {}

    def fit(self, chain: Chain) -> FittedChain:
        """Fit one chain; the latest ones of its underlying and split serve as `options` says.

        A surface that fails its certificate is fitted again with a stiffer prior; one that still fails is not
        published (status "refused").
        """
        key = (chain.ccy, chain.split, chain.settlement)
        latest = self._latest.setdefault(key, [])
        fitted = self._certified(chain, latest)
        keep = max(self.options.history, int(self.options.warm))
        if fitted.shape and keep:
            self._latest[key] = [*latest, fitted][-keep:]
        return fitted

    def _certified(self, chain: Chain, latest: Sequence[FittedChain]) -> FittedChain:
        spent_fit, spent_certificate, passes = 0.0, 0.0, 0
        fitted = None
        for freedom in _STIFFER:
            prior = self.options.prior
            prior = prior._replace(**{name: freedom * getattr(prior, name) for name in _FREEDOMS})
            fitted = self._attempt(chain, prior, latest)
            spent_fit, spent_certificate = spent_fit + fitted.fit_ms, spent_certificate + fitted.certificate_ms
            passes += fitted.iterations
            fitted = dataclasses.replace(
                fitted, fit_ms=spent_fit, certificate_ms=spent_certificate, iterations=passes, freedom=freedom
            )
            if freedom < 1.0:
                told = f"{fitted.why}; with the prior's freedom cut to {freedom:g}, as it failed its certificate before"
                fitted = dataclasses.replace(fitted, why=told)
            if fitted.certificate is not None and fitted.certificate.clean:
                return fitted
        assert fitted is not None
        return _refused(fitted)

    def _attempt(self, chain: Chain, prior: Prior, latest: Sequence[FittedChain]) -> FittedChain:
        options = self.options
        began, compiled_before = time.perf_counter(), self.compile_seconds
        shapes = [one.shape for one in latest[-options.history :]] if options.history else []
        framed = frame_chain(chain, prior, shapes)
        start, warm = _start(framed, chain, latest[-1] if options.warm and latest else None)
        program = self._program(framed)
        with double_precision():
            found = jax.device_get(program(framed.task, framed.data, start, np.int64(options.seed)))
        count = framed.expiries.size
        joining = time.perf_counter()
        surface, certificate = join(_surface(chain, framed, extended(found.variance[:count])))
        outcome, epochs = Outcome(int(found.outcome)), int(found.epochs)
        model_iv = found.model_iv[: chain.n_rows]
        stamps = chain.expiry_us[framed.expiries].tolist()
        return FittedChain(
            chain=chain,
            surface=surface,
            certificate=certificate,
            status=outcome.name.lower(),
            why=outcome.advice,
            iterations=epochs,
            fit_ms=1e3 * (joining - began - (self.compile_seconds - compiled_before)),
            certificate_ms=1e3 * (time.perf_counter() - joining),
            warm=warm,
            inside=float(np.mean((model_iv >= chain.bid_iv) & (model_iv <= chain.ask_iv))),
            rmse_vol_points=100.0 * float(np.sqrt(np.mean((model_iv - chain.mid_iv) ** 2))),
            curve=[(chain.n_rows * epoch, float(found.curve[epoch])) for epoch in range(epochs + 1)],
            shape=dict(zip(stamps, found.shape[:count], strict=True)),
            model_iv=model_iv,
        )

    def _program(self, framed: Framed) -> Any:
        """The compiled fit for this shape of chain; what it takes to make it is told apart."""
        began = time.perf_counter()
        places = framed.data.clusters
        name = "lm" if self.options.optimizer == "auto" else self.options.optimizer
        size = min(self.options.batch or places, places)
        before = _compiled.cache_info().misses
        program = _compiled(name, size, Shape(places, *framed.task.frame.factor.shape))
        if _compiled.cache_info().misses > before:
            self.compile_seconds += time.perf_counter() - began
        return program


@functools.cache
def _compiled(name: str, size: int, shape: Shape) -> Any:
    with double_precision():
        task, data, start = blank(shape)
        seed = jax.ShapeDtypeStruct((), np.int64)
        return jax.jit(functools.partial(_fit, name, size)).lower(task, data, start, seed).compile()


class _Found(NamedTuple):
    variance: Float64[Array, "expiries published"]
    shape: Float64[Array, "expiries knots"]
    model_iv: Float64[Array, " quotes"]
    outcome: Int8[Array, ""]
    epochs: Int32[Array, ""]
    curve: Float64[Array, " epochs"]


def _fit(name: str, size: int, task: SurfaceTask, data: Batch, start: Array, seed: int) -> _Found:
    """The compiled program: fit, and all that is read from the variables."""
    optimizer = _optimizer(name, size, data.clusters)
    state = begin(task, optimizer, jax.random.key(seed), start)
    done = fit(task, optimizer, data, state, size, Rules(epochs=_EPOCHS[name], tolerance=_TOLERANCE[name]))
    variables = done.state.variables
    return _Found(
        slice_variance(slice_time_values(task.frame, variables)),
        whole_shape(task.frame, variables),
        task.implied_vol(variables, data.rows),
        done.outcome,
        done.epochs,
        done.curve,
    )


def _optimizer(name: str, size: int, places: int) -> Optimizer:
    steps = _EPOCHS[name] * -(-places // size)
    if name == "lm":
        return LevenbergMarquardt()
    return adam(steps=steps) if name == "adam" else sgd(steps=steps)


def _surface(chain: Chain, framed: Framed, variance: np.ndarray) -> SlicedSurface:
    k = chain.log_moneyness
    rows = [chain.rows(int(expiry)) for expiry in framed.expiries]
    return SlicedSurface(
        ts_us=chain.ts_us,
        expiry_years=chain.expiry_years[framed.expiries],
        forward_usd=chain.forward_usd[framed.expiries],
        variance=variance,
        quoted=np.array([[k[row].min(), k[row].max()] for row in rows]),
    )


def _start(framed: Framed, chain: Chain, before: FittedChain | None) -> tuple[np.ndarray, bool]:
    """Variables to begin from: the prior's mean, or the shapes that an earlier chain had at the same expiries."""
    mean = np.asarray(framed.task.frame.mean)
    cold = np.zeros(framed.task.frame.factor.shape[-1])
    if before is None:
        return cold, False
    stamps = chain.expiry_us[framed.expiries].tolist()
    shape = mean.copy()
    for place, stamp in enumerate(stamps):
        shape[place] = before.shape.get(stamp, mean[place])
    if not any(stamp in before.shape for stamp in stamps):
        return cold, False
    return variables_from_shape(framed.task.frame, shape), True


def _refused(fitted: FittedChain) -> FittedChain:
    found = "no finite surface"
    if fitted.certificate is not None:
        found = f"min g {fitted.certificate.min_g:.2g}, min calendar growth {fitted.certificate.min_calendar:.2g}"
    why = f"not published: the surface fails its arbitrage certificate even with a stiff prior ({found})"
    nothing = float("nan")
    return dataclasses.replace(
        fitted, surface=None, status="refused", why=why, inside=nothing, rmse_vol_points=nothing, shape={}
    )
