"""The tables of a recipe that are the same for every task, with their keys, units, defaults and ranges."""

import math
from typing import Literal

import msgspec

from volgrad.errors import InputError
from volgrad.learning.batching.size_choice import Bounds, Objective
from volgrad.learning.training.averaging import Averaging
from volgrad.learning.training.batch_rules import Hyperparameters
from volgrad.learning.training.first_order import named
from volgrad.learning.training.guard import GuardRule
from volgrad.learning.training.schedules import PlateauRule, Schedule, schedule

__all__ = [
    "BatchChange",
    "BatchTable",
    "BudgetTable",
    "CheckpointTable",
    "EvaluateTable",
    "GuardTable",
    "OptimizerTable",
    "ScheduleTable",
    "TaskTable",
]


class TaskTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[task]`.

    Attributes:
        use: name of a study that comes with volgrad, or "file.py:Name" for one of the user's own.
    """

    use: str

    def __post_init__(self) -> None:
        _require(bool(self.use.strip()), "task.use", self.use, "the name of a study, or file.py:Name")


class OptimizerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[optimizer]`.

    Attributes:
        name: the rule of descent.
        learning_rate: the schedule's top, at batches of `reference_batch` clusters; this and the next four are by
            default what is customary for the rule.
        beta1: decay of the mean gradient, a step; of sgd the momentum.
        beta2: decay of the mean square, a step.
        eps: added to the root of the mean square.
        weight_decay: the weights shrink by this times the learning rate, a step.
        clip_norm: longest gradient, in the norm of all variables together; 0 for no limit.
        average: what serves: the last weights ("none"), their exponential mean ("ema") or their plain one ("mean").
        average_half_life: samples in which "ema" forgets half, or a share of the budget where below 1.
        average_start: samples before which nothing is averaged, or a share of the budget where below 1.
        scale_with_batch: let learning rate and betas move with the size of the batch.
        reference_batch: clusters a batch for which they are meant; by default the run's first size, and with batch.size
            "auto" the size that the study says.
        noise_scale: clusters a batch beyond which the learning rate rises no more; by default not known.
    """

    name: Literal["adam", "adamw", "lion", "schedule-free", "sgd"] = "adam"
    learning_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None
    clip_norm: float = 1.0
    average: Literal["none", "ema", "mean"] = "none"
    average_half_life: float = 0.02
    average_start: float = 0.0
    scale_with_batch: bool = True
    reference_batch: int | None = None
    noise_scale: float | None = None

    def __post_init__(self) -> None:
        for key, usual in named(self.name).hyper._asdict().items():
            if getattr(self, key) is None:  # filled in, so that a recipe in full says what was used
                msgspec.structs.force_setattr(self, key, float(usual))
        for key in ("learning_rate", "eps", "average_half_life"):
            _require(getattr(self, key) > 0, f"optimizer.{key}", getattr(self, key), "above 0")
        for key in ("beta1", "beta2"):
            _require(0 <= getattr(self, key) < 1, f"optimizer.{key}", getattr(self, key), "from 0 to below 1")
        for key in ("weight_decay", "clip_norm", "average_start"):
            _require(getattr(self, key) >= 0, f"optimizer.{key}", getattr(self, key), "0 or more")
        for key in ("reference_batch", "noise_scale"):
            _at_least_one(f"optimizer.{key}", getattr(self, key))
        if self.name == "schedule-free" and self.average != "none":
            raise InputError(f"optimizer.average = {self.average!r}: schedule-free averages by itself, leave it out")

    @property
    def hyper(self) -> dict[str, float]:
        """The five numbers of the rule, as `named` takes them."""
        return {key: getattr(self, key) for key in Hyperparameters._fields}

    def averaging(self, budget: int) -> Averaging | None:
        """The mean that serves, in a run of `budget` samples.

        >>> OptimizerTable(average="ema").averaging(10_000)
        Averaging(half_life=200.0)
        """
        if self.average == "none":
            return None
        half_life = float(_of_budget(self.average_half_life, budget)) if self.average == "ema" else None
        return Averaging(half_life, _of_budget(self.average_start, budget))


class ScheduleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[schedule]`: the learning rate over the run, clocked in samples.

    Attributes:
        name: its shape; by default warm-up-cosine, and schedule-free for the optimizer of that name.
        warm_up: samples of the rise, or a share of the budget where below 1; by default the shape's own.
        decay: samples of the fall that ends warm-up-stable-decay, or a share of the budget where below 1.
        start: learning rate at the first sample, as a share of its top; by default the shape's own.
        end: learning rate at the end, as a share of its top; by default the shape's own.
        factor: of plateau: what the learning rate is multiplied by at a cut.
        patience: of plateau: evaluations without a better loss before a cut.
        least: of plateau: share of the top below which there is no cut.
    """

    name: Literal["constant", "warm-up-cosine", "one-cycle", "warm-up-stable-decay", "plateau", "schedule-free"] = (
        "warm-up-cosine"
    )
    warm_up: float | None = None
    decay: float | None = None
    start: float | None = None
    end: float | None = None
    factor: float = 0.5
    patience: int = 5
    least: float = 1e-3

    def __post_init__(self) -> None:
        for key in ("warm_up", "decay"):
            value = getattr(self, key)
            _require(value is None or value >= 0, f"schedule.{key}", value, "0 or more")
        for key in ("start", "end", "least"):
            value = getattr(self, key)
            _require(value is None or 0 <= value <= 1, f"schedule.{key}", value, "a share from 0 to 1")
        _require(0 < self.factor < 1, "schedule.factor", self.factor, "a share above 0 and below 1")
        _at_least_one("schedule.patience", self.patience)

    def over(self, budget: int) -> Schedule:
        """The schedule of a run of `budget` samples.

        Raises:
            UnknownOptionError: a key that this shape does not have.
            InputError: lengths that do not fit into the budget.

        >>> ScheduleTable(warm_up=0.1).over(1000).describe()
        'rises to its top over 100 samples, then falls as a cosine to 0 of it at 1,000'
        """
        keys = ("warm_up", "decay", "start", "end")
        return schedule(
            self.name, budget, **{key: getattr(self, key) for key in keys if getattr(self, key) is not None}
        )

    @property
    def plateau(self) -> PlateauRule:
        """When a plateau's rate is cut."""
        return PlateauRule(factor=self.factor, patience=self.patience, least=self.least)


class BatchChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `batch.then`: from `samples` on, batches have another size.

    Attributes:
        samples: clusters seen when it begins.
        size: rows a batch.
        clusters: clusters a batch; one of the two.
    """

    samples: int
    size: int | None = None
    clusters: int | None = None

    def __post_init__(self) -> None:
        _at_least_one("batch.then: samples", self.samples)
        _check_size("batch.then: ", self.size, self.clusters)
        if self.size is None and self.clusters is None:
            raise InputError(f"batch.then at {self.samples} samples names no size: add clusters = N, or size = N rows")


class BatchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[batch]`.

    Attributes:
        size: rows a batch, or "auto": measured, chosen and adapted.
        clusters: clusters a batch; at most one of the two; by default what the study says.
        rows_per_cluster: rows drawn of each cluster and epoch, or with size "auto" also "auto"; by default all.
        accumulate: parts, of whole clusters, in which a batch's gradient is worked out, for want of memory.
        then: changes of size later in the run, by ascending samples.
        least: clusters a batch that "auto" does not go below; by default 1.
        most: clusters a batch that "auto" does not go beyond; by default all.
        objective: what "auto" spares: time to the target, samples, or memory; by default time.
    """

    size: int | Literal["auto"] | None = None
    clusters: int | None = None
    rows_per_cluster: int | Literal["auto"] | None = None
    accumulate: int = 1
    then: tuple[BatchChange, ...] = ()
    least: int | None = None
    most: int | None = None
    objective: Objective | None = None

    @property
    def auto(self) -> bool:
        """Whether the size is chosen by measurement."""
        return self.size == "auto"

    @property
    def bounds(self) -> Bounds:
        """Sizes that "auto" may take."""
        return Bounds(self.least or 1, self.most)

    def __post_init__(self) -> None:
        self._check_auto()
        _check_size("batch.", None if self.size == "auto" else self.size, self.clusters)
        _at_least_one("batch.rows_per_cluster", None if self.rows_per_cluster == "auto" else self.rows_per_cluster)
        _at_least_one("batch.accumulate", self.accumulate)
        starts = [change.samples for change in self.then]
        if starts != sorted(set(starts)):
            raise InputError(f"batch.then begins at {starts} samples: they must ascend")

    def _check_auto(self) -> None:
        if not self.auto:
            only = [key for key in ("least", "most", "objective") if getattr(self, key) is not None]
            only += ["rows_per_cluster"] if self.rows_per_cluster == "auto" else []
            if only:
                found = getattr(self, only[0])
                raise InputError(
                    f'batch.{only[0]} = {found!r} says something only with size = "auto": drop it, or add that'
                )
            return
        fixed = [key for key in ("clusters", "then") if getattr(self, key)]
        if self.accumulate != 1:
            fixed.append("accumulate")
        if fixed:
            raise InputError(
                f'batch.size = "auto" finds the size, its changes and what fits into memory: drop batch.{fixed[0]}; '
                "batch.least and batch.most bound the size, in clusters"
            )
        for key in ("least", "most"):
            _at_least_one(f"batch.{key}", getattr(self, key))
        if self.most is not None and (self.least or 1) > self.most:
            raise InputError(f"batch.least = {self.least} is more than batch.most = {self.most}: swap them")

    def rungs(self, rows: float, default: int) -> list[tuple[int, int]]:
        """Each batch size as (samples seen when it begins, clusters a batch).

        Args:
            rows: rows of a cluster in a batch, on average, for sizes that are given in rows.
            default: clusters a batch where neither key is there, or size is "auto".

        >>> BatchTable(size=512, then=(BatchChange(samples=1000, clusters=16),)).rungs(rows=64, default=32)
        [(0, 8), (1000, 16)]
        """
        first = default if self.size in (None, "auto") and self.clusters is None else _clusters(self, rows)
        return [(0, first), *((change.samples, _clusters(change, rows)) for change in self.then)]


class BudgetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[budget]`: how long the run is; one of the three.

    Attributes:
        samples: clusters to see.
        epochs: passes over the training split.
        seconds: of training, compilation not counted.
    """

    samples: int | None = None
    epochs: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [key for key in self.__struct_fields__ if getattr(self, key) is not None]
        if len(given) != 1:
            found = "none of them is given" if not given else f"{' and '.join(given)} are given"
            raise InputError(f"[budget] takes one of samples, epochs and seconds: {found}")
        _require(getattr(self, given[0]) > 0, f"budget.{given[0]}", getattr(self, given[0]), "above 0")


class CheckpointTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[checkpoint]`; no key of it changes what is learned.

    Attributes:
        every_seconds: between two checkpoints.
        keep: how many are kept.
    """

    every_seconds: float = 30.0
    keep: int = 3

    def __post_init__(self) -> None:
        _require(self.every_seconds >= 0, "checkpoint.every_seconds", self.every_seconds, "0 or more")
        _at_least_one("checkpoint.keep", self.keep)


class GuardTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[guard]`: what happens when the loss runs away, or no longer falls.

    Attributes:
        rollbacks: returns to the last good state before the run gives up.
        multiple: of the usual loss that a runaway reaches.
        width: standard deviations above the usual loss that a runaway reaches too.
        factor: what the step is multiplied by at each return and each remedy.
        patience: steps without progress that count as a stall; by default stalls are not looked for.
        tolerance: share of the loss that counts as progress.
        remedies: for stalls, before the run ends.
    """

    rollbacks: int = 5
    multiple: float = 3.0
    width: float = 8.0
    factor: float = 1 / 3
    patience: int | None = None
    tolerance: float = 1e-3
    remedies: int = 3

    def __post_init__(self) -> None:
        _require(self.multiple > 1, "guard.multiple", self.multiple, "above 1")
        _require(0 < self.factor < 1, "guard.factor", self.factor, "above 0 and below 1")
        _at_least_one("guard.patience", self.patience)
        for key in ("rollbacks", "remedies", "width", "tolerance"):
            _require(getattr(self, key) >= 0, f"guard.{key}", getattr(self, key), "0 or more")

    @property
    def rule(self) -> GuardRule:
        """The guard's rule."""
        return GuardRule(**msgspec.structs.asdict(self))


class EvaluateTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[evaluate]`: when the validation split is looked at.

    Attributes:
        every: samples between two evaluations, or a share of the budget where below 1.
        patience: evaluations without a better loss after which the run ends; 0 for never.
    """

    every: float = 0.02
    patience: int = 0

    def __post_init__(self) -> None:
        _require(self.every > 0, "evaluate.every", self.every, "above 0")
        _require(self.patience >= 0, "evaluate.patience", self.patience, "0 or more")

    def samples(self, budget: int) -> int:
        """Samples between two evaluations, in a run of `budget` samples; 1 or more.

        >>> EvaluateTable().samples(10_000), EvaluateTable(every=64.0).samples(10_000)
        (200, 64)
        """
        return max(1, _of_budget(self.every, budget))


def _require(holds: bool, key: str, value: object, wanted: str) -> None:
    if not holds:
        raise InputError(f"{key} = {value!r}: must be {wanted}")


def _at_least_one(key: str, value: float | None) -> None:
    _require(value is None or value >= 1, key, value, "1 or more")


def _check_size(where: str, size: int | None, clusters: int | None) -> None:
    _at_least_one(f"{where}size", size)
    _at_least_one(f"{where}clusters", clusters)
    if size is not None and clusters is not None:
        raise InputError(
            f"{where}size = {size} and {where}clusters = {clusters} both say how large a batch is: drop one"
        )


def _clusters(sized: BatchTable | BatchChange, rows: float) -> int:
    return sized.clusters if sized.clusters is not None else max(1, int(int(sized.size or 0) / rows))


def _of_budget(value: float, budget: int) -> int:
    """A share of the budget where below 1, else samples."""
    return math.ceil(value * budget) if value < 1 else math.ceil(value)
