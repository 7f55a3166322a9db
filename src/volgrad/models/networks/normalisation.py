"""Normalisation of features over the rows of a batch, in four forms, and two baselines.

All compute `y = scale * (x - mean) / sqrt(variance + epsilon) + shift` and differ in whose mean and variance:

| Form | in training | in serving |
|---|---|---|
| `BatchNorm` | the batch's | running averages |
| `GhostNorm` | those of each group of whole clusters, of a fixed size | running averages |
| `BatchRenorm` | the batch's, corrected towards the running averages within bounds | running averages |
| `StreamNorm` | as the form it wraps | running averages, moved with the live stream within bounds |
| `LayerNorm` | each row's own | each row's own |

A masked row's output is `shift`, whatever it holds. Derivatives are JAX's own, exact to any order: through the batch's
moments in training (those of a label that is itself a derivative must go there), of an affine function in serving.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from volgrad.errors import UnknownOptionError
from volgrad.models.networks.affine import Affine, check
from volgrad.models.networks.batch_norm import BatchNorm, GhostNorm
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.renormalisation import BatchRenorm, StreamNorm

__all__ = ["NORMALISATIONS", "BatchNorm", "BatchRenorm", "GhostNorm", "LayerNorm", "StreamNorm", "make_normalisation"]

Rows = Float[Array, "clusters rows features"]
Mask = Bool[Array, "clusters rows"]


class LayerNorm(Layer):
    """Layer normalisation (Ba, Kiros and Hinton 2016) [paper]: by the moments of each row's own features; a baseline.

    Attributes:
        features: of a row.
        epsilon: added to variances.
    """

    features: int = eqx.field(static=True)
    epsilon: float = eqx.field(static=True, default=1e-5)

    def __check_init__(self) -> None:
        check(self, epsilon=self.epsilon)

    def init(self, key: PRNGKeyArray) -> tuple[Affine, tuple[()]]:
        """The identity; nothing is drawn and no statistics are kept."""
        del key
        return Affine.start(self.features), ()

    def __call__(
        self, variables: Affine, statistics: tuple[()], x: Rows, mask: Mask, training: bool, key: Any = None
    ) -> tuple[Rows, tuple[()]]:
        """The same in training and in serving."""
        del statistics, training, key
        x = jnp.where(mask[..., None], x, 0.0)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        return variables.scale[None, None] * normal + variables.shift[None, None], ()


def _settings(form: Any) -> set[str]:
    return set(form.__dataclass_fields__) - {"features", "inner"}


def _stream(features: int, **settings: Any) -> StreamNorm:
    own = {name: settings.pop(name) for name in _settings(StreamNorm) & set(settings)}
    return StreamNorm(BatchNorm(features, **settings), **own)


#: Forms by name, as recipes give them; each takes the number of features first. "none" is a network without.
NORMALISATIONS: dict[str, Callable[..., Layer] | None] = {
    "none": None,
    "batch": BatchNorm,
    "ghost": GhostNorm,
    "renorm": BatchRenorm,
    "stream": _stream,
    "layer": LayerNorm,
}


def make_normalisation(name: str, **settings: Any) -> Callable[[int], Layer] | None:
    """What makes a normalisation of so many features; None for "none".

    Args:
        name: of `NORMALISATIONS`.
        settings: attributes of the form; "stream" also takes those of batch normalisation, which it wraps.

    Raises:
        UnknownOptionError: there is no such form, or it has no such setting.

    >>> make_normalisation("ghost", clusters_per_group=16)(8).clusters_per_group
    16
    """
    if name not in NORMALISATIONS:
        raise UnknownOptionError.of("normalisation", name, NORMALISATIONS)
    made = NORMALISATIONS[name]
    known = {"none": set(), "stream": _settings(StreamNorm) | _settings(BatchNorm)}.get(name)
    for setting in settings:
        if setting not in (known := _settings(made) if known is None else known):
            raise UnknownOptionError.of(f"setting of the normalisation '{name}'", setting, known)
    return None if made is None else functools.partial(made, **settings)
