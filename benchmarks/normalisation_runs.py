"""One training run of a small network, compiled: what every experiment on normalisation is made of."""

import functools
from typing import Any, NamedTuple

import numpy as np

from benchmarks.normalisation_data import FEATURES, TARGETS, Quotes

ROWS_PER_CLUSTER = 8
LOOK = 25  # steps from one look at the validation loss to the next
HALF_LIFE, HOLD, RAMP = 500.0, 500.0, 1500.0  # clusters
GROUP = 16  # clusters of a ghost group: 128 rows
LIVE_HALF_LIFE = 40.0  # clusters: five days of two underlyings, every six hours


class Kind(NamedTuple):
    """A network: its normalisation, and dropout."""

    normalisation: str
    dropout: float = 0.0
    skip: bool = False

    @property
    def label(self) -> str:
        """Such as `batch + dropout 0.1`."""
        name = "plain" if self.normalisation == "none" else self.normalisation
        return f"{name} + dropout {self.dropout:g}" if self.dropout else name


class Setting(NamedTuple):
    """What is fixed in a compiled run; `batch` in rows."""

    kind: Kind
    batch: int
    looks: int
    optimizer: str = "adam"
    target: str = "level"
    width: int = 64
    depth: int = 4


class Run(NamedTuple):
    """One run's curves and end. Shapes: (looks,), (looks,), and pytrees.

    loss: mean squared error on validation rows as the network serves, in variances of the target.
    seen: the same of the last batch, as in training.
    """

    loss: np.ndarray
    seen: np.ndarray
    variables: Any
    statistics: Any


class Data(NamedTuple):
    """Training and validation clusters on the device: values (clusters, rows, features), targets, masks."""

    train: tuple[Any, Any, Any]
    check: tuple[Any, Any, Any]


def data_of(train: Quotes, check: Quotes, target: str, seed: int, rows: int = 2048) -> Data:
    """Float32 arrays of both splits, in units of the training split; about `rows` validation rows, evenly in time."""
    import jax

    made = []
    for part, most in ((train, None), (check, rows)):
        scaled = part.scaled(train)
        column = scaled.targets[..., TARGETS.index(target)]
        some = np.arange(scaled.mask.shape[0])
        width = scaled.mask.shape[1]
        if most is not None:
            width = 16
            some = np.unique(np.linspace(0, some.size - 1, min(some.size, most // width)).astype(int))
        place = np.random.default_rng(seed).permutation(scaled.mask.shape[1])[:width]
        made.append(tuple(leaf[some][:, place] for leaf in (scaled.features, column, scaled.mask)))
    return Data(*jax.device_put(tuple(made)))


@functools.cache
def network(setting: Setting) -> Any:
    """The network of a setting."""
    from volgrad.models.networks.mlp import Mlp
    from volgrad.models.networks.normalisation import make_normalisation

    name, more = setting.kind.normalisation, {}
    if name not in ("none", "layer"):
        more["half_life_clusters"] = HALF_LIFE
    if name == "ghost":
        more["clusters_per_group"] = GROUP
    if name == "renorm":
        more |= {"hold_clusters": HOLD, "ramp_clusters": RAMP}
    if name == "stream":
        more["live_half_life_clusters"] = LIVE_HALF_LIFE
    made = make_normalisation(name, **more)
    return Mlp(
        len(FEATURES), 1, width=setting.width, depth=setting.depth, normalisation=made,
        dropout=setting.kind.dropout, skip=setting.kind.skip,
    )  # fmt: skip


def loss_of(net: Any, variables: Any, statistics: Any, part: Any, training: bool, key: Any = None) -> tuple[Any, Any]:
    """Mean squared error over real rows, and the statistics after."""
    import jax.numpy as jnp

    values, target, mask = part
    y, after = net(variables, statistics, values, mask, training, key)
    return jnp.where(mask, jnp.square(y[..., 0] - target), 0.0).sum() / jnp.maximum(mask.sum(), 1), after


@functools.cache
def program(setting: Setting) -> Any:
    """Compiled `(data, rate, seed, init_scale) -> Run`; rates ramp up over the first two looks."""
    import jax
    import jax.numpy as jnp
    import optax

    net = network(setting)
    clusters = max(setting.batch // ROWS_PER_CLUSTER, 1)
    chain = {"adam": optax.scale_by_adam(), "sgd": optax.trace(0.9, nesterov=True)}[setting.optimizer]

    def step(carry: Any, number: Any, data: Data, rate: Any, key: Any) -> Any:
        variables, statistics, inner = carry
        of_clusters, of_rows, of_noise = jax.random.split(jax.random.fold_in(key, number), 3)
        one = jax.random.randint(of_clusters, (clusters, 1), 0, data.train[2].shape[0])
        rows = jax.random.randint(of_rows, (clusters, ROWS_PER_CLUSTER), 0, data.train[2].shape[1])
        batch = tuple(leaf[one, rows] for leaf in data.train)
        (loss, statistics), slope = jax.value_and_grad(
            lambda at: loss_of(net, at, statistics, batch, True, of_noise), has_aux=True
        )(variables)
        moves, inner = chain.update(slope, inner, variables)
        rate = rate * jnp.minimum((number + 1.0) / (2 * LOOK), 1.0)
        variables = jax.tree.map(lambda value, move: value - (rate * move).astype(value.dtype), variables, moves)
        return (variables, statistics, inner), loss

    def run(data: Data, rate: Any, seed: Any, init_scale: Any) -> Any:
        drawn, noise = jax.random.split(jax.random.key(seed))
        variables, statistics = net.init(drawn)
        variables = jax.tree.map(lambda leaf: leaf * init_scale if leaf.ndim == 2 else leaf, variables)

        def look(carry: Any, number: Any) -> Any:
            carry, losses = jax.lax.scan(
                lambda c, n: step(c, n, data, rate, noise), carry, number * LOOK + jnp.arange(LOOK)
            )
            return carry, (loss_of(net, carry[0], carry[1], data.check, False)[0], losses.mean())

        begin = (variables, statistics, chain.init(variables))
        (variables, statistics, _), (loss, seen) = jax.lax.scan(look, begin, jnp.arange(setting.looks))
        return Run(loss, seen, variables, statistics)

    return jax.jit(run)


def train(setting: Setting, data: Data, rate: float, seed: int, init_scale: float = 1.0) -> Run:
    """One run; a loss that is no number is told as infinite."""
    import jax

    made = jax.block_until_ready(program(setting)(data, np.float32(rate), seed, np.float32(init_scale)))
    loss, seen = (np.nan_to_num(np.asarray(curve, np.float64), nan=np.inf) for curve in made[:2])
    return Run(loss, seen, made.variables, made.statistics)


def end_of(run: Run) -> float:
    """Where a run ends: the mean of its last looks (a sixth of them)."""
    return float(run.loss[-max(run.loss.size // 6, 1) :].mean())
