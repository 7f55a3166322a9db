"""Fit chains: each to a certified surface of one kind, by steps of one optimiser on batches of its quotes."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from volgrad.errors import InputError, UnknownOptionError, suggest
from volgrad.learning.training.loop import Outcome
from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement
from volgrad.models.local_vol import Prior
from volgrad.runtime import double_precision
from volgrad.tasks.closed_form import Essvi, Ssvi, Svi
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.framing import diffused
from volgrad.tasks.local_vol import LocalVol
from volgrad.tasks.model import Framed, Model, Training
from volgrad.tasks.surface_net import SurfaceNet, load_weights

__all__ = ["MODELS", "OPTIMIZERS", "FitOptions", "Fitter", "fit_chain", "fit_chains"]

#: Names of the optimisers; `auto` is the one that reaches the target first (measured: LOG.md).
OPTIMIZERS = ("auto", "lm", "adam", "sgd")
#: Kinds of surfaces by name.
MODELS: dict[str, type[Model]] = {kind.name: kind for kind in (LocalVol, SurfaceNet, Essvi, Ssvi, Svi)}


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        model: kind of surface, a name in `MODELS`.
        optimizer: one of `OPTIMIZERS`.
        batch: quotes a step (svi: of each expiry, which is fitted by itself); None: all (docs/optimizers.md).
        warm: begin from the previous chain of the same underlying and split.
        history: how many previous chains of the same underlying and split the prior's mean leans on (local-vol); any
            number from 1 on: what earlier chains showed is remembered (surface-net).
        seed: of the random order of quotes in batches, and of the kick out of a stall; 0 or more.
        prior: constants of the prior (local-vol alone).
        weights: file of weights, or the folder of a run (surface-net alone); None: those that come with volgrad.
    """

    model: str = "local-vol"
    optimizer: str = "auto"
    batch: int | None = None
    warm: bool = False
    history: int = 0
    seed: int = 0
    prior: Prior = field(default_factory=Prior)
    weights: Path | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("model", self.model, MODELS), ("optimizer", self.optimizer, OPTIMIZERS)):
            if value not in known:
                near = suggest(value, tuple(known))
                raise UnknownOptionError(f"{name} {value!r} is not one of {', '.join(known)}", suggestion=near)
        wanted = [("seed", self.seed, 0), ("history", self.history, 0)]
        wanted += [] if self.batch is None else [("batch", self.batch, 1)]
        for name, value, least in wanted:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number from {least} on, not {value!r}")
        if not isinstance(self.warm, bool):
            raise InputError(f"warm must be True or False, not {self.warm!r}")
        if self.history and not MODELS[self.model].leans:
            raise InputError(
                f"history = {self.history} has no use with model {self.model}, which has no prior that could lean on "
                "earlier chains: leave it out, or fit local-vol"
            )
        if self.prior != Prior() and self.model != LocalVol.name:
            raise InputError(f"prior is of model {LocalVol.name}: {self.model} has none; leave it out")
        if self.weights is not None and self.model != SurfaceNet.name:
            raise InputError(f"weights are of model {SurfaceNet.name}: {self.model} has none; leave them out")


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
        kind = MODELS[options.model]
        self._model = _model(options)
        if kind in (LocalVol, SurfaceNet):
            diffused(1.0)  # compiled here, on no chain's account
        self.options = options
        self.compile_seconds = time.perf_counter() - began
        self._latest: dict[tuple[str, str | None, Settlement], list[FittedChain]] = {}

    def fit(self, chain: Chain) -> FittedChain:
        """Fit one chain; the latest ones of its underlying and split serve as `options` says.

        A surface that fails its certificate is fitted again with less freedom where the model has any to give up; one
        that still fails is not published (status "refused"), but where the model may have arbitrage (svi).
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
        for freedom in self._model.freedoms:
            fitted = self._attempt(chain, freedom, latest)
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
        return fitted if self._model.may_arbitrage and _answers(fitted) else _refused(fitted)

    def _attempt(self, chain: Chain, freedom: float, latest: Sequence[FittedChain]) -> FittedChain:
        options, model = self.options, self._model
        began, compiled_before = time.perf_counter(), self.compile_seconds
        earlier = [one.shape for one in latest[-options.history :]] if options.history else []
        framed = model.frame(chain, earlier, freedom)
        start, warm = model.start(framed, chain, latest[-1].shape if options.warm and latest else None)
        program = self._program(framed, start)
        with double_precision():
            found = jax.device_get(program(framed.task, framed.data, start, np.int64(options.seed)))
        joining = time.perf_counter()
        surface, certificate, carried = model.publish(chain, framed, found)
        outcome, epochs = Outcome(int(found.outcome)), int(found.epochs)
        model_iv = found.model_iv[framed.data.mask]
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
            shape=dict(carried),
            model_iv=model_iv,
            model=model.name,
        )

    def _program(self, framed: Framed, start: Any) -> Any:
        """The compiled fit for this shape of chain; what it takes to make it is told apart."""
        began = time.perf_counter()
        name = "lm" if self.options.optimizer == "auto" else self.options.optimizer
        before = _compiled.cache_info().misses
        leaves, tree = jax.tree.flatten((framed.task, framed.data, start))
        shapes = tuple((leaf.shape, leaf.dtype.char) for leaf in leaves)
        program = _compiled(self._model, Training(name, self.options.batch), tree, shapes)
        if _compiled.cache_info().misses > before:
            self.compile_seconds += time.perf_counter() - began
        return program


@functools.cache
def _compiled(model: Model, training: Training, tree: Any, shapes: tuple[tuple[tuple[int, ...], str], ...]) -> Any:
    """The program of `model.solve` for arguments of these shapes, compiled ahead of time."""
    with double_precision():
        leaves = [jax.ShapeDtypeStruct(shape, np.dtype(kind)) for shape, kind in shapes]
        arguments = jax.tree.unflatten(tree, leaves)
        seed = jax.ShapeDtypeStruct((), np.int64)
        return jax.jit(functools.partial(model.solve, training)).lower(*arguments, seed).compile()


def _model(options: FitOptions) -> Model:
    """The kind of surface, with what is its own."""
    if options.model == LocalVol.name:
        return LocalVol(options.prior)
    if options.model == SurfaceNet.name and options.weights is not None:
        return SurfaceNet(load_weights(options.weights))
    return MODELS[options.model]()


def _answers(fitted: FittedChain) -> bool:
    """Whether the surface says something everywhere on the certificate's grid."""
    return fitted.certificate is not None and bool(np.isfinite(fitted.certificate.min_g))


def _refused(fitted: FittedChain) -> FittedChain:
    found = "no finite surface"
    if fitted.certificate is not None:
        found = f"min g {fitted.certificate.min_g:.2g}, min calendar growth {fitted.certificate.min_calendar:.2g}"
    even = " even with a stiff prior" if fitted.freedom < 1.0 else ""
    why = f"not published: the surface fails its arbitrage certificate{even} ({found})"
    nothing = float("nan")
    return dataclasses.replace(
        fitted, surface=None, status="refused", why=why, inside=nothing, rmse_vol_points=nothing, shape={}
    )
