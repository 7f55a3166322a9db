"""Subjects of the tests of batch sizes: a straight line through clustered rows, whose noise is known, and waves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tests.learning.studies import Waves
from volgrad.data.image import Feature, Image
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.size_choice import Work
from volgrad.learning.training.first_order import named
from volgrad.learning.training.leaves import strong
from volgrad.learning.training.loop import begin
from volgrad.learning.training.task import Task


class Mean(Task):
    """Half the squared distance of rows from a vector: the gradient of a row is the vector less the row."""

    start: float = eqx.field(static=True)
    columns: int = eqx.field(static=True)

    def init(self, key):
        return jnp.full(self.columns, self.start, jnp.float32), ()

    def loss(self, variables, statistics, batch, key):
        square = 0.5 * jnp.square(variables[None, None] - batch.rows.values).sum(-1)
        mask = batch.rows.mask
        return jnp.where(mask, square, 0.0).sum(1) / jnp.maximum(mask.sum(1), 1).astype(square.dtype), ()

    def evaluate(self, variables, statistics, batch):
        return {"loss": self.loss(variables, statistics, batch, None)[0].mean()}


def mean_image(clusters, rows, columns, intraclass, seed=0):
    """Rows of variance 1 a column around 0, alike within clusters."""
    random = np.random.default_rng(seed)
    common = random.standard_normal((clusters, 1, columns)) * np.sqrt(intraclass)
    own = random.standard_normal((clusters, rows, columns)) * np.sqrt(1.0 - intraclass)
    values = (common + own).reshape(-1, columns).astype(np.float32)
    stamps = np.arange(clusters)
    features = [Feature(f"x{place}", "1") for place in range(columns)]
    return Image.of(values, np.full(clusters, rows), stamps, stamps, features)


def subject_of(task, image, *, rows_per_cluster=None, optimizer="sgd", rate=0.01, samples=20_000, reference=16):
    """A subject at the first state of a run; the last fifth of the clusters is for judging."""
    train = range(image.clusters * 4 // 5)
    base = named(optimizer, learning_rate=rate)
    state = strong(begin(task, base, jax.random.key(0)))
    loader = Loader(image, train, 0, rows_per_cluster)

    def of(clusters, noise):
        return base.at(clusters, reference, noise)

    return Subject.of(task, loader, of, state, Work(samples, reference), range(train.stop, image.clusters))


def mean_subject(start=0.3, clusters=2000, rows=4, columns=8, intraclass=0.0, **settings):
    """A vector that learns a mean: its noise scale is known (`mean_noise`)."""
    return subject_of(Mean(start, columns), mean_image(clusters, rows, columns, intraclass), **settings)


def mean_noise(start, rows, intraclass):
    """Clusters: the variance of a cluster's mean over the square of the slope, column by column the same."""
    return (intraclass + (1.0 - intraclass) / rows) / start**2


def waves_subject(norm="none", **settings):
    """A small network through noisy waves."""
    study = Waves()
    image = study.image(study.Data(), None, None)
    task = study.task(study.Model(norm=norm, **settings.pop("model", {})), image, range(image.clusters))
    return subject_of(task, image, optimizer="adam", rate=0.003 * settings.pop("rate_scale", 1.0), **settings)


class Clock:
    """A clock that goes on by what it is told to, each time it is looked at."""

    def __init__(self, tick=1e-3):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def same_bits(one, other):
    """Whether two trees hold the very same numbers."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(
        np.array_equal(jax.random.key_data(a), jax.random.key_data(b))
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        else np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in pairs
    )
