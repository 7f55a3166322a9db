"""The front door of batch sizes: for a task and its data, or for a user's own training step."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree, Shaped

from volgrad.data.image import Image
from volgrad.errors import InputError, UnknownOptionError, WorkError
from volgrad.learning.batch_size.chooser import Effort, Wish, choose_size
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.own_calls import RowData
from volgrad.learning.batch_size.own_code import OwnCode, choose_own
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batch_size.timing import out_of_memory
from volgrad.learning.batching.batch import Batch
from volgrad.learning.batching.indexed import indexed
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.size_choice import OBJECTIVES, Bounds, Objective, Work
from volgrad.learning.training.batch_rules import RULES
from volgrad.learning.training.first_order import FirstOrder, named
from volgrad.learning.training.loop import begin
from volgrad.learning.training.task import Task
from volgrad.runtime import double_precision

__all__ = ["How", "choose_batch_size"]

_EPOCHS = 20  # of a run of which nothing else is said (assumption)
_REFERENCE = 32  # clusters that a learning rate is meant for of which nothing else is said (assumption)
_WAYS = "give task and data, or step, grad, params and data"


class How(TypedDict, total=False):
    """What may be said beside what is learned. Sizes are in clusters: rows, unless rows come in clusters.

    objective: "time" (default), "samples" where data are scarce, or "memory".
    least, most: sizes that are allowed; by default any.
    seconds: that probing may take, compiling apart; by default 2 % of the predicted run, 1 s to 60 s.
    budget: samples of the run that the size is for; by default 20 epochs.
    reference: size that the learning rate is meant for; by default 32, or all data where they are fewer.
    optimizer: of a task, such as `first_order.named("sgd", learning_rate=0.1)`; by default Adam at its customary rate.
        Its rate moves with the size. A step of your own has its own.
    seed: of the order of the data, and of a task's first variables; by default 0.
    """

    objective: Objective
    least: int
    most: int | None
    seconds: float | None
    budget: int
    reference: int
    optimizer: FirstOrder
    seed: int


def choose_batch_size(
    task: Task | None = None,
    data: Image | Batch | PyTree = None,
    *,
    step: Callable[[PyTree, PyTree], Any] | None = None,
    grad: Callable[[PyTree, PyTree], PyTree] | None = None,
    params: PyTree = None,
    clusters: Sequence[Any] | Shaped[np.ndarray, " rows"] | None = None,
    **how: Unpack[How],
) -> Decision:
    """The batch size that gets there first on this machine: steps timed, gradient noise measured, reasons given.

    Two ways of use:

    `choose_batch_size(task, data)` for a task of volgrad, or one of yours on its contract (docs/extending.md). Probes
    run in float64 mode, as `volgrad train` does; the best sizes are tried against each other on paired branches.

    `choose_batch_size(step=step, grad=grad, params=params, data=data)` for any training step. Functions that are not
    jitted are jitted, but for code that answers with numpy's arrays. JAX's settings stay as they are, params and data
    untouched. A batch is `data` with some of its rows. Where `step` answers with new params, alone or as first of a
    tuple, noise is measured along a pilot run, else at `params` only. Nothing tells how good params are, so there are
    no branches.

    Args:
        task: what is learned.
        data: an `Image`, or a `Batch` in memory, for a task; else a pytree of arrays whose first axis is the rows'.
        step: `(params, batch)`, is timed.
        grad: `(params, batch)` to the gradient, any pytree, of the *mean* loss over the rows of the batch, gives the
            noise.
        params: what both take first: variables, or a state with the optimiser's beside them. Not None.
        clusters: one id a row of `data`, where rows are alike within groups (quotes of a snapshot): batches are then of
            whole clusters, and `Decision.chosen.clusters` and all sizes count those. Shape: (rows,).
        how: see `How`.

    Returns:
        The size, why, and what every other would cost: `decision.chosen.rows`, or `decision["chosen"]["rows"]`.

    Raises:
        InputError: arguments that are missing or do not go together; data or gradients that cannot be used; no allowed
            size fits into memory.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> random = np.random.default_rng(0)
    >>> x = random.standard_normal((400, 3)).astype(np.float32)
    >>> y = x @ np.float32([1.0, -2.0, 0.5]) + random.standard_normal(400).astype(np.float32)
    >>> grad = jax.grad(lambda w, batch: ((batch[0] @ w - batch[1]) ** 2).mean())
    >>> def step(w, batch):
    ...     return w - 0.05 * grad(w, batch)
    >>> own = dict(step=step, grad=grad, params=jnp.zeros(3), data=(x, y))
    >>> decision = choose_batch_size(**own, least=8, most=32, seconds=0.1)
    >>> decision.chosen.rows in (8, 16, 32), [rung.rows for rung in decision.ladder]
    (True, [8, 16, 32])
    """
    told = _Told.of(dict(how))
    own = {"step": step, "grad": grad, "params": params}
    if task is not None:
        named_too = [name for name, given in {**own, "clusters": clusters}.items() if given is not None]
        if named_too:
            raise InputError(f"choose_batch_size: task and {' and '.join(named_too)} do not go together: {_WAYS}")
        return _of_task(task, data, told)
    if step is None or grad is None or params is None or data is None:
        missing = [name for name, given in {**own, "data": data}.items() if given is None]
        raise InputError(f"choose_batch_size: neither task nor {' and '.join(missing)} given: {_WAYS}")
    for name, function in (("step", step), ("grad", grad)):
        if not callable(function):
            raise InputError(f"choose_batch_size: {name} is {type(function).__name__}: give a function (params, batch)")
    if told.optimizer is not None:
        raise InputError("choose_batch_size: optimizer goes with a task: a step of your own has its own")
    rows = RowData(data, clusters, told.seed)
    effort = None if told.seconds is None else Effort(0.5 * told.seconds, 0.5 * told.seconds, 0.0)
    try:
        return choose_own(OwnCode(step, grad, params, rows, told.work(rows.clusters)), told.wish, effort)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _no_memory() from error


def _no_memory() -> WorkError:
    return WorkError(
        "choose_batch_size: out of memory while gradients were measured or sizes compared: bound the size by most, or "
        "use a smaller model"
    )


class _Told(NamedTuple):
    """`How`, checked."""

    wish: Wish
    seconds: float | None
    budget: int | None
    reference: int | None
    optimizer: FirstOrder | None
    seed: int

    @classmethod
    def of(cls, how: dict[str, Any]) -> "_Told":
        for name in how:
            if name not in How.__annotations__:
                raise UnknownOptionError.of("argument of choose_batch_size", name, How.__annotations__)
        objective = how.get("objective", "time")
        if objective not in OBJECTIVES:
            raise UnknownOptionError.of("objective", objective, OBJECTIVES)
        least, most = _count("least", how.get("least")) or 1, _count("most", how.get("most"))
        if most is not None and most < least:
            raise InputError(f"choose_batch_size: least is {least} and most {most}: no size is between them")
        seconds = how.get("seconds")
        if seconds is not None and not 0.0 < seconds < math.inf:
            raise InputError(
                f"choose_batch_size: seconds is {seconds}: give the positive seconds that probing may take"
            )
        optimizer = how.get("optimizer")
        if not isinstance(optimizer, FirstOrder | None):
            kind = type(optimizer).__name__
            raise InputError(
                f"choose_batch_size: optimizer is {kind}: give a FirstOrder (first_order.named, from_optax)"
            )
        budget, reference = (_count(name, how.get(name)) for name in ("budget", "reference"))
        wish = Wish(objective, Bounds(least, most))
        return cls(wish, seconds, budget, reference, optimizer, int(how.get("seed", 0)))

    def work(self, clusters: int) -> Work:
        """Of a run on so many clusters."""
        if self.wish.bounds.least > clusters:
            raise InputError(
                f"choose_batch_size: least is {self.wish.bounds.least:,}, but there are {clusters:,} in data"
            )
        return Work(self.budget or _EPOCHS * clusters, self.reference or min(_REFERENCE, clusters))


def _count(name: str, given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise InputError(f"choose_batch_size: {name} is {given!r}: give a whole number of at least 1")
    return int(given)


@double_precision()
def _of_task(task: Any, data: Any, told: _Told) -> Decision:
    if not isinstance(task, Task):
        raise InputError(f"choose_batch_size: task is {type(task).__name__}, no Task: {_WAYS}")
    if isinstance(data, Batch):
        task, data = indexed(task, jax.tree.map(jnp.asarray, data))
    if not isinstance(data, Image):
        raise InputError(f"choose_batch_size: data of a task is {type(data).__name__}: give an Image or a Batch")
    work = told.work(data.clusters)
    optimizer = told.optimizer or named("adam")
    moves = optimizer.name in RULES

    def optimizers(clusters: int, noise: float | None) -> FirstOrder:
        return optimizer.at(clusters, work.reference, noise) if moves else optimizer

    loader = Loader(data, range(data.clusters), told.seed)
    try:
        state = begin(task, optimizers(work.reference, None), jax.random.key(told.seed))
        subject = Subject.of(task, loader, optimizers, state, work)
        seconds = told.seconds
        effort = None if seconds is None else Effort(0.2 * seconds, 0.2 * seconds, 0.6 * seconds)
        decision = choose_size(subject, told.wish, effort)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _no_memory() from error
    finally:
        loader.close()
    if moves:
        return decision
    note = "no rule says how the learning rate of this optimizer follows the size: it was the same for all sizes"
    return dataclasses.replace(decision, notes=(*decision.notes, note))
