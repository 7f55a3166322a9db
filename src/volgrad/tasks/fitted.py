"""What the fit of one chain ends with."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from volgrad.market.chain import Chain
from volgrad.models.certificate import Certificate
from volgrad.models.surface import ListedSurface

__all__ = ["FittedChain"]


@dataclass(frozen=True, eq=False)
class FittedChain:
    """One chain, its surface, and how it was reached.

    Attributes:
        chain: the quotes.
        surface: None where the fit was refused.
        certificate: of the surface, on a dense grid; None where there is no surface.
        status: "converged", "stalled", "diverged" or "refused".
        why: a sentence: what the status means here.
        iterations: passes over the chain's quotes, those of attempts that failed their certificate included.
        fit_ms, certificate_ms: wall-clock milliseconds of this chain's fit (framing included) and of its certificate
            (joining the slices included).
        warm: whether it began from an earlier chain's surface.
        inside: share of the used quotes whose model price lies within bid and ask.
        rmse_vol_points: root mean square distance from the middle of the quotes, vol points.
        curve: quotes seen and mean loss, after each pass (of the last attempt).
        shape: what a later chain starts from, by expiry (local-vol: log local variance at the knots).
        freedom: share of the prior's standard deviations that the fit was left; below 1 where it first failed its
            certificate.
        model_iv: of the used quotes, a fraction. Shape: (rows,).
        model: kind of surface, as `volgrad fit --model` takes it.
    """

    chain: Chain
    surface: ListedSurface | None
    certificate: Certificate | None
    status: str
    why: str
    iterations: int
    fit_ms: float
    certificate_ms: float
    warm: bool
    inside: float
    rmse_vol_points: float
    curve: list[tuple[int, float]]
    shape: dict[int, Float64[np.ndarray, " knots"]] = field(default_factory=dict)
    freedom: float = 1.0
    model_iv: Float64[np.ndarray, " rows"] = field(default_factory=lambda: np.empty(0))
    model: str = "local-vol"
