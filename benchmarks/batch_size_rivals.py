"""How others choose a batch size: rules with published formulas, and the noise that some of them need.

Every rule is given what it asks for at its best: the measured seconds a step, and gradient noise from many clusters at
several points of a run at the customary size (sums over the points before any ratio). It then stays with the one size
that it names; rules that adapt are represented by that size.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.batch_size_workloads import Workload

KNEE = 0.9  # share of the best rows a second that counts as the knee
SHARES = (0.1, 0.3, 0.6, 1.0)  # of the steps to the hard target, where noise is measured
UNITS, CHUNK = 512, 64  # clusters whose gradients are taken one by one, and at a time


class Noise(NamedTuple):
    """Gradient noise of one point, the cluster as unit.

    trace: of the covariance of one unit's gradient.
    square: squared length of the mean gradient, unbiased.
    adam_trace, adam_square: the same of gradients over Adam's root of the second moment.
    loss: mean over the clusters.
    """

    trace: float
    square: float
    adam_trace: float
    adam_square: float
    loss: float


class Known(NamedTuple):
    """What a rule may ask for.

    sizes: clusters, ascending.
    seconds: a step, by size.
    rows: of a cluster.
    customary: size that a run would start from.
    rate: tuned learning rate there.
    optimizer: its name.
    noise: at points of the run.
    """

    sizes: Sequence[int]
    seconds: Mapping[int, float]
    rows: float
    customary: int
    rate: float
    optimizer: str
    noise: Sequence[Noise]


def nearest(sizes: Sequence[int], wanted: float) -> int:
    """The rung nearest in logarithm; the ends for what lies beyond.

    >>> nearest([1, 2, 4, 8], 5.0), nearest([1, 2, 4, 8], math.inf), nearest([1, 2, 4, 8], 0.0)
    (4, 8, 1)
    """
    bounded = min(max(wanted, sizes[0]), sizes[-1])
    return min(sizes, key=lambda size: (abs(math.log(size / bounded)), size))


def largest(known: Known) -> int:
    """The largest that fits: the least of memory (which holds all of these), the data, and 8192 rows."""
    return known.sizes[-1]


def fixed(known: Known, rows: int) -> int:
    """So many rows, in whole clusters."""
    return nearest(known.sizes, rows / known.rows)


def knee(known: Known) -> int:
    """The smallest size within a tenth of the best rows a second."""
    rates = {size: size / known.seconds[size] for size in known.sizes}
    return min(size for size, rate in rates.items() if rate >= KNEE * max(rates.values()))


def noise_scale(trace: float, square: float) -> float:
    """`tr S / |G|^2` (McCandlish et al. 2018, eq. 2.8); infinite where no gradient is seen in the noise."""
    return trace / square if square > 0.0 else math.inf


def noise_alone(known: Known) -> int:
    """The rung nearest to the simple noise scale, whatever a step costs."""
    return nearest(known.sizes, noise_scale(*_sums(known.noise)))


def goodput(known: Known) -> dict[int, float]:
    """Samples a second times their statistical efficiency `(phi + M0) / (phi + M)`.

    Qiao et al., Pollux, OSDI 2021, eqs. 3 to 6: `phi` is the noise scale, preconditioned under Adam as in AdaptDL, `M0`
    the size that a user began with; one device, no accumulation [paper].
    """
    adam = known.optimizer == "adam"
    phi = noise_scale(*(_sums(known.noise, 2) if adam else _sums(known.noise)))
    first = float(known.customary)

    def efficiency(size: float) -> float:
        return 1.0 if math.isinf(phi) else (phi + first) / (phi + size)

    return {size: size / known.seconds[size] * efficiency(size) for size in known.sizes}


def pollux(known: Known) -> int:
    """The size of most goodput."""
    found = goodput(known)
    return max(found, key=lambda size: found[size])


def cabs(known: Known) -> int | None:
    """`B = rate tr S / L` (Balles, Romero and Hennig 2017, eq. 22) [paper]; None but for SGD."""
    if known.optimizer != "sgd":
        return None
    loss = float(np.mean([one.loss for one in known.noise]))
    return nearest(known.sizes, known.rate * float(np.mean([one.trace for one in known.noise])) / max(loss, 1e-12))


def choices(known: Known) -> dict[str, int | None]:
    """What every rule takes, in clusters."""
    return {
        "largest that fits": largest(known),
        "32 rows": fixed(known, 32),
        "256 rows": fixed(known, 256),
        "1024 rows": fixed(known, 1024),
        "throughput knee": knee(known),
        "noise scale alone": noise_alone(known),
        "Pollux": pollux(known),
        "CABS": cabs(known),
    }


def _sums(noise: Sequence[Noise], first: int = 0) -> tuple[float, float]:
    """Trace and square, each averaged over the points."""
    return float(np.mean([one[first] for one in noise])), float(np.mean([one[first + 1] for one in noise]))


# ------------------------------------------------------------------------------------------------- what they are given


def measured_noise(workload: Workload, rate: float, steps: int, seed: int) -> list[Noise]:
    """Noise at points of a run of the customary size, `steps` steps long."""
    import equinox as eqx
    import jax

    from volgrad.learning.batching.loader import Loader, batch_of
    from volgrad.learning.training.leaves import strong
    from volgrad.learning.training.loop import begin

    optimizer = workload.optimizer_at(workload.clusters)
    loader = Loader(workload.image, workload.train, seed, workload.rows_per_cluster, blocks=None)
    looked = Loader(workload.image, workload.train, seed + 10_000, workload.rows_per_cluster, blocks=None)
    walk = jax.jit(
        lambda state, task, parts: jax.lax.scan(
            lambda at, part: (optimizer.step(task, at, batch_of(*part))[0], None), state, parts
        )[0]
    )
    state = strong(begin(workload.task, optimizer, jax.random.key(seed)))
    scale = state.optimizer.scale * (rate / float(optimizer.hyper.learning_rate))
    state = eqx.tree_at(lambda s: s.optimizer.scale, state, scale.astype(state.optimizer.scale.dtype))
    task, found, at, stretch = jax.device_put(workload.task), [], 0, max(1, steps // 40)
    of = _noise_program(workload)
    try:
        for share in SHARES:
            while at < share * steps:
                stack = loader.stack(at * workload.clusters, stretch, workload.clusters)
                state, at = walk(state, task, tuple(stack)), at + stretch
            found.append(of(state, task, looked, len(found)))
    finally:
        loader.close()
        looked.close()
    return found


def _noise_program(workload: Workload) -> Any:
    """`(state, task, loader, number) -> Noise`: gradients of single units, and of many together."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    from volgrad.learning.batching.loader import batch_of
    from volgrad.learning.training.state import mean_loss

    unit = unit_of(workload)
    units = min(UNITS, len(workload.train) // unit)
    chunk = min(CHUNK, units)

    def gradient(state: Any, task: Any, part: Any, key: Any) -> Any:
        batch = batch_of(*part)

        def objective(variables: Any) -> Any:
            return mean_loss(task.loss(variables, state.statistics, batch, key)[0], batch)

        loss, slope = jax.value_and_grad(objective)(state.variables)
        return ravel_pytree(slope)[0], loss

    def root_of(state: Any) -> Any:
        second = getattr(state.optimizer.inner, "nu", None)
        if second is None:
            return jnp.ones(())
        count = state.optimizer.inner.count.astype(second.dtype)
        beta2 = workload.optimizer_at(workload.clusters).hyper.beta2
        return jnp.sqrt(second / (1.0 - beta2**count)) + 1e-8

    @jax.jit
    def sums(state: Any, task: Any, parts: Any, first: Any) -> Any:
        keys = jax.vmap(lambda n: jax.random.fold_in(state.key, n))(first + jnp.arange(parts[1].shape[0]))
        slopes, losses = jax.vmap(gradient, (None, None, 0, 0))(state, task, parts, keys)
        over = slopes / root_of(state)
        return slopes.sum(0), (slopes**2).sum(), over.sum(0), (over**2).sum(), losses.sum()

    def of(state: Any, task: Any, loader: Any, number: int) -> Noise:
        found: list[Any] = []
        for first in range(0, units - chunk + 1, chunk):
            parts = loader.stack((number * units + first) * unit, chunk, unit)
            found.append(jax.device_get(sums(state, task, tuple(parts), number * units + first)))
        count = chunk * len(found)
        total = [np.sum([np.asarray(one[place], float) for one in found], axis=0) for place in range(5)]
        plain, adam = (_trace_and_square(total[place], total[place + 1], count, unit) for place in (0, 2))
        return Noise(*plain, *adam, float(total[4]) / count)

    return of


def unit_of(workload: Workload) -> int:
    """Clusters that have a gradient of their own: one, or a ghost group where losses share statistics."""
    import jax

    if not jax.tree.leaves(jax.eval_shape(lambda: workload.task.init(jax.random.key(0))[1])):
        return 1
    groups = [getattr(layer, "clusters_per_group", None) for layer in _layers(getattr(workload.task, "network", None))]
    told = [one for one in groups if one]
    return min(told[0] if told else 16, len(workload.train))


def _layers(network: Any) -> list[Any]:
    import jax

    found: list[Any] = []
    jax.tree.flatten(network, is_leaf=lambda node: bool(found.append(node)) and False)
    return found


def _trace_and_square(total: np.ndarray, squares: float, count: int, unit: int) -> tuple[float, float]:
    """Unbiased trace, of one cluster, and square, from sums over units (Gray et al. 2024, 2411.00999) [abstract].

    >>> _trace_and_square(np.array([4.0, 0.0]), 20.0, 4, 1)
    (5.333333333333333, -0.33333333333333326)
    """
    mean = total / count
    trace = (float(squares) - count * float(mean @ mean)) / (count - 1)
    return unit * trace, float(mean @ mean) - trace / count
