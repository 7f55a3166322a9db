"""Seconds a step by batch size, as the trainer takes it; independent of the library's own measurement."""

import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.batch_size_workloads import Workload

REPEATS = 7


class Seconds(NamedTuple):
    """Medians of one step, and the spread of computing (a half of the range between quartiles, over the median)."""

    compute: float
    load: float
    spread: float

    @property
    def step(self) -> float:
        """Batches are loaded while the ones before are computed with."""
        return max(self.compute, self.load)


def step_seconds(workload: Workload, sizes: list[int], seed: int, repeats: int = REPEATS) -> dict[int, Seconds]:
    """Seconds a step of every size, the sizes taking turns."""
    import jax
    import jax.numpy as jnp

    from volgrad.learning.batching.loader import Loader
    from volgrad.learning.training.dispatch import Plan, Rung, train_program
    from volgrad.learning.training.leaves import strong
    from volgrad.learning.training.loop import begin

    loader = Loader(workload.image, workload.train, seed, workload.rows_per_cluster, blocks=None)
    runs: dict[int, tuple[Any, Any, int]] = {}
    for size in sizes:
        optimizer = workload.optimizer_at(size)
        state = strong(begin(workload.task, optimizer, jax.random.key(seed)))
        state = jax.tree.map(jnp.copy, state)  # it is donated, and leaves may share their memory
        steps = Plan([Rung(0, size)], 1 << 40, workload.rows).steps(size)
        shape = (steps, size, workload.rows, len(workload.image.features))
        runs[size] = train_program(workload.task, optimizer, state, shape), state, steps
    task = jax.device_put(workload.task)
    spent: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for turn in range(repeats + 1):
        for size, (program, state, steps) in list(runs.items()):
            began = time.perf_counter()
            stack = loader.stack(turn * steps * size, steps, size)
            loaded = time.perf_counter()
            state, info = program(state, task, *(jax.device_put(part) for part in stack))
            jax.block_until_ready((state.variables, info))
            spent[size].append(((time.perf_counter() - loaded) / steps, (loaded - began) / steps))
            runs[size] = program, state, steps
    loader.close()
    return {size: _median_seconds(found[1:]) for size, found in spent.items()}


def _median_seconds(found: list[tuple[float, float]]) -> Seconds:
    compute, load = np.array(found).T
    low, middle, high = np.quantile(compute, [0.25, 0.5, 0.75])
    return Seconds(float(middle), float(np.median(load)), float(0.5 * (high - low) / middle))
