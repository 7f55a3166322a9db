"""Kinds of surfaces: what the fitting of chains needs of one, and nothing else."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float64, Int8, Int32, PyTree

from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.first_order import adam, sgd
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import Fit, Rules, begin, fit
from volgrad.learning.training.task import Task
from volgrad.market.chain import Chain
from volgrad.models.certificate import Certificate
from volgrad.models.surface import ListedSurface

__all__ = ["Care", "Carried", "Found", "Framed", "Model", "Published", "Training", "listing"]

#: What a later chain may start from: numbers of each expiry, by its stamp (microseconds since 1970 UTC).
Carried = Mapping[int, Float64[np.ndarray, " numbers"]]

_TOLERANCE = {"adam": 1e-4, "sgd": 1e-4}
_EPOCHS = {"lm": 60, "adam": 1500, "sgd": 1500}


class Framed(NamedTuple):
    """A chain made ready for fitting.

    task, data: what `Model.solve` takes (numpy leaves).
    expiries: which expiries of the chain have quotes; the task holds these.
    theta: at-the-money total variance by which each was scaled.
    extra: what else `Model.publish` needs, if anything.
    """

    task: Any
    data: Batch
    expiries: np.ndarray
    theta: Float64[np.ndarray, " expiries"]
    extra: Any = None


class Care(NamedTuple):
    """How Levenberg-Marquardt is to go about a task.

    solver: its damping and longest step.
    tolerance: share of the loss that another pass must promise; a thousandth of a loss of about 20 is .02 in log
        posterior: nothing (measured on local-vol: share inside moved by .006 points).
    passes: most passes over the data.
    """

    solver: LevenbergMarquardt = LevenbergMarquardt()
    tolerance: float = 1e-3
    passes: int = 60


_USUAL_CARE = Care()


class Training(NamedTuple):
    """How a task is trained.

    optimizer: "lm", "adam" or "sgd".
    batch: clusters a step; None: all of them.
    """

    optimizer: str
    batch: int | None

    def run(self, task: Task, data: Batch, start: PyTree, seed: Array, care: Care = _USUAL_CARE) -> Fit:
        """Train from `start` (inside `jit`)."""
        name = self.optimizer
        size = min(self.batch or data.clusters, data.clusters)
        steps = _EPOCHS[name] * -(-data.clusters // size)
        makers = {"lm": lambda: care.solver, "adam": lambda: adam(steps=steps), "sgd": lambda: sgd(steps=steps)}
        optimizer = makers[name]()
        state = begin(task, optimizer, jax.random.key(seed), start)
        epochs = care.passes if name == "lm" else _EPOCHS[name]
        tolerance = care.tolerance if name == "lm" else _TOLERANCE[name]
        return fit(task, optimizer, data, state, size, Rules(epochs=epochs, tolerance=tolerance))


class Found(NamedTuple):
    """What the compiled program finds.

    parameters: of the model, whatever its `publish` needs.
    model_iv: at the places for quotes (the chain's, in their order, where the data's mask says so), a fraction.
    outcome: code of `learning.training.loop.Outcome`.
    epochs: passes over the data.
    curve: mean loss before the first and after each pass.
    """

    parameters: PyTree
    model_iv: Float64[Array, "*places"]
    outcome: Int8[Array, ""]
    epochs: Int32[Array, ""]
    curve: Float64[Array, " epochs"]


class Published(NamedTuple):
    """A surface, its certificate, and what a later chain may start from."""

    surface: ListedSurface
    certificate: Certificate
    carried: Carried


class Model(abc.ABC):
    """A kind of surface: from a chain to a task, and from what was found to a surface.

    Attributes:
        name: as users write it.
        leans: whether `frame` uses earlier chains (`--history`).
        freedoms: what `frame` is given in turn until a certificate is clean.
        may_arbitrage: whether a surface is published with a certificate that is not clean.
        usual_inside: shares of the quotes inside, in percent, that whole files usually have, in words.
        doubtful_inside: share below which the quotes themselves are in doubt.
    """

    name: ClassVar[str]
    leans: ClassVar[bool]
    freedoms: ClassVar[tuple[float, ...]]
    may_arbitrage: ClassVar[bool]
    usual_inside: ClassVar[str]
    doubtful_inside: ClassVar[float]

    @abc.abstractmethod
    def frame(self, chain: Chain, earlier: Sequence[Carried], freedom: float) -> Framed:
        """Task and data of a chain, padded to few shapes; `freedom` in (0, 1] holds the fit back."""

    @abc.abstractmethod
    def start(self, framed: Framed, chain: Chain, before: Carried | None) -> tuple[PyTree, bool]:
        """Variables to begin from, and whether an earlier chain's numbers were used for them."""

    @abc.abstractmethod
    def solve(self, training: Training, task: Any, data: Batch, start: PyTree, seed: Array) -> Found:
        """Train and read (inside `jit`)."""

    @abc.abstractmethod
    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The surface of what was found (numpy), certified."""


def listing(chain: Chain, expiries: np.ndarray) -> dict[str, Any]:
    """What every `ListedSurface` holds of its chain."""
    k = chain.log_moneyness
    first = np.searchsorted(chain.expiry_index, expiries)
    last = np.searchsorted(chain.expiry_index, expiries, side="right") - 1
    return {
        "ts_us": chain.ts_us,
        "expiry_years": chain.expiry_years[expiries],
        "forward_usd": chain.forward_usd[expiries],
        "quoted": np.stack([k[first], k[last]], axis=1),  # rows ascend in strike within an expiry
    }
