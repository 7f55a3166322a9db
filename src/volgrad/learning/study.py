"""A study: a task with its data, which is what `volgrad train` runs.

A study says three things: which keys its tables `[data]` and `[model]` take, how its training image is made, and which
task is learned from it. Everything else (order, batch size, schedule, guard, checkpoints, metrics) is the same for all.
`[task] use = "NAME"` picks one that comes with volgrad, `use = "file.py:Name"` one of the user's own
(docs/extending.md).
"""

import abc
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from volgrad.data.image import Image
from volgrad.errors import InputError
from volgrad.learning.training.task import Task
from volgrad.market.duration import parse_duration

__all__ = ["Study", "StudyData", "StudyModel"]


class StudyData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of `[data]` that every study has.

    Attributes:
        validation: share of the clusters, the latest before the test, on which progress is judged.
        test: share of the clusters, the latest of all, which no training run looks at.
        purge: least time between the last label that training knows and the first validation cluster, such as "1h";
            none where it is empty.
        embargo: time after a split in which clusters are left out; none where it is empty.
    """

    validation: float = 0.15
    test: float = 0.15
    purge: str = ""
    embargo: str = ""

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                raise InputError(f"data.{name} = {share}: must be a share from 0 to below 1")
        if self.validation + self.test >= 1.0:
            raise InputError(
                f"data.validation = {self.validation} and data.test = {self.test} leave nothing to train on: "
                "lower one of them"
            )

    @property
    def purge_us(self) -> int:
        """`purge` in microseconds."""
        return parse_duration(self.purge, "data.purge") if self.purge else 0

    @property
    def embargo_us(self) -> int:
        """`embargo` in microseconds."""
        return parse_duration(self.embargo, "data.embargo") if self.embargo else 0


class StudyModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of `[model]`; a study adds its own."""


class Study(abc.ABC):
    """A task with its data. Subclasses are final, hold nothing, and are made without arguments.

    Attributes:
        name: as users write it in `[task] use`.
        Data: keys of `[data]`, a subclass of `StudyData` with a default for each.
        Model: keys of `[model]`.
        clusters: clusters a batch where the recipe names neither size nor clusters.
        column: of the image, by which the effective sample size is told; the last one where empty.
    """

    name: ClassVar[str]
    Data: ClassVar[type[StudyData]]
    Model: ClassVar[type[StudyModel]]
    clusters: ClassVar[int]
    column: ClassVar[str] = ""

    @abc.abstractmethod
    def image(self, data: Any, base: Path, folder: Path) -> Image:
        """The training image; its clusters ascend in time.

        Args:
            data: the recipe's `[data]`, an instance of `Data`.
            base: folder that relative paths in it start from (the recipe's).
            folder: where an image may be kept; what is there and was made from the same is used again.
        """

    @abc.abstractmethod
    def task(self, model: Any, image: Image, train: range) -> Task:
        """The task; whatever it takes from the data (scaling) it takes from the clusters in `train` alone.

        Args:
            model: the recipe's `[model]`, an instance of `Model`.
            image: what `image` gave.
            train: clusters of the training split.
        """
