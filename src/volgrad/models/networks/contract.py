"""The laws of a layer, for any layer: the package's own and a user's."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from volgrad.errors import InputError
from volgrad.models.networks.layer import Layer

__all__ = ["LAWS", "check_layer"]


class _Arrays(NamedTuple):
    variables: PyTree
    statistics: PyTree
    x: Array
    mask: Array


class _Case(NamedTuple):
    """A layer after one batch, and a batch."""

    layer: Layer
    arrays: _Arrays
    outcomes: dict[bool, Callable[..., PyTree]]

    def run(self, training: bool, arrays: _Arrays | None = None) -> tuple[Array, PyTree]:
        """The layer on a batch, by default its own."""
        return _run(self.layer, training, self.arrays if arrays is None else arrays)

    def outcome(self, training: bool, **changed: Any) -> PyTree:
        """Outputs of real rows, statistics, and gradients in variables and real rows; compiled."""
        return self.outcomes[training](self.arrays._replace(**changed))


def check_layer(layer: Layer, features: int) -> None:
    """Test a layer of rows of so many features against every law of `LAWS`, in training and in serving.

    Raises:
        InputError: the first law that is broken, in a sentence.

    >>> from volgrad.models.networks.dense import Dense
    >>> check_layer(Dense(3, 2), features=3)
    """
    x = 2.0 * jax.random.normal(jax.random.key(1), (4, 5, features), jnp.float32) + 1.0
    mask = jnp.arange(5)[None] < jnp.array([5, 2, 0, 4])[:, None]
    arrays = _Arrays(*layer.init(jax.random.key(0)), x, mask)
    outcomes = {training: jax.jit(functools.partial(_outcome, layer, training)) for training in (True, False)}
    for name, law in LAWS.items():
        told = law(_Case(layer, arrays, outcomes))
        if told is not None:
            raise InputError(f"the layer {type(layer).__name__} breaks the law '{name}': {told}.")
        if name == _FORM:  # what it is now known to keep
            arrays = arrays._replace(statistics=_run(layer, True, arrays)[1])


def _run(layer: Layer, training: bool, arrays: _Arrays) -> tuple[Array, PyTree]:
    variables, statistics, x, mask = arrays
    return layer(variables, statistics, x, mask, training, jax.random.key(5))


def _outcome(layer: Layer, training: bool, arrays: _Arrays) -> PyTree:
    real = arrays.mask[..., None]

    def loss(variables: PyTree, x: Array) -> tuple[Array, PyTree]:
        y, after = _run(layer, training, arrays._replace(variables=variables, x=x))
        y = jnp.where(real, y, 0.0)
        return (jnp.sin(y) + y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum(), (y, after)

    slopes, told = jax.grad(loss, argnums=(0, 1), has_aux=True)(arrays.variables, arrays.x)
    return slopes[0], jnp.where(real, slopes[1], 0.0), told


def _start(case: _Case) -> str | None:
    one, other = (case.layer.init(jax.random.key(3)) for _ in range(2))
    if not _equal(one, other, 0.0):
        return "init with the same key gave two different starts"
    kinds = {leaf.dtype for leaf in jax.tree.leaves(one)} - {jnp.dtype(jnp.float32)}
    return f"init gave leaves of {', '.join(map(str, kinds))}: give float32" if kinds else None


def _shapes(case: _Case) -> str | None:
    for training in (True, False):
        y, after = jax.eval_shape(functools.partial(_run, case.layer, training), case.arrays)
        if y.shape[:2] != case.arrays.x.shape[:2] or y.ndim != 3:
            return (
                f"rows of shape {case.arrays.x.shape} became {y.shape}: keep clusters and rows, whatever the features"
            )
        if not _same_form(after, case.arrays.statistics):
            return "the statistics that come out have other shapes, types or structure than those that go in"
    return None


def _scan(case: _Case) -> str | None:
    def step(statistics: PyTree, _: Any) -> tuple[PyTree, Array]:
        y, after = case.run(True, case.arrays._replace(statistics=statistics))
        return after, y

    jax.eval_shape(lambda start: jax.lax.scan(step, start, None, 3), case.arrays.statistics)
    statistics = case.arrays.statistics
    for _ in range(3):
        found = case.outcome(True, statistics=statistics)
        statistics = found[2][1]
        if not _finite(found):
            return "after a few batches a value is not finite"
    return None


def _masked(case: _Case) -> str | None:
    x = case.arrays.x
    spoilt = jnp.where(
        case.arrays.mask[..., None], x, jnp.full_like(x, 1e6) * jnp.arange(1, 6, dtype=x.dtype)[None, :, None]
    )
    for training in (True, False):
        if not _equal(case.outcome(training), case.outcome(training, x=spoilt), 1e-6):
            return f"what masked rows hold changed outputs, statistics or gradients ({_mode(training)})"
    return None


def _clusters_alone(case: _Case) -> str | None:
    x, first = case.arrays.x, jnp.zeros_like(case.arrays.mask).at[0].set(case.arrays.mask[0])
    alone = case.outcome(False, x=jnp.where(first[..., None], x, 0.0), mask=first)
    if not _equal(alone[2][0][0], case.outcome(False)[2][0][0], 1e-5):
        return "what a cluster gets in serving depends on the other clusters of its batch"
    return None


def _few_rows(case: _Case) -> str | None:
    mask = case.arrays.mask
    for count in (0, 1):
        few = jnp.arange(mask.size).reshape(mask.shape) < count
        for training in (True, False):
            if not _finite(case.outcome(training, mask=few)):
                return f"a batch with {count} real rows gave a value that is not finite ({_mode(training)})"
    return None


def _compiled(case: _Case) -> str | None:
    for training in (True, False):
        y, after = case.run(training)
        y = jnp.where(case.arrays.mask[..., None], y, 0.0)
        if not _equal((y, after), case.outcome(training)[2], 1e-5):
            return f"compiled it gives something else ({_mode(training)})"
    return None


def _mapped(case: _Case) -> str | None:
    @jax.jit
    @jax.vmap
    def both(arrays: _Arrays) -> PyTree:
        made = (case.run(training, arrays) for training in (True, False))
        return [(jnp.where(arrays.mask[..., None], y, 0.0), after) for y, after in made]

    found = both(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), case.arrays))
    alone = [case.outcome(training)[2] for training in (True, False)]
    if not _equal(jax.tree.map(lambda leaf: leaf[1], found), alone, 1e-5):
        return "under vmap it gives something else"
    return None


def _precision(case: _Case) -> str | None:
    for kind in (jnp.float32, jnp.float64) if _has_doubles() else (jnp.float32,):
        cast = _cast(case.arrays, kind)
        for training in (True, False):
            made = jax.eval_shape(functools.partial(_run, case.layer, training), cast)
            found = {leaf.dtype for leaf in jax.tree.leaves(made)} - {jnp.dtype(kind)}
            if found:
                return f"given {jnp.dtype(kind)}, it gives {', '.join(map(str, found))} ({_mode(training)})"
    return None


def _slope(case: _Case) -> str | None:
    if not _has_doubles():  # differences need them
        return None
    arrays = _cast(case.arrays, jnp.float64)
    along = jax.random.normal(jax.random.key(2), arrays.x.shape, jnp.float64)

    @jax.jit
    def both(x: Array) -> tuple[Array, Array]:
        def served(x: Array) -> Array:
            return jnp.where(arrays.mask[..., None], case.run(False, arrays._replace(x=x))[0], 0.0)

        return jax.jvp(served, (x,), (along,))

    h = 1e-6
    up, down = (both(arrays.x + move * along)[0] for move in (h, -h))
    if not _equal(both(arrays.x)[1], (up - down) / (2.0 * h), 1e-5):
        return "the derivative in its rows is not that of differences (serving)"
    return None


def _has_doubles() -> bool:
    return jnp.zeros((), float).dtype == jnp.float64


def _cast(arrays: _Arrays, kind: Any) -> _Arrays:
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(kind), arrays)


def _mode(training: bool) -> str:
    return "training" if training else "serving"


def _same_form(one: PyTree, other: PyTree) -> bool:
    def form(tree: PyTree) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]

    return form(one) == form(other)


def _equal(one: PyTree, other: PyTree, tolerance: float) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def _finite(tree: PyTree) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


_FORM = "rows keep their places, statistics their form"
#: Each law by its name: what is wrong with a layer, or None.
LAWS: dict[str, Callable[[_Case], str | None]] = {
    "a start depends on its key only": _start,
    _FORM: _shapes,
    "a scan carries the statistics": _scan,
    "masked rows do not matter": _masked,
    "a cluster is served by itself": _clusters_alone,
    "one row or none is a batch": _few_rows,
    "compiled and plain agree": _compiled,
    "many at once are each alone": _mapped,
    "precision is that of what comes in": _precision,
    "derivatives are those of the function": _slope,
}
