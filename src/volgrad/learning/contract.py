"""What every task must obey, as laws that run on any task and batch: the repository's own and a user's.

`check_task(task, batch)` raises at the first law that is broken; `judge` gives the verdict on each. A law that cannot
apply to a task is skipped with a reason. What a task breaks on purpose it says itself, in a class attribute:
`exempt = {"slope": "a gradient is stopped"}`.

>>> from volgrad.learning.contract import LAWS
>>> list(LAWS)[:4]
['start', 'losses', 'statistics', 'masked clusters']
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from volgrad.errors import ContractError, VolgradError
from volgrad.learning.batching.batch import Batch, Rows, take
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import LeastSquares, Task, gauss_newton
from volgrad.runtime import double_precision

__all__ = ["LAWS", "Skip", "Verdict", "Workbench", "check_task", "judge", "verdict"]

_JUNK = 1e3  # what masked rows are filled with: far out, yet finite


class Skip(Exception):  # noqa: N818 - no error: a law that does not apply says why
    """A law does not apply to a subject; the text says why."""


class Verdict(NamedTuple):
    """What came of a law: "ok", "skip" or "fail", and why where it is not "ok"."""

    law: str
    status: str
    why: str = ""


def check_task(task: Task, batch: Batch, exempt: Mapping[str, str] | None = None) -> list[Verdict]:
    """Hold a task against every law.

    Args:
        task: any.
        batch: real data for it: 3 clusters or more, not all of one row.
        exempt: law -> why it does not count here, besides the task's own `exempt`.

    Returns:
        The verdicts, none of which is "fail".

    Raises:
        ContractError: a law is broken: which, what was seen, what to do.
    """
    verdicts = judge(task, batch, exempt)
    for law, status, why in verdicts:
        if status == "fail":
            raise ContractError(f"{type(task).__name__} breaks the law '{law}': {why}")
    return verdicts


def judge(task: Task, batch: Batch, exempt: Mapping[str, str] | None = None) -> list[Verdict]:
    """The verdict on each law, in their order; after a broken start nothing else is asked."""
    excused = dict(getattr(type(task), "exempt", {})) | dict(exempt or {})
    found: list[Verdict] = []
    bench = Workbench(task, jax.tree.map(jnp.asarray, batch))
    for name, law in LAWS.items():
        found.append(verdict(name, lambda law=law: law(bench), excused))
        if name in ("start", "losses") and found[-1].status == "fail":
            break
    return found


def verdict(name: str, law: Callable[[], None], exempt: Mapping[str, str]) -> Verdict:
    """Ask one law. Whatever the subject's code raises is its failure."""
    if name in exempt:
        return Verdict(name, "skip", exempt[name])
    try:
        law()
    except Skip as skipped:
        return Verdict(name, "skip", str(skipped))
    except ContractError as broken:
        return Verdict(name, "fail", str(broken))
    except VolgradError as error:
        return Verdict(name, "fail", f"raises {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything, which is what is to be told
        reason = " ".join(str(error).split())[:300]
        return Verdict(name, "fail", f"raises {type(error).__name__}: {reason}")
    return Verdict(name, "ok")


class Workbench:
    """A task, a batch, variables somewhere around the start, and what laws ask of them."""

    def __init__(self, task: Task, batch: Batch) -> None:
        # as the trainer hands a task over: a plain number in it is an array there, of its full type
        self.task = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), task)
        self.batch = batch
        self.key = jax.random.key(7)
        self._drawn: tuple[PyTree, PyTree] | None = None
        self._random: bool | None = None

    @property
    def drawn(self) -> tuple[PyTree, PyTree]:
        """Variables a little off the start, where symmetries are broken, and the statistics to start from."""
        if self._drawn is None:
            variables, statistics = self.task.init(jax.random.key(1))
            leaves, tree = jax.tree.flatten(variables)
            random = np.random.default_rng(0)
            moved = [
                leaf + jnp.asarray(0.1 * random.standard_normal(jnp.shape(leaf)), jnp.result_type(leaf))
                for leaf in leaves
            ]
            self._drawn = jax.tree.unflatten(tree, moved), statistics
        return self._drawn

    @property
    def is_random(self) -> bool:
        """Whether losses depend on the key: dropout, noise."""
        if self._random is None:
            one, two = (self.losses(key=jax.random.key(seed))[0] for seed in (1, 2))
            self._random = bool(np.any(np.asarray(one) != np.asarray(two)))
        return self._random

    def losses(self, batch: Batch | None = None, key: Array | None = None) -> tuple[Array, PyTree]:
        """Losses and new statistics, compiled."""
        where = self.batch if batch is None else batch
        return _losses(self.task, *self.drawn, where, self.key if key is None else key)

    def slope(self, batch: Batch | None = None) -> tuple[Array, Array]:
        """Mean loss and its slope as one vector, compiled."""
        return _slope(self.task, *self.drawn, self.batch if batch is None else batch, self.key)

    def metrics(self, batch: Batch | None = None) -> dict[str, Any]:
        """What the task tells, compiled."""
        return _metrics(self.task, *self.drawn, self.batch if batch is None else batch)

    def same(self, other: Batch, base: Batch, what: str, advice: str) -> None:
        """Refuse a task to which `other` is not what `base` is: loss, slope, statistics and metrics."""
        for name, one, two in (
            ("loss and slope", self.slope(base), self.slope(other)),
            ("new statistics", self.losses(base)[1], self.losses(other)[1]),
            ("metrics", self.metrics(base), self.metrics(other)),
        ):
            gap = difference(one, two)
            if not gap <= 1.0:
                raise ContractError(f"{name} change by {gap:.3g} times what rounding may do when {what}; {advice}")


@jax.jit
def _losses(task, variables, statistics, batch, key):
    return task.loss(variables, statistics, batch, key)


@jax.jit
def _slope(task, variables, statistics, batch, key):
    flat, restore = ravel_pytree(variables)
    return jax.value_and_grad(lambda at: mean_loss(task.loss(restore(at), statistics, batch, key)[0], batch))(flat)


@jax.jit
def _metrics(task, variables, statistics, batch):
    return task.evaluate(variables, statistics, batch)


def difference(one: PyTree, two: PyTree) -> float:
    """Largest difference of two trees of one structure, in units of what rounding may do; NaN for NaN."""
    worst = 0.0
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        left, right = np.asarray(left), np.asarray(right)
        if left.size:
            # 3e-4 of the largest in float32, 1e-9 in float64 (measured: the reordered sums of a 4 x 64 network)
            allowed = (3e-4 if left.dtype == np.float32 else 1e-9) * (1.0 + np.abs(left).max())
            worst = max(worst, float(np.abs(left.astype(float) - right.astype(float)).max() / allowed))
    return worst


def _finite(tree: PyTree, what: str, advice: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and not np.all(np.isfinite(leaf)):
            raise ContractError(f"{what}{jax.tree_util.keystr(path)} is not finite; {advice}")


# ------------------------------------------------------------------------------------------------------------ the laws


def _start(bench: Workbench) -> None:
    """`init` gives the same for the same key: finite floating-point variables, at least one."""
    one, two = (bench.task.init(jax.random.key(3)) for _ in range(2))
    leaves = jax.tree.leaves(one[0])
    if not leaves:
        raise ContractError("init gives no variables; there is nothing to learn")
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ContractError(f"a variable is of type {jnp.result_type(leaf)}; keep what is not learned in the task")
    _finite(one, "init: ", "start from finite values")
    if difference(one, two) > 0.0:
        raise ContractError("init gives two different starts for one key; draw from the key alone")


def _losses_law(bench: Workbench) -> None:
    """One finite loss a cluster, and a finite slope."""
    losses = bench.losses()[0]
    if losses.shape != (bench.batch.clusters,):
        raise ContractError(
            f"loss has the shape {losses.shape}, and the batch {bench.batch.clusters} clusters; give one a cluster: "
            "the mean over its rows"
        )
    _finite(
        losses, "loss", "it must be finite where masked, too: use jnp.where on both sides of a division or logarithm"
    )
    mean, slope = bench.slope()
    _finite((mean, slope), "the slope of the mean loss", "look for a square root or a norm at 0")
    if not np.any(np.asarray(slope)):
        raise ContractError("the loss does not depend on any variable")


def _statistics(bench: Workbench) -> None:
    """Statistics keep structure, shapes and types from step to step, and stay finite."""
    before = bench.drawn[1]
    after = bench.losses()[1]
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ContractError(
            f"statistics come out as {jax.tree.structure(after)} and went in as {jax.tree.structure(before)}; return "
            "what the layers return, and what came in where nothing changes"
        )
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if jnp.shape(old) != jnp.shape(new) or jnp.result_type(old) != jnp.result_type(new):
            raise ContractError(
                f"a statistic goes in as {jnp.result_type(old)}{jnp.shape(old)} and comes out as "
                f"{jnp.result_type(new)}{jnp.shape(new)}; write its type at every operation, and keep plain numbers of "
                "the task in fields that are static"
            )
    _finite(after, "statistics", "a batch may hold one real row only")


def _masked_clusters(bench: Workbench) -> None:
    """What stands in the place of a masked cluster does not matter."""
    real = int(np.sum(bench.batch.mask))
    if real < 2:
        raise Skip("the batch has one cluster")
    last = int(np.flatnonzero(bench.batch.mask)[-1])
    mask = jnp.asarray(bench.batch.mask).at[last].set(False)
    first = jnp.asarray(np.flatnonzero(bench.batch.mask)[0])
    place = jnp.where(mask, jnp.arange(bench.batch.clusters), first)
    other = jax.tree.map(lambda leaf: leaf[place], bench.batch.rows)
    base, spoilt = (Batch(rows, mask, bench.batch.weight) for rows in (bench.batch.rows, other))
    bench.same(spoilt, base, "a masked cluster holds other rows", "use batch.mask wherever clusters meet")


def _masked_rows(bench: Workbench) -> None:
    """What stands in a masked row does not matter."""
    rows = bench.batch.rows
    if not isinstance(rows, Rows):
        raise Skip("the batch has no rows within clusters")
    if rows.mask.shape[1] < 2:
        raise Skip("clusters have one row")
    mask = jnp.asarray(rows.mask).at[:, -1].set(False)
    cleared = jnp.where(mask[..., None], rows.values, 0.0)
    spoilt = jnp.where(mask[..., None], rows.values, jnp.asarray(_JUNK, rows.values.dtype))
    base, other = (Batch(Rows(values, mask), bench.batch.mask, bench.batch.weight) for values in (cleared, spoilt))
    bench.same(other, base, "masked rows hold other values", "use batch.rows.mask wherever rows meet")


def _compiled(bench: Workbench) -> None:
    """Compiled and plain agree."""
    plain = bench.task.loss(*bench.drawn, bench.batch, bench.key)
    if not difference(plain, bench.losses()) <= 1.0:
        raise ContractError("loss differs when it is compiled; keep Python's state and chance out of it")


def _vectorised(bench: Workbench) -> None:
    """Under `vmap` each of two is as if alone."""
    doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (bench.task, *bench.drawn, bench.batch))
    found = jax.jit(jax.vmap(lambda task, *rest: task.loss(*rest, bench.key)))(*doubled)
    alone = bench.losses()
    for place in (0, 1):
        if not difference(jax.tree.map(lambda leaf, place=place: leaf[place], found), alone) <= 1.0:
            raise ContractError("loss differs under vmap; use jnp.where in place of branches on values")


def _slope_law(bench: Workbench) -> None:
    """The slope is that of differences, in float64."""
    with double_precision():
        wide = jax.tree.map(_double, (bench.task, *bench.drawn, bench.batch))
        task, variables, statistics, batch = wide
        flat, restore = ravel_pytree(variables)
        along = np.random.default_rng(9).standard_normal(flat.size)
        along /= np.linalg.norm(along)
        mean, slope = _slope(task, variables, statistics, batch, bench.key)
        if mean.dtype != jnp.float64:
            raise Skip(f"losses come as {mean.dtype} from variables in float64: differences are too coarse")
        step = 1e-5
        up, down = (
            _slope(task, restore(flat + move * along), statistics, batch, bench.key)[0] for move in (step, -step)
        )
        seen, told = float(up - down) / (2 * step), float(slope @ along)
        # a part computed in float32 inside leaves noise of 1e-7 / step in the difference
        if not abs(seen - told) <= 1e-3 * abs(seen) + 1e-4 * float(jnp.linalg.norm(slope)) + 1e-7:
            raise ContractError(
                f"the slope along a random direction is {told:.6g}, differences say {seen:.6g}; where a gradient is "
                "stopped on purpose, say so in the class: exempt = {'slope': 'why'}"
            )


def _double(leaf: Any) -> Any:
    """A leaf in float64, where it is a floating-point number."""
    return jnp.asarray(leaf, jnp.float64) if jnp.result_type(leaf) == jnp.float32 else leaf


def _parts(bench: Workbench) -> None:
    """Without batch statistics a cluster's loss is the same in any company."""
    if jax.tree.leaves(bench.drawn[1]):
        raise Skip("it keeps batch statistics: clusters may depend on each other")
    if bench.is_random:
        raise Skip("losses are random")
    real = np.flatnonzero(bench.batch.mask)
    whole = np.asarray(bench.losses()[0])
    for place in sorted({int(real[0]), int(real[len(real) // 2]), int(real[-1])}):
        alone = bench.losses(take(bench.batch, jnp.asarray([place])))[0]
        if not difference(np.asarray(alone)[0], whole[place]) <= 1.0:
            raise ContractError(
                f"cluster {place} has a loss of {whole[place]:.6g} within the batch and {float(alone[0]):.6g} alone; "
                "what is not about single clusters (a prior) belongs to each by its share"
            )


def _metrics_law(bench: Workbench) -> None:
    """Metrics are named, finite numbers."""
    metrics = bench.metrics()
    if not isinstance(metrics, dict) or not metrics:
        raise ContractError(f"evaluate gives {type(metrics).__name__}; give a dictionary of one metric or more")
    for name, value in metrics.items():
        if not isinstance(name, str) or jnp.shape(value) != () or not np.isfinite(value):
            raise ContractError(f"the metric {name!r} is {value}; metrics are single finite numbers with a name")


def _squares(bench: Workbench) -> None:
    """Residuals have the loss and the slope of `loss`, where a task has residuals."""
    if not isinstance(bench.task, LeastSquares):
        raise Skip("it has no residuals")
    variables = bench.drawn[0]
    found = jax.jit(lambda task, at, batch: task.residuals(at, batch))(bench.task, variables, bench.batch)
    weight = np.where(bench.batch.mask, bench.batch.weight, 0.0)
    total = float(weight @ np.asarray(bench.losses()[0]))
    if not difference(np.asarray(found.loss), np.asarray(total, np.asarray(found.loss).dtype)) <= 1.0:
        raise ContractError(f"residuals have the loss {float(found.loss):.8g}, loss gives {total:.8g}")
    if np.any(np.asarray(found.stiffness) < 0.0):
        raise ContractError("a stiffness is negative; it is rho'(r) / r of a loss that grows with |r|")
    model = jax.jit(gauss_newton)(bench.task, variables, bench.batch)
    slope = np.asarray(bench.slope()[1]) * float(np.where(bench.batch.mask, bench.batch.weight, 0.0).sum())
    gap = np.abs(np.asarray(model.gradient) - slope).max()
    if not gap <= 1e-4 * max(np.abs(slope).max(), 1e-6):
        raise ContractError(f"the Gauss-Newton model's gradient is off by {gap:.3g} of {np.abs(slope).max():.3g}")


#: Name -> law; each raises ContractError where it is broken, Skip where it does not apply.
LAWS: dict[str, Callable[[Workbench], None]] = {
    "start": _start,
    "losses": _losses_law,
    "statistics": _statistics,
    "masked clusters": _masked_clusters,
    "masked rows": _masked_rows,
    "compiled": _compiled,
    "vectorised": _vectorised,
    "slope": _slope_law,
    "parts": _parts,
    "metrics": _metrics_law,
    "squares": _squares,
}
