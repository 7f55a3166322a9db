"""The study `regression`: any table of numbers, or any training image; named columns in, one column out.

A row is a cluster, unless the source is an image with clusters of its own.
"""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from volgrad.data.columns import stamp_us
from volgrad.data.image import Feature, Image, ImageWriter
from volgrad.errors import InputError, SchemaError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.batching.scaling import Scaling
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.models.networks.mlp import Mlp
from volgrad.tasks.network import NetworkModel, huber, located, mean_of, real_rows

__all__ = ["Regression", "RegressionData", "RegressionModel", "RowRegression"]

_HEAD = "image.json"  # what tells a training image's folder
_PIECE = 1 << 22


class RegressionData(StudyData, frozen=True, kw_only=True):
    """`[data]`.

    Attributes:
        source: a Parquet file, or the folder of a training image; the next three are for the file only.
        features: columns that go in.
        target: column to be told from them.
        ts: column of stamps by which rows ascend; rows count as in the order of time where it is empty.
    """

    source: str = ""
    features: tuple[str, ...] = ()
    target: str = ""
    ts: str = ""


class RegressionModel(NetworkModel, frozen=True, kw_only=True):
    """`[model]`.

    Attributes:
        loss: of the error in standard deviations of the target.
        inputs: columns of the image that go in; all but the target where empty.
        target: column that comes out; the last where empty.
    """

    loss: Literal["squares", "huber"] = "squares"
    inputs: tuple[str, ...] = ()
    target: str = ""


class Regression(Study):
    """A multi-layer perceptron from columns of a table to one of them."""

    name: ClassVar[str] = "regression"
    Data: ClassVar[type[StudyData]] = RegressionData
    Model: ClassVar[type[StudyModel]] = RegressionModel
    clusters: ClassVar[int] = 512

    def image(self, data: RegressionData, base: Path, folder: Path) -> Image:
        """The table as an image, features first and the target last; an image as it is.

        Raises:
            InputError: no source, or one without these columns.
        """
        if not data.source:
            raise InputError("data.source is empty: name a Parquet file or the folder of a training image")
        path = located(base, data.source)
        if (path / _HEAD).is_file():
            if data.features or data.target or data.ts:
                raise InputError(
                    f"{path}: this is a training image, whose columns model.inputs and model.target choose: leave out "
                    "data.features, data.target and data.ts",
                    file=path,
                )
            return Image.open(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file, and no training image", file=path)
        if not data.features or not data.target:
            raise InputError(f"{path}: name data.features and data.target", file=path)
        return _table_image(path, data, folder)

    def task(self, model: RegressionModel, image: Image, train: range) -> "RowRegression":
        """Input and target are scaled as they are in the training split."""
        names = [feature.name for feature in image.features]
        target = image.position(model.target or names[-1])
        inputs = [image.position(name) for name in model.inputs] or [i for i in range(len(names)) if i != target]
        if target in inputs:
            raise InputError(f"model.inputs holds the target {names[target]}: leave it out")
        scaling = Scaling.fit(image, train, [names[place] for place in (*inputs, target)])
        return RowRegression(
            model.network(len(inputs), 1),
            jnp.asarray(scaling.mean),
            jnp.asarray(scaling.scale),
            tuple(inputs),
            target,
            2.0 if model.loss == "huber" else None,  # where about 5 % of normal errors lie beyond (assumption)
        )


class RowRegression(Task):
    """Each row's target from its inputs, alone.

    Attributes:
        network: from inputs to the target, all scaled.
        mean, scale: of every column of the image. Shape: (features,).
        inputs, target: columns.
        bend: of the Huber loss, in deviations of the target; None for squares.
    """

    network: Mlp
    mean: Float[Array, " features"]
    scale: Float[Array, " features"]
    inputs: tuple[int, ...] = eqx.field(static=True)
    target: int = eqx.field(static=True)
    bend: float | None = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """The network's."""
        return self.network.init(key)

    def loss(
        self, variables: PyTree, statistics: PyTree, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, " clusters"], PyTree]:
        """Mean over a cluster's rows, in deviations of the target."""
        error, statistics = self._errors(variables, statistics, batch, True, key)
        return mean_of(huber(error, self.bend), real_rows(batch), 1), statistics

    def evaluate(self, variables: PyTree, statistics: PyTree, batch: Batch) -> dict[str, Any]:
        """`loss`, and `rmse` and `mae` in the target's unit."""
        error, _ = self._errors(variables, statistics, batch, False, None)
        mask, unit = real_rows(batch), self.scale[self.target].astype(error.dtype)
        return {
            "loss": mean_of(huber(error, self.bend), mask),
            "rmse": unit * jnp.sqrt(mean_of(error**2, mask)),
            "mae": unit * mean_of(jnp.abs(error), mask),
        }

    def _errors(
        self, variables: PyTree, statistics: PyTree, batch: Batch, training: bool, key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "clusters rows"], PyTree]:
        values = jnp.asarray(batch.rows.values)
        scaled = jnp.asarray(Scaling(self.mean, self.scale, 0).apply(values))  # pyright: ignore[reportArgumentType]
        leading = self.inputs == tuple(range(len(self.inputs)))
        x = scaled[..., : len(self.inputs)] if leading else scaled[..., list(self.inputs)]
        y, statistics = self.network(variables, statistics, x, real_rows(batch), training, key)
        return jnp.where(real_rows(batch), y[..., 0] - scaled[..., self.target], 0.0), statistics


def _table_image(path: Path, data: RegressionData, folder: Path) -> Image:
    """Derive the image, piece by piece, or open the one that was derived from the same."""
    names = (*data.features, data.target)
    columns = tuple(Feature(name, "1") for name in names)
    digest = hashlib.sha256(repr(("table 1", names, data.ts)).encode())
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    key = digest.hexdigest()
    if (there := _same(folder, columns, key)) is not None:
        return there
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: this is no Parquet file ({error})", file=path) from error
    with file, ImageWriter(folder, columns) as writer:
        found = file.schema_arrow.names
        asked = [*names, data.ts] if data.ts else [*names]
        if missing := [name for name in asked if name not in found]:
            raise SchemaError(f"{path}: no column {missing[0]!r}; it has {', '.join(found[:30])}", file=path)
        done = 0
        for block in file.iter_batches(batch_size=1 << 18, columns=asked):
            rows = np.empty((block.num_rows, len(names)), np.float32)
            for place, name in enumerate(names):
                rows[:, place] = _numbers(block.column(name), name, path)
            start = np.arange(done, done + len(rows))
            if data.ts:
                start = _stamps(block.column(data.ts), data.ts, path)
            writer.append(rows, np.ones(len(rows), np.int64), start, start)
            done += len(rows)
        return writer.seal({"derivation": "table 1", "key": key})


def _same(folder: Path, columns: tuple[Feature, ...], key: str) -> Image | None:
    try:
        image = Image.open(folder, features=columns)
    except InputError:
        return None  # none there, or another: derived anew
    return image if image.provenance.get("key") == key else None


def _numbers(column: pa.Array, name: str, path: Path) -> np.ndarray:
    try:
        return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise SchemaError(f"{path}: column {name!r} holds {column.type}, no numbers", file=path) from error


def _stamps(column: pa.Array, name: str, path: Path) -> np.ndarray:
    if not pa.types.is_timestamp(column.type):
        raise SchemaError(f"{path}: column {name!r} holds {column.type}, no stamps", file=path)
    return stamp_us(pa.chunked_array([column]))
