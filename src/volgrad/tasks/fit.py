"""Fit chains: each to a certified local-volatility surface, by steps of one optimiser on batches of its quotes."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from volgrad.errors import UnknownOptionError, suggest
from volgrad.learning.training.first_order import adam, sgd
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import Outcome, Rules, begin, fit
from volgrad.learning.training.state import Optimizer
from volgrad.market.chain import Chain
from volgrad.models.joining import join
from volgrad.models.local_vol import Prior, slice_time_values, variables_from_shape, whole_shape
from volgrad.models.slices import SlicedSurface, slice_variance
from volgrad.runtime import double_precision
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.framing import Framed, frame_chain

__all__ = ["OPTIMIZERS", "FitOptions", "fit_chain", "fit_chains"]

#: Names of the optimisers; `auto` is the one that reaches the target first (measured: LOG.md).
OPTIMIZERS = ("auto", "lm", "adam", "sgd")
_EPOCHS = {"lm": 60, "adam": 400, "sgd": 400}
_STIFFER = (1.0, 0.6, 0.3)  # shrinks the prior's freedom when a surface fails its certificate


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        optimizer: one of `OPTIMIZERS`.
        batch: quotes a step; None: the whole chain for lm, 64 for adam and sgd.
        warm: begin from the previous chain of the same underlying and split.
        seed: of the random key.
        prior: constants of the surface's prior.
    """

    optimizer: str = "auto"
    batch: int | None = None
    warm: bool = False
    seed: int = 0
    prior: Prior = field(default_factory=Prior)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            near = suggest(self.optimizer, OPTIMIZERS)
            raise UnknownOptionError(f"optimizer {self.optimizer!r} is not one of {', '.join(OPTIMIZERS)}", suggestion=near)


def fit_chains(
    chains: Iterable[Chain], options: FitOptions = FitOptions(), progress: Callable[[int], None] = lambda _: None
) -> Iterator[FittedChain]:
    """Fit chain after chain, in the order given, and yield each as it is done.

    With `options.warm` a chain begins from the last one fitted of its underlying and split.
    """
    last: dict[tuple[str, str | None], FittedChain] = {}
    for chain in chains:
        key = (chain.ccy, chain.split)
        fitted = fit_chain(chain, options, last.get(key) if options.warm else None)
        last[key] = fitted
        progress(1)
        yield fitted


def fit_chain(chain: Chain, options: FitOptions = FitOptions(), before: FittedChain | None = None) -> FittedChain:
    """Fit one chain; `before` is an earlier chain of the same underlying to begin from.

    A surface that fails its certificate is fitted again with a stiffer prior; one that still fails is not published
    (status "refused").
    """
    best: FittedChain | None = None
    for freedom in _STIFFER:
        prior = options.prior._replace(own=options.prior.own * freedom, smooth=options.prior.smooth * freedom)
        best = _attempt(chain, options, prior, before)
        if best.certificate is not None and best.certificate.clean:
            return best
    assert best is not None
    return _refused(best)


def _refused(fitted: FittedChain) -> FittedChain:
    certificate = fitted.certificate
    found = "no finite surface" if certificate is None else f"min g {certificate.min_g:.2g}, min calendar growth {certificate.min_calendar:.2g}"
    why = f"not published: the surface fails its arbitrage certificate even with a stiff prior ({found})"
    return FittedChain(
        fitted.chain, None, certificate, "refused", why, fitted.iterations, fitted.fit_ms, fitted.certificate_ms,
        fitted.warm, float("nan"), float("nan"), fitted.curve,
    )


def _attempt(chain: Chain, options: FitOptions, prior: Prior, before: FittedChain | None) -> FittedChain:
    name = "lm" if options.optimizer == "auto" else options.optimizer
    began = time.perf_counter()
    framed = frame_chain(chain, prior)
    start = _warm_start(framed, chain, before)
    places = framed.data.mask.shape[0]
    size = min(options.batch or (places if name == "lm" else 64), places)
    with double_precision():
        found = _compiled(name, size, framed.task, framed.data, start, options.seed, start is None)
        values, shape, model_iv, outcome, epochs, curve, inside, rmse = jax.device_get(found)
    count = framed.expiries.size
    fitted_ms = 1e3 * (time.perf_counter() - began)
    began = time.perf_counter()
    surface, certificate = join(_surface(chain, framed, values[:count]))
    outcome = Outcome(int(outcome))
    seen = chain.n_rows * np.arange(int(epochs) + 1)
    return FittedChain(
        chain=chain,
        surface=surface,
        certificate=certificate,
        status=outcome.name.lower(),
        why=outcome.advice,
        iterations=int(epochs),
        fit_ms=fitted_ms,
        certificate_ms=1e3 * (time.perf_counter() - began),
        warm=start is not None,
        inside=float(inside),
        rmse_vol_points=float(rmse),
        curve=[(int(quotes), float(loss)) for quotes, loss in zip(seen, curve[: int(epochs) + 1], strict=True)],
        shape={int(chain.expiry_us[expiry]): shape[place] for place, expiry in enumerate(framed.expiries)},
        model_iv=model_iv[: chain.n_rows],
    )


def _surface(chain: Chain, framed: Framed, time_value: np.ndarray) -> SlicedSurface:
    k = chain.log_moneyness
    rows = [chain.rows(int(expiry)) for expiry in framed.expiries]
    quoted = np.array([[k[row].min(), k[row].max()] for row in rows])
    return SlicedSurface(
        ts_us=chain.ts_us,
        expiry_years=chain.expiry_years[framed.expiries],
        forward_usd=chain.forward_usd[framed.expiries],
        variance=slice_variance(time_value),
        quoted=quoted,
    )


def _warm_start(framed: Framed, chain: Chain, before: FittedChain | None) -> np.ndarray | None:
    """Prior coordinates of the shapes that the previous chain had at the same expiries."""
    if before is None or not before.shape:
        return None
    shape = np.asarray(framed.task.frame.mean).copy()
    known = [(place, before.shape[stamp]) for place, stamp in enumerate(chain.expiry_us[framed.expiries].tolist()) if stamp in before.shape]
    if not known:
        return None
    for place, row in known:
        shape[place] = row
    return variables_from_shape(framed.task.frame, shape)


def _optimizer(name: str, size: int, places: int) -> Optimizer:
    steps = _EPOCHS[name] * -(-places // size)
    return {"lm": lambda: LevenbergMarquardt(), "adam": lambda: adam(steps=steps), "sgd": lambda: sgd(steps=steps)}[name]()


@functools.partial(jax.jit, static_argnames=("name", "size", "cold"))
def _compiled(name, size, task, data, start, seed, cold):
    optimizer = _optimizer(name, size, data.clusters)
    state = begin(task, optimizer, jax.random.key(seed), None if cold else start)
    done = fit(task, optimizer, data, state, size, Rules(epochs=_EPOCHS[name]))
    variables = done.state.variables
    model_iv = task.implied_vol(variables, data.rows)
    metrics = task.evaluate(variables, data)
    values = slice_time_values(task.frame, variables)
    shape = whole_shape(task.frame, variables)
    return values, shape, model_iv, done.outcome, done.epochs, done.curve, metrics["inside"], metrics["rmse_vol_points"]
