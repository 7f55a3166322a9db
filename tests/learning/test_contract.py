"""The contract suite itself: what is lawful passes, and each way to break a law is caught by that law."""

import dataclasses
import itertools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.learning.problems import Gaussian, Logistic, Regression, Valley, data
from volgrad.data.image import Feature, Image
from volgrad.errors import ContractError
from volgrad.learning.batching.batch import Batch, Rows
from volgrad.learning.contract import LAWS, check_task, judge
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.study_contract import check_study, judge_study
from volgrad.learning.training.task import LeastSquares, Residuals, Task

FEATURES = 3


def rows_of(clusters=6, rows=4, dtype=np.float32) -> Batch:
    """Clusters of unequal length; the last two columns are an input and a target."""
    random = np.random.default_rng(0)
    mask = np.arange(rows)[None, :] < random.integers(1, rows + 1, clusters)[:, None]
    values = np.where(mask[..., None], random.standard_normal((clusters, rows, FEATURES)), 0.0).astype(dtype)
    real = np.arange(clusters) < clusters - 1
    return Batch(Rows(values, mask), real, np.ones(clusters, dtype))


class Linear(Task):
    """Lawful: the last column from the others, the error's mean square kept as a statistic nobody uses."""

    def init(self, key):
        return {"slope": jax.random.normal(key, (FEATURES - 1,), jnp.float32)}, None

    def errors(self, variables, batch):
        x, y = batch.rows.values[..., :-1], batch.rows.values[..., -1]
        mask = batch.rows.mask & batch.mask[:, None]
        return jnp.where(mask, x @ variables["slope"].astype(x.dtype) - y, 0.0), mask

    def loss(self, variables, statistics, batch, key):
        error, mask = self.errors(variables, batch)
        return (error**2).sum(1) / jnp.maximum(mask.sum(1), 1).astype(error.dtype), statistics

    def evaluate(self, variables, statistics, batch):
        error, mask = self.errors(variables, batch)
        return {"rmse": jnp.sqrt((error**2).sum() / mask.sum())}


class NoVariables(Linear):
    def init(self, key):
        return {}, None


class Moody(Linear):
    count: ClassVar = itertools.count()

    def init(self, key):
        return {"slope": jnp.full(FEATURES - 1, float(next(self.count)), jnp.float32)}, None


class Whole(Linear):
    def init(self, key):
        return {"slope": jnp.ones(FEATURES - 1, int)}, None


class OneLoss(Linear):
    def loss(self, variables, statistics, batch, key):
        return Linear.loss(self, variables, statistics, batch, key)[0].mean(), None


class NotFinite(Linear):
    def loss(self, variables, statistics, batch, key):
        error, mask = self.errors(variables, batch)
        return (error**2).sum(1) / (mask.sum(1) * batch.mask), None


class Deaf(Linear):
    def loss(self, variables, statistics, batch, key):
        return Linear.loss(self, jax.lax.stop_gradient(variables), statistics, batch, key)


class Widening(Linear):
    def init(self, key):
        return Linear.init(self, key)[0], jnp.zeros((), jnp.float32)

    def loss(self, variables, statistics, batch, key):
        return Linear.loss(self, variables, statistics, batch, key)[0], statistics + np.float64(1.0)


class PlainNumber(Linear):
    """A number that is no array: float64 once it is one."""

    rate: float = 0.5

    def init(self, key):
        return Linear.init(self, key)[0], jnp.zeros((), jnp.float32)

    def loss(self, variables, statistics, batch, key):
        return Linear.loss(self, variables, statistics, batch, key)[0], self.rate * statistics


class Forgetful(Widening):
    def loss(self, variables, statistics, batch, key):
        return Linear.loss(self, variables, statistics, batch, key)[0], None


class ByCompany(Linear):
    """The mean of what stands in all places is taken off."""

    def loss(self, variables, statistics, batch, key):
        losses, _ = Linear.loss(self, variables, statistics, batch, key)
        return losses * batch.rows.values[:, 0, 0].mean() ** 2, None


class ByRealCompany(Linear):
    def loss(self, variables, statistics, batch, key):
        losses, _ = Linear.loss(self, variables, statistics, batch, key)
        return losses * jnp.where(batch.mask, losses, 0.0).sum(), None


class SeesPadding(Linear):
    def errors(self, variables, batch):
        x, y = batch.rows.values[..., :-1], batch.rows.values[..., -1]
        mask = batch.rows.mask & batch.mask[:, None]
        return jnp.where(batch.mask[:, None], x @ variables["slope"].astype(x.dtype) - y, 0.0), mask


class Counting(Linear):
    count: ClassVar = itertools.count(1)

    def loss(self, variables, statistics, batch, key):
        return next(self.count) * Linear.loss(self, variables, statistics, batch, key)[0], None


class AloneOnly(Linear):
    def loss(self, variables, statistics, batch, key):
        losses, _ = Linear.loss(self, variables, statistics, batch, key)
        shape = jax.ShapeDtypeStruct(losses.shape, losses.dtype)
        fixed = jax.pure_callback(np.asarray, shape, jax.lax.stop_gradient(losses))
        return losses + 0.0 * fixed, None


class Stopped(Linear):
    def loss(self, variables, statistics, batch, key):
        losses, _ = Linear.loss(self, variables, statistics, batch, key)
        return losses * jax.lax.stop_gradient(losses), None


class Excused(Stopped):
    exempt: ClassVar = {"slope": "weights of the losses are constants"}


class ManyNumbers(Linear):
    def evaluate(self, variables, statistics, batch):
        return {"errors": self.errors(variables, batch)[0]}


class Silent(Linear):
    def evaluate(self, variables, statistics, batch):
        return {}


class Crooked(LeastSquares):
    """Residuals that are not those of the loss."""

    inner: Regression = eqx.field(default_factory=Regression)

    def init(self, key):
        return self.inner.init(key)

    def loss(self, variables, statistics, batch, key):
        return self.inner.loss(variables, statistics, batch, key)

    def residuals(self, variables, batch):
        found = self.inner.residuals(variables, batch)
        return Residuals(2.0 * found.value, found.stiffness, found.loss)

    def evaluate(self, variables, statistics, batch):
        return self.inner.evaluate(variables, statistics, batch)


BROKEN = {
    NoVariables: "start",
    Moody: "start",
    Whole: "start",
    OneLoss: "losses",
    NotFinite: "losses",
    Deaf: "losses",
    Widening: "statistics",
    PlainNumber: "statistics",
    Forgetful: "statistics",
    ByCompany: "masked clusters",
    ByRealCompany: "parts",
    SeesPadding: "masked rows",
    Counting: "compiled",
    AloneOnly: "vectorised",
    Stopped: "slope",
    ManyNumbers: "metrics",
    Silent: "metrics",
}


@pytest.mark.parametrize("kind", [Regression, Logistic, Gaussian, Valley], ids=lambda kind: kind.__name__)
def test_what_is_lawful_passes(kind):
    verdicts = check_task(kind(), data(3, 5) if kind is Valley else data(20, 28))
    assert [one.law for one in verdicts] == list(LAWS)
    assert {one.law for one in verdicts if one.status == "skip"} <= {"masked rows", "squares"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_within_clusters_pass(dtype):
    skipped = [one.law for one in check_task(Linear(), rows_of(dtype=dtype)) if one.status == "skip"]
    assert skipped == ["squares"]


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_law_is_named(kind):
    assert BROKEN[kind] in [one.law for one in judge(kind(), rows_of()) if one.status == "fail"]


def test_the_first_broken_law_is_raised():
    with pytest.raises(
        ContractError, match=r"OneLoss breaks the law 'losses': loss has the shape \(\), and the batch 6"
    ):
        check_task(OneLoss(), rows_of())


def test_residuals_are_held_against_the_loss():
    assert [one.law for one in judge(Crooked(), data(20, 28)) if one.status == "fail"] == ["squares"]


def test_what_is_broken_on_purpose_is_said_and_skipped():
    verdicts = {one.law: one for one in check_task(Excused(), rows_of())}
    assert verdicts["slope"] == ("slope", "skip", "weights of the losses are constants")


# ------------------------------------------------------------------------------------------------------------- studies


class Data(StudyData, frozen=True, kw_only=True):
    clusters: int = 12


class Scaled(Linear):
    scale: jax.Array = eqx.field(default_factory=lambda: jnp.ones((), jnp.float32))


class Lawful(Study):
    name, Data, Model, clusters = "lawful", Data, StudyModel, 4

    def image(self, data, base, folder):
        rows = np.random.default_rng(0).standard_normal((2 * data.clusters, FEATURES)).astype(np.float32)
        stamps = np.arange(data.clusters)
        features = [Feature(name, "1") for name in "abc"]
        return Image.of(rows, np.full(data.clusters, 2), stamps, stamps, features)

    def task(self, model, image, train):
        rows = image.rows[image.first_row[train.start] : image.first_row[train.stop]]
        return Scaled(jnp.asarray(rows.std(), jnp.float32))


class Leaking(Lawful):
    def task(self, model, image, train):
        return Scaled(jnp.asarray(image.rows.std(), jnp.float32))


class Unsteady(Lawful):
    count: ClassVar = itertools.count()

    def image(self, data, base, folder):
        found = Lawful.image(self, data, base, folder)
        return Image.of(found.rows + next(self.count), found.counts, found.start_us, found.known_us, found.features)


class Unnamed(Lawful):
    name = "Not a name"


class NoDefault(Lawful):
    class Data(StudyData, frozen=True, kw_only=True):
        clusters: int


class NoUnits(Lawful):
    def image(self, data, base, folder):
        found = Lawful.image(self, data, base, folder)
        return dataclasses.replace(found, features=tuple(Feature(name, "") for name in "abc"))


class NoTask(Lawful):
    def task(self, model, image, train):
        return "a task"


def test_a_lawful_study_passes_with_its_task(tmp_path):
    laws = [one.law for one in check_study(Lawful(), tmp_path)]
    assert laws == ["keys", "image", "repeated", "no leakage", *LAWS]


@pytest.mark.parametrize(
    ("kind", "law"),
    [(Unnamed, "keys"), (NoDefault, "keys"), (NoUnits, "image"), (Unsteady, "repeated"), (Leaking, "no leakage"),
     (NoTask, "no leakage")],
)  # fmt: skip
def test_a_broken_study_is_told(tmp_path, kind, law):
    with pytest.raises(ContractError, match=f"{kind.__name__} breaks the law '{law}'"):
        check_study(kind(), tmp_path)


def test_too_few_clusters_are_told(tmp_path):
    verdicts = judge_study(Lawful(), tmp_path, Data(clusters=3)).verdicts
    assert verdicts[-1].law == "image"
    assert "3 clusters" in verdicts[-1].why
