"""A user's own functions and rows: drawn, compiled where JAX can, called without touching what is the user's."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int64, PyTree, Shaped

from volgrad.errors import EmptyInputError, InputError
from volgrad.learning.batch_size.timing import program_bytes
from volgrad.learning.batching.sampler import Sampler

__all__ = ["OwnFunction", "Program", "RowData", "next_params"]

#: What code raises that JAX cannot trace, its own errors included, which derive from these.
_UNTRACEABLE = (TypeError, ValueError, IndexError, AttributeError)


class RowData:
    """Rows of a pytree of arrays, drawn in *clusters*: those of equal id, or single rows where there are no ids.

    The order is that of `volgrad.Sampler`: the same at every batch size, and no random state is used.

    Attributes:
        clusters: that there are.
        counts: rows of each. Shape: (clusters,).
        mean_rows: of a cluster.

    >>> rows = RowData((np.arange(6), np.arange(6)), clusters=[7, 7, 7, 8, 9, 9])
    >>> rows.clusters, rows.mean_rows, rows.batch(0, 2)[0].shape
    (3, 2.0, (4,))
    """

    def __init__(
        self, data: PyTree, clusters: Sequence[Any] | Shaped[np.ndarray, " rows"] | None = None, seed: int = 0
    ) -> None:
        """Nothing is copied.

        Raises:
            InputError: no rows; leaves that are no arrays or of unequal rows; not one id a row.
        """
        self._data, self._seed = data, seed
        self.rows = _rows_of(data)
        if clusters is None:
            self.counts, self._sorted = np.ones(self.rows, np.int64), None
        else:
            ids = np.asarray(clusters)
            if ids.shape != (self.rows,):
                raise InputError(f"clusters of shape {ids.shape}: give one id for each of the {self.rows:,} rows")
            _, inverse, self.counts = np.unique(ids, return_inverse=True, return_counts=True)
            self._sorted = np.argsort(inverse, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        self.clusters = len(self.counts)
        self.mean_rows = self.rows / self.clusters
        self._order = Sampler(self.clusters, seed)

    @property
    def grouped(self) -> bool:
        """Whether rows came with ids."""
        return self._sorted is not None

    @property
    def equal(self) -> bool:
        """Whether all clusters have as many rows."""
        return bool((self.counts == self.counts[0]).all())

    def rows_in(self, clusters: int) -> int:
        """Rows of a batch of so many clusters, on average."""
        return max(1, round(clusters * self.mean_rows))

    def drawn(self, position: int, count: int) -> list[Int64[np.ndarray, " rows"]]:
        """Rows of each of the clusters at these positions of the order, those of a cluster in random order."""
        found = self._order.indices(position, count)
        return list(found[:, None]) if self._sorted is None else [self._members(int(cluster)) for cluster in found]

    def index(self, position: int, clusters: int) -> Int64[np.ndarray, " taken"]:
        """The rows of a batch of the clusters from `position` of the order on: `rows_in` of them, whatever these have.

        One size has one shape so that it compiles once: what is too much is cut, what is missing is repeated.
        """
        if self._sorted is None:
            return self._order.indices(position, clusters)
        return np.resize(np.concatenate(self.drawn(position, clusters)), self.rows_in(clusters))

    def batch(self, position: int, clusters: int) -> PyTree:
        """The rows of `index`."""
        return self.take(self.index(position, clusters))

    def take(self, index: Int64[np.ndarray, " taken"]) -> PyTree:
        """These rows, copied; leaves stay of their kind."""
        return jax.tree.map(
            lambda leaf: _gathered(leaf, index) if isinstance(leaf, jax.Array) else leaf[index], self._data
        )

    def _members(self, cluster: int) -> Int64[np.ndarray, " rows"]:
        assert self._sorted is not None
        own = self._sorted[self._first[cluster] : self._first[cluster + 1]]
        return own[np.random.default_rng([abs(self._seed), cluster]).permutation(len(own))]


class Program(NamedTuple):
    """A function ready for one shape of batch.

    call: `(params, batch) -> anything`.
    bytes: that it needs by the compiler's account; 0 where it is not compiled.
    """

    call: Callable[[PyTree, PyTree], Any]
    bytes: int


class OwnFunction:
    """`(params, batch) -> anything`, compiled for every shape of batch where JAX can trace it.

    Code that answers with numpy's arrays is no JAX code, and is called as it is.
    """

    def __init__(self, function: Callable[[PyTree, PyTree], Any]) -> None:
        self._function = function
        self._jitted = hasattr(function, "lower")  # by jax.jit, eqx.filter_jit or the like
        self._traced: bool | None = True if self._jitted else None

    @property
    def compiled(self) -> bool:
        """Whether JAX compiles it; known after the first program."""
        return bool(self._traced)

    def program(self, params: PyTree, batch: PyTree) -> Program:
        """The program for batches of this shape. What the function itself raises is passed on."""
        if self._traced is None:  # where nothing given tells, the answer does
            self._traced = _of_jax((params, batch)) or _of_jax(self._function(self.fresh(params), batch))
        if not self._traced:
            return Program(self._function, 0)
        jitted: Any = self._function if self._jitted else jax.jit(self._function)
        try:
            lowered = jitted.lower(self.fresh(params), batch)
        except _UNTRACEABLE:
            if self._jitted:
                raise
            self._traced = False
            return Program(self._function, 0)
        compiled = lowered.compile()
        inner = getattr(compiled, "compiled", compiled)  # equinox wraps it
        return Program(compiled, program_bytes(inner) if hasattr(inner, "memory_analysis") else 0)

    def fresh(self, params: PyTree) -> PyTree:
        """A copy, for a function that takes its arguments apart: by donation, or in place."""
        return jax.tree.map(_copied if self._traced else copy.deepcopy, params)


@jax.jit
def _gathered(leaf: Array, index: Int[Array, " taken"]) -> Array:
    """Compiled: indexing as it is takes a millisecond a call (measured)."""
    return leaf.at[index].get(mode="promise_in_bounds")


def next_params(answer: Any, params: PyTree) -> PyTree | None:
    """The new params that a step answered with: its whole answer, or the first part; None where neither has their form.

    >>> next_params((np.ones(2), 0.5), np.zeros(2)).tolist(), next_params(0.5, np.zeros(2))
    ([1.0, 1.0], None)
    """
    candidates = [answer, *(answer[:1] if isinstance(answer, tuple) else ())]
    form = _form(params)
    for candidate in candidates:
        if _form(candidate) == form:
            return candidate
    return None


def _form(tree: PyTree) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf), leaf.dtype) if hasattr(leaf, "dtype") else type(leaf) for leaf in leaves]


def _of_jax(tree: PyTree) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return jnp.copy(leaf)
    return jnp.array(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def _rows_of(data: PyTree) -> int:
    named = jax.tree_util.tree_leaves_with_path(data)
    if not named:
        raise EmptyInputError("data holds no array: give a pytree of arrays whose first axis is that of the rows")
    found = {}
    for path, leaf in named:
        name = f"data{jax.tree_util.keystr(path)}"
        if not getattr(leaf, "shape", ()):
            raise InputError(
                f"{name} is {type(leaf).__name__} without rows: give an array whose first axis is the rows'"
            )
        found[name] = int(leaf.shape[0])
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} has {rows:,}" for name, rows in found.items())
        raise InputError(f"arrays of unequal rows: {told}; all must lead with the same axis")
    rows = next(iter(found.values()))
    if not rows:
        raise EmptyInputError("data of no rows: give some")
    return rows
