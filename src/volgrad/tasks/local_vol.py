"""The local-volatility surface as a kind of surface that chains are fitted with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array

from volgrad.learning.batching.batch import Batch
from volgrad.market.chain import Chain
from volgrad.models.joining import join
from volgrad.models.local_vol import Prior, slice_time_values, variables_from_shape, whole_shape
from volgrad.models.slices import SlicedSurface, extended, slice_variance
from volgrad.tasks.framing import frame_chain
from volgrad.tasks.model import Carried, Found, Framed, Model, Published, Training, listing

__all__ = ["LocalVol"]

_FREEDOMS = ("shared", "smooth", "own", "level")


@dataclass(frozen=True)
class LocalVol(Model):
    """Local volatility through implicit Dupire steps, with a Gaussian prior.

    Attributes:
        prior: its constants.
    """

    prior: Prior = field(default_factory=Prior)

    name: ClassVar[str] = "local-vol"
    leans: ClassVar[bool] = True
    # shrinks the prior's freedom when a surface fails its certificate (measured: of 8,000 random chains, 11
    # fail down to .3 of own and smooth alone, none down to .1 of all four)
    freedoms: ClassVar[tuple[float, ...]] = (1.0, 0.6, 0.3, 0.1, 0.02)
    may_arbitrage: ClassVar[bool] = False
    usual_inside: ClassVar[str] = "97 to 99 %"
    doubtful_inside: ClassVar[float] = 0.85  # the lowest share seen on a whole recorded file is .988 (measured)

    def frame(self, chain: Chain, earlier: Sequence[Carried], freedom: float) -> Framed:
        """The prior, freed as far as `freedom`, its mean leaning on the shapes of earlier chains."""
        prior = self.prior._replace(**{name: freedom * getattr(self.prior, name) for name in _FREEDOMS})
        return frame_chain(chain, prior, earlier)

    def start(self, framed: Framed, chain: Chain, before: Carried | None) -> tuple[np.ndarray, bool]:
        """The prior's mean, or the shapes that an earlier chain had at the same expiries."""
        frame = framed.task.frame
        mean = np.asarray(frame.mean)
        cold = np.zeros(frame.factor.shape[-1])
        if before is None:
            return cold, False
        stamps = chain.expiry_us[framed.expiries].tolist()
        shape = mean.copy()
        for place, stamp in enumerate(stamps):
            shape[place] = before.get(stamp, mean[place])
        if not any(stamp in before for stamp in stamps):
            return cold, False
        return variables_from_shape(frame, shape), True

    def solve(self, training: Training, task: Any, data: Batch, start: Array, seed: Array) -> Found:
        """Fit, and all that is read from the variables: total variance of the slices, and their shapes."""
        done = training.run(task, data, start, seed)
        variables = done.state.variables
        slices = slice_variance(slice_time_values(task.frame, variables)), whole_shape(task.frame, variables)
        return Found(slices, task.implied_vol(variables, data.rows), done.outcome, done.epochs, done.curve)

    def publish(self, chain: Chain, framed: Framed, found: Found) -> Published:
        """The slices, joined as far as the certificate allows."""
        count = framed.expiries.size
        variance, shape = found.parameters
        surface = SlicedSurface(variance=extended(variance[:count]), **listing(chain, framed.expiries))
        stamps = chain.expiry_us[framed.expiries].tolist()
        return Published(*join(surface), dict(zip(stamps, shape[:count], strict=True)))
