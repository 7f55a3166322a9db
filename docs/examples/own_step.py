"""The batch size of a training step that is not volgrad's: plain JAX and optax (docs/batch-size.md).

cd docs/examples; python -c "import own_step; print(own_step.choose().reason)"
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

import volgrad

OPTIMIZER = optax.adam(1e-3)  # a rate that was chosen for batches of 32 snapshots
WIDTHS = (2, 64, 64, 1)


def quotes(snapshots, seed=0):
    """Log-moneyness and years of options, their implied volatilities, and the snapshot that each is of.

    Volatilities of a snapshot rise and fall together: its quotes are no independent rows.
    """
    random = np.random.default_rng(seed)
    snapshot = np.repeat(np.arange(snapshots), random.integers(10, 30, snapshots))
    k, years = 0.3 * random.standard_normal(len(snapshot)), random.uniform(0.02, 1.0, len(snapshot))
    level = 0.6 + 0.05 * random.standard_normal(snapshots)[snapshot]
    iv = level - 0.1 * k + 0.3 * k**2 / np.sqrt(years + 0.1) + 0.01 * random.standard_normal(len(snapshot))
    return {"x": np.stack([k, years], axis=1).astype(np.float32), "iv": iv.astype(np.float32)}, snapshot


def init(seed=0):
    """Variables of the network and the optimiser's moments: what a step takes, and what it answers with."""
    random = np.random.default_rng(seed)
    layers = [
        (jnp.asarray(random.standard_normal((m, n)) / np.sqrt(m), jnp.float32), jnp.zeros((1, n), jnp.float32))
        for m, n in pairwise(WIDTHS)
    ]
    return {"layers": layers, "moments": OPTIMIZER.init(layers)}


def loss(layers, batch):
    """The mean over the rows of a batch."""
    x = batch["x"]
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return jnp.mean((0.6 + (x @ weight + bias)[:, 0] - batch["iv"]) ** 2)


@jax.jit
def step(state, batch):
    """One step of training."""
    slope = jax.grad(loss)(state["layers"], batch)
    moved, moments = OPTIMIZER.update(slope, state["moments"])
    return {"layers": optax.apply_updates(state["layers"], moved), "moments": moments}


@jax.jit
def grad(state, batch):
    """The gradient as Adam sees it, divided by the root of its second moment: noise is measured in those units.

    For SGD the plain gradient is what counts.
    """
    moments = state["moments"][0]
    scale = 1.0 - 0.999 ** jnp.maximum(moments.count, 1)
    started = moments.count > 0

    def divided(slope, square):
        return jnp.where(started, slope / (jnp.sqrt(square / scale) + 1e-8), slope)

    return jax.tree.map(divided, jax.grad(loss)(state["layers"], batch), moments.nu)


def choose(snapshots=2000, **how):
    """The size that gets there first."""
    rows, snapshot = quotes(snapshots)
    return volgrad.choose_batch_size(step=step, grad=grad, params=init(), data=rows, clusters=snapshot, **how)
