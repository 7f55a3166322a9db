"""What every study must obey: its keys have defaults, its image ascends, and its task knows the training split only.

`check_study(study, folder)` makes the image from the defaults of `[data]`, or from a given `[data]`, and then holds the
task against the laws of `volgrad.learning.contract`.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from volgrad.data.image import Image
from volgrad.errors import ContractError, InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.contract import Skip, Verdict, judge, verdict
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task

__all__ = ["Judged", "batch_from", "check_study", "judge_study"]

_CLUSTERS, _ROWS = 5, 32  # of the batch that a task is judged on
_MOST_ROWS = 2_000_000  # of an image, that are copied


class Judged(NamedTuple):
    """The verdicts on a study, those on its task among them, and the name of the task's class ("" without data)."""

    verdicts: list[Verdict]
    task: str


def check_study(
    study: Study, folder: Path, data: Any = None, model: Any = None, base: Path | None = None
) -> list[Verdict]:
    """Hold a study and its task against every law.

    Args:
        study: any.
        folder: where its image may be kept.
        data, model: the recipe's tables; the defaults where None.
        base: folder that relative paths in `data` start from; `folder` where None.

    Returns:
        The verdicts, none of which is "fail".

    Raises:
        ContractError: a law is broken: which, what was seen, what to do.
    """
    verdicts = judge_study(study, folder, data, model, base).verdicts
    for law, status, why in verdicts:
        if status == "fail":
            raise ContractError(f"{type(study).__name__} breaks the law '{law}': {why}")
    return verdicts


def judge_study(study: Study, folder: Path, data: Any = None, model: Any = None, base: Path | None = None) -> Judged:
    """The verdict on each law; those of the task follow those of the study."""
    made: dict[str, Any] = {}
    base = folder if base is None else base

    def keys() -> None:
        made["data"], made["model"] = _keys(study, data, model)

    def image() -> None:
        made["image"] = _image(study, made["data"], base, folder)

    def repeated() -> None:
        again = study.image(made["data"], base, folder)
        if again.digest != made["image"].digest:
            raise ContractError("image gives other bytes when it is called again; derive all chance from a seed")

    def split() -> None:
        found: Image = made["image"]
        made["train"] = range(max(found.clusters * 2 // 3, 1))
        task = study.task(made["model"], found, made["train"])
        if not isinstance(task, Task):
            raise ContractError(f"task gives a {type(task).__name__}; inherit from volgrad.learning.training.task.Task")
        made["task"] = task
        _no_leakage(study, made["model"], found, made["train"], task)

    found: list[Verdict] = []
    for name, law in (("keys", keys), ("image", image), ("repeated", repeated), ("no leakage", split)):
        found.append(verdict(name, law, {}))
        if found[-1].status != "ok":  # what follows builds on it
            return Judged(found, "")
    return Judged([*found, *judge(made["task"], batch_from(made["image"], made["train"]))], type(made["task"]).__name__)


def batch_from(image: Image, train: range) -> Batch:
    """A few clusters of a split, as the trainer would draw them; the last place is padding."""
    loader = Loader(image, train, seed=0, rows_per_cluster=_ROWS)
    try:
        stack = loader.stack(0, 1, min(_CLUSTERS, len(train)) + 1)
    finally:
        loader.close()
    count = np.array(stack.count[0])
    count[-1] = 0
    values = np.where((np.arange(stack.values.shape[2])[None, :] < count[:, None])[..., None], stack.values[0], 0.0)
    return batch_of(*(jnp.asarray(part) for part in (values.astype(np.float32), count, stack.weight[0])))


def _keys(study: Study, data: Any, model: Any) -> tuple[Any, Any]:
    """Names and keys are there, and every key has a default."""
    kind = type(study)
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ContractError(f"name is {name!r}; give a name in lower case, such as 'realised-variance'")
    clusters = getattr(kind, "clusters", None)
    if not isinstance(clusters, int) or clusters < 1:
        raise ContractError(f"clusters is {clusters!r}; give the clusters of a batch, 1 or more")
    for table, parent in (("Data", StudyData), ("Model", StudyModel)):
        keys = getattr(kind, table, None)
        if not isinstance(keys, type) or not issubclass(keys, parent):
            raise ContractError(f"{table} is {keys!r}; give a subclass of {parent.__name__}")
        without = [field.name for field in msgspec.structs.fields(keys) if field.required]
        if without:
            raise ContractError(f"{table}.{without[0]} has no default; give every key one")
    return (kind.Data() if data is None else data), (kind.Model() if model is None else model)


def _image(study: Study, data: Any, base: Path, folder: Path) -> Image:
    """The image is one, has clusters enough to split, ascends in time, and declares its columns."""
    try:
        image = study.image(data, base, folder)
    except InputError as error:
        if data == type(study).Data():
            raise Skip(f"the defaults of [data] lead to no data ({error}); name a recipe") from error
        raise
    if not isinstance(image, Image):
        raise ContractError(f"image gives a {type(image).__name__}; make it with Image.of or ImageWriter")
    if image.clusters < 8:
        raise ContractError(f"the image has {image.clusters} clusters; 8 is the least that can be split and batched")
    if np.any(np.diff(image.start_us) < 0) or np.any(image.known_us < image.start_us):
        raise ContractError("clusters do not ascend in time, or labels are known before inputs")
    for feature in image.features:
        if not feature.name or not feature.unit or feature.version < 1:
            raise ContractError(f"{feature} lacks a name, a unit ('1' for pure numbers) or a version from 1 on")
    if not np.isfinite(image.rows[: image.first_row[min(image.clusters, 1000)]]).all():
        raise ContractError("the image holds values that are not finite; leave such rows out")
    return image


def _no_leakage(study: Study, model: Any, image: Image, train: range, task: Task) -> None:
    """The task is the same whatever stands outside of the training split."""
    if image.n_rows > _MOST_ROWS:  # a copy of the beginning serves
        kept = max(int(np.searchsorted(image.first_row, _MOST_ROWS)), 2)
        begin = {name: getattr(image, name)[:kept] for name in ("start_us", "known_us")}
        first_row = image.first_row[: kept + 1]
        image = dataclasses.replace(image, rows=image.rows[: first_row[-1]], first_row=first_row, **begin)
        train = range(max(image.clusters * 2 // 3, 1))
        task = study.task(model, image, train)
    first, last = image.first_row[train.start], image.first_row[train.stop]
    rows = np.array(image.rows)
    rows[:first], rows[last:] = rows[:first][::-1] * 3.0 + 1.0, rows[last:][::-1] * 3.0 + 1.0
    other = study.task(model, dataclasses.replace(image, rows=rows), train)
    for (path, one), two in zip(jax.tree_util.tree_leaves_with_path(task), jax.tree.leaves(other), strict=True):
        if not np.array_equal(np.asarray(one), np.asarray(two)):
            raise ContractError(
                f"{jax.tree_util.keystr(path).lstrip('.')} of the task changes with data outside of the training "
                "split; fit to image.rows[image.first_row[train.start] : image.first_row[train.stop]] only"
            )
