"""What every layer must obey. Concrete subclasses of `Layer` are found by themselves; each needs a factory here."""

import jax
import jax.numpy as jnp
import pytest

from tests.discovery import concrete_subclasses
from volgrad.errors import InputError
from volgrad.models.networks.contract import LAWS, check_layer
from volgrad.models.networks.dense import Dense, Dropout
from volgrad.models.networks.layer import Layer
from volgrad.models.networks.mlp import Mlp
from volgrad.models.networks.normalisation import (
    BatchNorm,
    BatchRenorm,
    GhostNorm,
    LayerNorm,
    StreamNorm,
    make_normalisation,
)
from volgrad.models.surface_net import SurfaceNetwork

FEATURES = 3
#: One example or more of each class; add a line for a new layer.
FACTORIES = {
    Dense: {"usual": lambda: Dense(FEATURES, 2), "without bias": lambda: Dense(FEATURES, 2, has_bias=False)},
    Dropout: {"half": lambda: Dropout(0.5), "none": lambda: Dropout(0.0)},
    BatchNorm: {"usual": lambda: BatchNorm(FEATURES)},
    GhostNorm: {"a short last group": lambda: GhostNorm(FEATURES, 3)},
    BatchRenorm: {
        "usual": lambda: BatchRenorm(FEATURES),
        "at full width": lambda: BatchRenorm(FEATURES, hold_clusters=0.0, ramp_clusters=1.0, half_life_clusters=5.0),
    },
    StreamNorm: {
        "usual": lambda: StreamNorm(BatchNorm(FEATURES)),
        "around a renormalisation": lambda: StreamNorm(BatchRenorm(FEATURES)),
    },
    LayerNorm: {"usual": lambda: LayerNorm(FEATURES)},
    Mlp: {
        "linear": lambda: Mlp(FEATURES, 2, depth=0),
        "with everything": lambda: Mlp(
            FEATURES, 1, width=4, depth=2, normalisation=make_normalisation("batch"), skip=True, dropout=0.2
        ),
        "relu": lambda: Mlp(FEATURES, 1, width=4, depth=1, activation="relu"),
    },
    SurfaceNetwork: {"small": lambda: SurfaceNetwork.of(FEATURES, 4, 1, "batch")},
}
NAMES = {f"{kind.__name__}, {name}": make for kind, makers in FACTORIES.items() for name, make in makers.items()}


@pytest.mark.parametrize("kind", concrete_subclasses(Layer), ids=lambda kind: kind.__name__)
def test_every_layer_of_the_package_is_under_this_contract(kind):
    assert FACTORIES.get(kind), f"give {kind.__qualname__} a factory in {__name__}"


@pytest.mark.parametrize("name", NAMES)
def test_the_laws_hold(name):
    check_layer(NAMES[name](), FEATURES)


class _Broken(Layer):
    """Breaks one law at a time."""

    law: str

    def init(self, key):
        return jnp.ones((), jnp.float16 if self.law == "half" else jnp.float32), jnp.zeros(1, jnp.float32)

    def __call__(self, variables, statistics, x, mask, training, key=None):
        if self.law == "shape":
            return x[:, :1], statistics
        if self.law == "form":
            return x, (statistics, statistics)
        if self.law == "mask":
            return x - x.mean(), statistics
        if self.law == "row":
            return x - jnp.where(mask[..., None], x, 0.0).mean(), statistics
        if self.law == "few":
            return x, statistics / mask.sum() if training else statistics
        if self.law == "double":
            return x.astype(jnp.float32) * 2.0, statistics
        if self.law == "slope":
            return jnp.where(mask[..., None], jax.lax.stop_gradient(x) ** 2, 0.0), statistics
        return x, statistics


@pytest.mark.parametrize(
    ("law", "told"),
    [
        ("half", "give float32"),
        ("shape", "keep clusters and rows"),
        ("form", "other shapes, types or structure"),
        ("mask", "what masked rows hold"),
        ("row", "depends on the other clusters"),
        ("few", "not finite"),
        ("double", "given float64, it gives float32"),
        ("slope", "not that of differences"),
    ],
)
def test_each_law_catches_who_breaks_it(law, told):
    with pytest.raises(InputError, match=told):
        check_layer(_Broken(law), FEATURES)


def test_a_lawful_layer_of_a_user_passes():
    check_layer(_Broken("none"), FEATURES)
    assert len(LAWS) == 10
