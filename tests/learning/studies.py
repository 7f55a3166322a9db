"""Studies of the tests: small regressions whose answers are known."""

from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from volgrad.data.image import Feature, Image
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.models.networks.mlp import Mlp
from volgrad.models.networks.normalisation import make_normalisation


class WaveTask(Task):
    """A network through noisy waves; the last column is the target."""

    network: Mlp = eqx.field(static=False)
    explode: float = eqx.field(default=0.0, static=True)
    needs: int = eqx.field(default=0, static=True)

    def init(self, key):
        return self.network.init(key)

    def _loss(self, variables, statistics, batch, training, key):
        rows = batch.rows
        x, target = rows.values[:, :, :-1], rows.values[:, :, -1]
        found, after = self.network(variables, statistics, x, rows.mask, training, key)
        square = jnp.where(rows.mask, (found[:, :, 0] - target) ** 2, 0.0)
        return square.sum(1) / jnp.maximum(rows.mask.sum(1), 1).astype(square.dtype), after

    def loss(self, variables, statistics, batch, key):
        losses, after = self._loss(variables, statistics, batch, True, key)
        if self.explode:  # a task that no step size suits
            losses = losses * jnp.exp(self.explode * jnp.abs(jax.flatten_util.ravel_pytree(variables)[0]).max())
        if self.needs:  # a task that no memory suits
            losses = losses + jnp.cumsum(jnp.arange(self.needs, dtype=losses.dtype) * losses[0])[5]
        return losses, after

    def evaluate(self, variables, statistics, batch):
        losses, _ = self._loss(variables, statistics, batch, False, None)
        return {"loss": losses.mean()}


class Waves(Study):
    """A thousand clusters of three rows, two features and a target."""

    class Data(StudyData, frozen=True, kw_only=True, forbid_unknown_fields=True):
        clusters: int = 1000
        rows: int = 3

    class Model(StudyModel, frozen=True, kw_only=True, forbid_unknown_fields=True):
        width: int = 8
        depth: int = 2
        norm: str = "batch"
        explode: float = 0.0
        needs: int = 0

    name: ClassVar[str] = "waves"
    clusters: ClassVar[int] = 16

    def image(self, data: Any, base: Path, folder: Path) -> Image:
        random = np.random.default_rng(7)
        x = random.standard_normal((data.clusters * data.rows, 2)).astype(np.float32)
        target = np.sin(2.0 * x[:, :1]) * x[:, 1:] + 0.1 * random.standard_normal((len(x), 1)).astype(np.float32)
        stamps = np.arange(data.clusters) * 1_000_000
        features = [Feature("a", "1"), Feature("b", "1"), Feature("target", "1")]
        counts = np.full(data.clusters, data.rows)
        return Image.of(np.concatenate([x, target], 1).astype(np.float32), counts, stamps, stamps, features)

    def task(self, model: Any, image: Image, train: range) -> Task:
        normalisation = None if model.norm == "none" else make_normalisation(model.norm)
        network = Mlp(2, 1, width=model.width, depth=model.depth, normalisation=normalisation)
        return WaveTask(network, explode=model.explode, needs=model.needs)
