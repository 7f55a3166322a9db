"""How learning rate and moments follow the batch size: stated rules, and a cap near the gradient's noise scale.

`kappa` is the batch size over the one that the base values were chosen for.

==============  ==========================  ==========================================  ====================
optimiser       learning rate               moments                                     eps
==============  ==========================  ==========================================  ====================
sgd             kappa (Goyal 2017)          as they are (Goyal 2017)                    none
adam, adamw     sqrt(kappa) (Malladi 2022)  half-life in samples kept (Marek 2025)      1 / sqrt(kappa)
lion            sqrt(kappa) (assumption)    half-life in samples kept (assumption)      none
schedule-free   sqrt(kappa) (assumption)    second moment's half-life kept              1 / sqrt(kappa)
==============  ==========================  ==========================================  ====================

Beyond the noise scale a larger batch buys no longer step: the learning rate (and eps) stay where they were there. The
best rate of Adam even falls again past it (Li et al. 2024, arXiv 2405.14578) [paper, abstract]: no monotone rule is
safe.
"""

import math
from typing import Literal, NamedTuple

from jaxtyping import Array, Float

from volgrad.errors import InputError, UnknownOptionError

__all__ = ["RULES", "Betas", "Hyperparameters", "hyperparameters"]

#: How betas follow: "half-life" keeps the half-life in samples, `beta ** kappa`; "linear" is its first order,
#: `1 - beta -> kappa (1 - beta)` (Malladi et al. 2022, arXiv 2205.10287) [assumption:
#: seen in its abstract is the root rule only].
Betas = Literal["half-life", "linear"]

#: A number on either side of the compiler.
Scalar = float | Float[Array, ""]

# A mean over fewer than two batches of squares is no second moment; in float32 1 - beta needs some digits (assumption)
_BETA1, _BETA2 = (0.0, 0.9999), (0.5, 0.99999)

# exponent of kappa in the learning rate; which moments follow
_POWER = {"sgd": 1.0, "adam": 0.5, "adamw": 0.5, "lion": 0.5, "schedule-free": 0.5}
_FIRST = {"adam", "adamw", "lion"}
_SECOND = {"adam", "adamw", "lion", "schedule-free"}
#: Optimisers that have a rule.
RULES = tuple(_POWER)


class Hyperparameters(NamedTuple):
    """What moves with the batch size. Plain numbers, or traced ones: then one program serves all values.

    learning_rate: of the schedule's top.
    beta1: decay of the first moment per step; momentum of SGD; the interpolation of the schedule-free method.
    beta2: decay of the second moment per step.
    eps: added to the root of the second moment.
    weight_decay: decoupled (Loshchilov and Hutter 2019); the weights shrink by `learning_rate * weight_decay` a step.
    """

    learning_rate: Scalar = 1.0
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0


def hyperparameters(
    name: str,
    base: Hyperparameters,
    batch: int,
    reference: int,
    noise_scale: float | None = None,
    betas: Betas = "half-life",
) -> Hyperparameters:
    """The values at `batch` clusters of those chosen at `reference` clusters.

    Half-lives are kept in samples by default: unlike the linear rule this holds for any ratio and composes. For
    beta2 it is the proposal of Marek et al. 2025 (arXiv 2507.07101) [paper, abstract]; for beta1 it is the linear rule
    at small steps (assumption). Weight decay shrinks the weights by the same factor per sample (assumption).

    Args:
        name: one of `RULES`.
        base: values at `reference`.
        batch: clusters a step.
        reference: clusters a step that `base` was chosen for.
        noise_scale: clusters beyond which the learning rate rises no more; None where it is not known.
        betas: how the moments' decays follow.

    Raises:
        UnknownOptionError: no such optimiser or rule.
        InputError: a size that is not positive.

    >>> base = Hyperparameters(1e-3, beta1=0.9, beta2=0.999)
    >>> moved = hyperparameters("adam", base, batch=128, reference=32)
    >>> round(moved.learning_rate, 6), round(moved.beta1, 4), round(moved.beta2, 6)
    (0.002, 0.6561, 0.996006)
    >>> hyperparameters("sgd", base, batch=4096, reference=32, noise_scale=64.0).learning_rate
    0.002
    """
    if name not in _POWER:
        raise UnknownOptionError.of("optimizer", name, RULES)
    if betas not in ("half-life", "linear"):
        raise UnknownOptionError.of("rule for betas", betas, ("half-life", "linear"))
    cap = math.inf if noise_scale is None else noise_scale
    for what, value in (("batch", batch), ("reference", reference), ("noise_scale", cap)):
        if not value > 0:
            raise InputError(f"{what} is {value}: it must be a positive number of clusters")
    kappa = batch / reference
    useful = min(batch, cap) / min(reference, cap)  # 1 at the reference, and constant beyond the noise scale
    rate = useful ** _POWER[name]
    return Hyperparameters(
        base.learning_rate * rate,
        _moved(base.beta1, kappa, betas, _BETA1) if name in _FIRST else base.beta1,
        _moved(base.beta2, kappa, betas, _BETA2) if name in _SECOND else base.beta2,
        base.eps / math.sqrt(useful) if name in _SECOND else base.eps,
        base.weight_decay * (kappa / rate),
    )


def _moved(beta: Scalar, kappa: float, betas: Betas, bounds: tuple[float, float]) -> Scalar:
    if kappa == 1.0:
        return beta
    moved = float(beta) ** kappa if betas == "half-life" else 1.0 - kappa * (1.0 - float(beta))
    return min(max(moved, bounds[0]), bounds[1])
