"""The gradient noise scale of a user's own code, from its gradients of small batches.

A *unit* is some whole clusters. Its gradient is put together from calls with few different numbers of rows (powers of
two where clusters differ), as each number is compiled once: what `grad` gives is a mean over rows, and so adds up. That
is tried first. Where it does not add up, as under batch normalisation, units are single calls of 32 rows or more.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64, Int64, PyTree

from volgrad.errors import InputError
from volgrad.learning.batch_size.noise_probe import distinct
from volgrad.learning.batch_size.own_calls import OwnFunction, Program, RowData
from volgrad.learning.batch_size.timing import Clock
from volgrad.learning.batching.noise_scale import NoiseScale, noise_scale

__all__ = ["OwnNoise", "pieces"]

_LEAST_UNITS, _MOST_UNITS = 24, 256
_ROWS = 16_384  # that a probe looks at
_MOST_S = 2.0  # that a probe should take, where two dozen units allow it
_MOST_BYTES = 1 << 28  # of gradients that are held
_COUPLED_ROWS = 32  # of a unit whose rows have to do with each other (assumption)
_SPLIT_ROWS = 8.0  # of a cluster from which on its rows are halved
_LOOKS = 3  # the least of which is what a gradient takes on a busy machine
_ADDS_UP = 0.01  # of the gradients' length: more than bfloat16 rounds (assumption)
_BLOCK = 1 << 16  # of variables whose products are summed at a time


class _Part(NamedTuple):
    """Rows whose mean gradient is wanted, and its weight."""

    rows: Int64[np.ndarray, " rows"]
    weight: float


class OwnNoise:
    """Measures the noise scale at any params.

    Attributes:
        units: gradients of a probe.
        unit: clusters of each.
        split: whether rows within clusters are told apart from clusters.
        compile_s: seconds of compiling so far.
        notes: sentences on what is out of the ordinary.
    """

    def __init__(self, grad: OwnFunction, data: RowData, params: PyTree, clock: Clock) -> None:
        """Try the function, and decide on units.

        Raises:
            InputError: fewer than two clusters; a gradient that is empty, not finite, or a sum over rows.
        """
        if data.clusters < 2:
            raise InputError(f"data of {data.clusters} cluster: the noise between clusters needs at least two")
        self._grad, self._data, self._clock = grad, data, clock
        self._programs: dict[int, Program] = {}
        self._mortal: bool | None = None  # whether a call deletes the params that it is given
        self.compile_s, self.notes = 0.0, ()
        self._adds_up = self._tried(params)
        mean, whole = data.mean_rows, data.clusters
        units = min(_MOST_UNITS, max(_LEAST_UNITS, int(_ROWS / mean)), whole)
        even = bool((data.counts % 2 == 0).all())
        # half of an odd cluster leaves a row out: one of eight or more matters little (assumption)
        self.split = data.grouped and self._adds_up and (even or mean >= _SPLIT_ROWS)
        # halves of one cluster weigh alike; of several only where all are equal
        single = self.split and not data.equal
        self.unit = 1 if single else max(1, min(int(_ROWS / (units * mean)), whole // units))
        if not self._adds_up:
            self.unit = max(self.unit, min(math.ceil(_COUPLED_ROWS / mean), max(1, whole // 2)))
            units = min(units, whole // self.unit)
            rows = f"{self.unit * mean:,.0f} rows"
            self.notes = (
                f"grad couples rows (normalised over the batch, or random): noise is that of batches of {rows}",
            )
        self.units = self._affordable(params, units)

    def at(self, params: PyTree, position: int) -> NoiseScale | None:
        """The noise scale there, on the clusters from `position` of the order on; None where it is not finite."""
        fresh = self._grad.fresh(params)
        found = []
        count = self.units * self.unit
        drawn = self._data.drawn(distinct(position, count, self._data.clusters), count)
        for start in range(0, len(drawn), self.unit):
            for part in self._parts(drawn[start : start + self.unit]):
                found.append(self._gradient(fresh, part))
                if not np.isfinite(found[-1]).all():
                    return None
        return noise_scale(
            _inner_products(np.stack(found)),
            rows_per_cluster=self._data.mean_rows,
            halves=self.split,
            unit_clusters=self.unit,
        )

    def _affordable(self, params: PyTree, units: int) -> int:
        """Units that time and memory allow; all shapes of call are compiled on the way."""
        fresh = self._grad.fresh(params)
        parts = self._parts(self._data.drawn(0, self.unit))
        size = sum(self._gradient(fresh, part).nbytes for part in parts)
        seconds = math.inf
        for _ in range(_LOOKS):
            began = self._clock()
            for part in parts:
                self._gradient(fresh, part)
            seconds = min(seconds, self._clock() - began)
        by_time = int(_MOST_S / seconds) if seconds > 0.0 else units
        by_memory = _MOST_BYTES // max(1, size)
        return max(2, min(units, max(_LEAST_UNITS, by_time), max(8, by_memory)))

    def _parts(self, members: list[Int64[np.ndarray, " rows"]]) -> list[_Part]:
        """What the gradient of a unit, or those of its halves, are made of; given are the rows of its clusters."""
        rows = sum(map(len, members))
        # the objective is the mean over rows: a cluster of more rows counts for more
        weight = rows / (self.unit * self._data.mean_rows)
        if not self.split:
            return [_Part(np.concatenate(members), weight)]
        sides = []
        for side in (0, 1):
            half = [own[side * (len(own) // 2) :][: max(1, len(own) // 2)] for own in members]
            sides.append(_Part(np.concatenate(half), weight))
        return sides

    def _gradient(self, params: PyTree, part: _Part) -> Float[np.ndarray, " variables"]:
        if self._data.equal:
            return self._called(params, part.rows) * part.weight
        if not self._adds_up:
            return self._called(params, part.rows[: 1 << (len(part.rows).bit_length() - 1)]) * part.weight
        total = 0.0
        for piece in pieces(part.rows):
            total = total + self._called(params, piece) * (part.weight * len(piece) / len(part.rows))
        return np.asarray(total)

    def _called(self, params: PyTree, index: Int64[np.ndarray, " rows"]) -> Float[np.ndarray, " variables"]:
        batch = self._data.take(index)
        if len(index) not in self._programs:
            before = self._clock()
            self._programs[len(index)] = self._grad.program(params, batch)
            self.compile_s += self._clock() - before
        call = self._programs[len(index)].call
        if self._mortal is False:
            return _flat(call(params, batch))
        mine = self._grad.fresh(params)
        answer = _flat(call(mine, batch))
        if self._mortal is None:
            self._mortal = not self._grad.compiled or any(_deleted(leaf) for leaf in jax.tree.leaves(mine))
        return answer

    def _tried(self, params: PyTree) -> bool:
        """Whether gradients of parts add up to that of the whole."""
        count = max(1, min(_COUPLED_ROWS, self._data.rows // 2))
        rows = np.random.default_rng(0).permutation(self._data.rows)[: 2 * count]
        one, other = rows[:count], rows[count:]
        fresh = self._grad.fresh(params)
        both = (rows, np.concatenate([one, one]), one, other)
        whole, doubled, left, right = (self._called(fresh, index).astype(np.float64) for index in both)
        for answer in (whole, left, right):
            if not np.isfinite(answer).all():
                wrong = int((~np.isfinite(answer)).sum())
                raise InputError(
                    f"grad gave {wrong:,} of {answer.size:,} numbers that are not finite at the given params, for some "
                    f"{count} rows: look for values in data or params that are missing or extreme"
                )
        square = float(left @ left)
        if square > 0.0 and float(doubled @ left) > 1.5 * square:
            raise InputError("grad gave the sum over rows, as twice the rows gave twice the gradient: give the mean")
        length = float(np.linalg.norm(left) + np.linalg.norm(right))
        return float(np.linalg.norm(whole - 0.5 * (left + right))) <= _ADDS_UP * length


def pieces(index: Int64[np.ndarray, " rows"]) -> Iterator[Int64[np.ndarray, " piece"]]:
    """Rows cut into powers of two, so that few lengths serve all.

    >>> [piece.size for piece in pieces(np.arange(13))]
    [8, 4, 1]
    """
    start = 0
    for power in reversed(range(len(index).bit_length())):
        if len(index) >> power & 1:
            yield index[start : start + (1 << power)]
            start += 1 << power


def _flat(answer: PyTree) -> Float[np.ndarray, " variables"]:
    """All numbers of a gradient as one vector of numpy, float64 only where it comes so."""
    leaves: list[Any] = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(answer) if leaf is not None]
    leaves = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    leaves = [np.concatenate([leaf.real, leaf.imag]) if np.iscomplexobj(leaf) else leaf for leaf in leaves]
    if not sum(leaf.size for leaf in leaves):
        raise InputError(f"grad gave {type(answer).__name__} without numbers: give a pytree of the mean gradient")
    double = any(leaf.dtype == np.float64 for leaf in leaves)
    return np.concatenate([leaf.astype(np.float64 if double else np.float32) for leaf in leaves])


def _inner_products(gradients: Float[np.ndarray, "units variables"]) -> Float64[np.ndarray, "units units"]:
    """In float64, some variables at a time."""
    total = np.zeros((len(gradients), len(gradients)))
    for start in range(0, gradients.shape[1], _BLOCK):
        block = gradients[:, start : start + _BLOCK].astype(np.float64)
        total += block @ block.T
    return total


def _deleted(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.is_deleted()
