"""Small tasks whose answers are known, and the optimisers that must solve them. None has to do with options."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.first_order import adam, sgd
from volgrad.learning.training.least_squares import LevenbergMarquardt
from volgrad.learning.training.loop import Fit, Outcome, Rules, begin, fit
from volgrad.learning.training.state import Optimizer
from volgrad.learning.training.task import LeastSquares, Residuals, Task

OPTIMIZERS: dict[str, Optimizer] = {
    "lm": LevenbergMarquardt(),
    "adam": adam(0.1, steps=4000),
    "sgd": sgd(0.05, steps=4000),
}


class Regression(LeastSquares):
    """Linear least squares, the variables in a dictionary."""

    scale: Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def init(self, key):
        return {"slope": jnp.zeros(3, self.scale.dtype), "level": jnp.zeros((), self.scale.dtype)}, None

    def misses(self, variables, batch):
        features, target = batch.rows
        found = (features * variables["slope"][None, :]).sum(1) + variables["level"]
        return jnp.where(batch.mask, self.scale * (found - target), 0.0)

    def loss(self, variables, statistics, batch, key):
        return 0.5 * self.misses(variables, batch) ** 2, None

    def residuals(self, variables, batch):
        misses = self.misses(variables, batch)
        weight = jnp.where(batch.mask, batch.weight, 0.0)
        return Residuals(misses, weight, 0.5 * (weight @ misses**2))

    def evaluate(self, variables, statistics, batch):
        return {"rmse": jnp.sqrt((self.misses(variables, batch) ** 2).sum() / batch.mask.sum())}


class Logistic(Task):
    """Logistic regression: a loss that is no sum of squares."""

    def init(self, key):
        return 0.01 * jax.random.normal(key, (3,)), None

    def loss(self, variables, statistics, batch, key):
        features, target = batch.rows
        score = (features * variables[None, :]).sum(1)
        return jax.nn.softplus(score) - (target > 0.0) * score, None

    def evaluate(self, variables, statistics, batch):
        features, target = batch.rows
        right = ((features * variables[None, :]).sum(1) > 0.0) == (target > 0.0)
        return {"accuracy": (right & batch.mask).sum() / batch.mask.sum()}


class Valley(LeastSquares):
    """Rosenbrock's curved valley; the minimum is 0 at (1, 1). The data only say how often."""

    def init(self, key):
        return jnp.array([-1.2, 1.0]), None

    def both(self, variables):
        x, y = variables
        return jnp.array([10.0 * (y - x * x), 1.0 - x])

    def loss(self, variables, statistics, batch, key):
        return jnp.where(batch.mask, 0.5 * (self.both(variables) ** 2).sum(), 0.0), None

    def residuals(self, variables, batch):
        both = self.both(variables)
        weight = jnp.where(batch.mask, batch.weight, 0.0).sum()
        return Residuals(both, jnp.full(2, weight), 0.5 * weight * (both @ both))

    def evaluate(self, variables, statistics, batch):
        return {"distance": jnp.hypot(*(variables - 1.0))}


class Gaussian(Task):
    """Mean and scale by likelihood: a loss that goes below zero."""

    def init(self, key):
        return jnp.zeros(2), None

    def loss(self, variables, statistics, batch, key):
        mean, log_scale = variables
        return 0.5 * ((batch.rows[1] - mean) / jnp.exp(log_scale)) ** 2 + log_scale, None

    def evaluate(self, variables, statistics, batch):
        return {"mean": variables[0]}


class Cliff(Regression):
    """Regression whose loss is not finite once a slope leaves the unit ball: steps may fall off."""

    edge: Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def misses(self, variables, batch):
        over = jnp.abs(variables["slope"]).max() > self.edge
        return jnp.where(over, jnp.nan, Regression.misses(self, variables, batch))


SLOPE, LEVEL = np.array([1.0, -2.0, 0.5]), 0.3


def data(rows: int = 40, places: int | None = None, noise: float = 0.1, seed: int = 0, dtype=np.float64) -> Batch:
    """Rows of the regression, padded to `places`."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, 3))
    target = features @ SLOPE + LEVEL + noise * random.standard_normal(rows)
    extra = (places or rows) - rows
    features = np.concatenate([features, np.full((extra, 3), 7.0)])
    target = np.concatenate([target, np.full(extra, -99.0)])
    mask = np.arange(rows + extra) < rows
    columns = (jnp.asarray(features, dtype), jnp.asarray(target, dtype))
    return Batch(columns, jnp.asarray(mask), jnp.ones(rows + extra, dtype))


def solution(batch: Batch) -> np.ndarray:
    """Slope and level of the least-squares line, by numpy."""
    real = np.asarray(batch.mask)
    features, target = (np.asarray(column)[real] for column in batch.rows)
    columns = np.concatenate([features, np.ones((real.sum(), 1))], axis=1)
    root = np.sqrt(np.asarray(batch.weight)[real])
    return np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)[0]


def flat(variables) -> np.ndarray:
    """Slope and level as one vector."""
    return np.concatenate([np.asarray(variables["slope"]), [np.asarray(variables["level"])]])


#: One length for all, because every other one is another program to compile.
RULES = Rules(epochs=400)


def run(
    task: Task, optimizer: Optimizer, batch: Batch, size: int, rules: Rules = RULES, seed: int = 0, start=None
) -> Fit:
    """The public loop, compiled."""
    key = jax.random.key(seed)
    return _run(task, optimizer, batch, size, rules, key, task.init(key)[0] if start is None else start)


@eqx.filter_jit
def _run(task, optimizer, batch, size, rules, key, start):
    return fit(task, optimizer, batch, begin(task, optimizer, key, start), size, rules)


def outcome(done: Fit) -> Outcome:
    return Outcome(int(done.outcome))
