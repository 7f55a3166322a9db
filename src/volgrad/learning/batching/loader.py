"""From a training image to stacks of batches of fixed shape."""

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from volgrad.data.image import Image
from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch, Rows
from volgrad.learning.batching.draws import RowDraws
from volgrad.learning.batching.order import Blocks, Order, Segment
from volgrad.learning.batching.windows import Held, Windows, choose_blocks

__all__ = ["Loader", "Share", "Stack", "batch_of"]

_CHUNK_ROWS = 65_536  # that a thread gathers at a time: enough to outweigh the calls, few enough to share the work
_LEAST_CHUNK = 256  # clusters
_ALIGNED = 64  # bytes: JAX on the CPU takes such an array over as it is


class Share(NamedTuple):
    """Which part of each batch a process takes: the `rank`-th of `ranks` equal runs of neighbours.

    The parts of all ranks, one after the other, are the batch that one process alone would have taken.
    """

    rank: int = 0
    ranks: int = 1


_ALONE = Share()


class Stack(NamedTuple):
    """Some batches of one size, one after the other.

    values: features of each row; 0 in places without a row. Shape: (steps, clusters, rows, features).
    count: rows of each cluster that are there; they come first. Shape: (steps, clusters).
    weight: of each cluster in the objective: rows that it has in the data, over their mean. Shape: (steps, clusters).
    """

    values: Float32[np.ndarray, "steps clusters rows features"]
    count: Int32[np.ndarray, "steps clusters"]  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Float32[np.ndarray, "steps clusters"]


def batch_of(
    values: Float32[Array, "clusters rows features"],
    count: Int32[Array, " clusters"],
    weight: Float32[Array, " clusters"],
) -> Batch:
    """One step of a :class:`Stack` as a batch; for use in compiled code.

    >>> batch = batch_of(jnp.ones((2, 3, 1)), jnp.array([3, 1]), jnp.ones(2))
    >>> batch.rows.mask.astype(int).tolist()
    [[1, 1, 1], [1, 0, 0]]
    """
    mask = jnp.arange(values.shape[1])[None, :] < count[:, None]
    return Batch(Rows(values, mask), count > 0, weight)


class Loader:
    """Draws clusters of an image, and rows of each, in an order that depends on nothing but its arguments.

    Positions are counted in clusters and run on through epochs; a batch may run over an epoch's end. The same position
    gives the same cluster and rows whatever the batch size, the stack, the threads, or what was asked before. Weights
    make the mean over clusters of `weight * mean over drawn rows` an unbiased estimate of the mean over rows.

    Args:
        image: the data.
        clusters: which of them, such as a split.
        seed: of all orders.
        rows_per_cluster: rows drawn of each cluster a visit, a part of the order's identity; None: all.
        shuffle: False takes clusters in stored order (for streams).
        blocks: the block-wise order for data larger than the memory: "auto" decides by what memory is free; to resume a
            run give what it had (`loader.order.blocks`).
        share: what this process takes of each batch.

    Raises:
        InputError: arguments that cannot be.
    """

    def __init__(
        self,
        image: Image,
        clusters: range,
        seed: int,
        rows_per_cluster: int | None = None,
        shuffle: bool = True,
        blocks: Blocks | Literal["auto"] | None = "auto",
        share: Share = _ALONE,
    ) -> None:
        _check(image, clusters, rows_per_cluster, share)
        self.image, self.clusters, self.share = image, clusters, share
        if blocks == "auto":
            blocks = choose_blocks(image, clusters) if shuffle else None
        self.order = Order(len(clusters), seed, shuffle=shuffle, blocks=blocks)
        self._windows = Windows(image, clusters, self.order)
        first, last = image.first_row[clusters.start], image.first_row[clusters.stop]
        self.mean_rows = int(last - first) / len(clusters)
        longest = self._windows.longest()
        self.rows = longest if rows_per_cluster is None else min(rows_per_cluster, longest)
        counts = image.counts[clusters.start : clusters.stop]
        #: Rows that a visit draws of a cluster, on average.
        self.mean_drawn = float(np.minimum(counts, self.rows).mean())
        self._draws = RowDraws(seed, self.rows)
        self._threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._one_at_a_time = threading.Lock()
        self._pool = ThreadPoolExecutor(self._threads, "volgrad-loader")

    @property
    def note(self) -> str | None:
        """A sentence on what is out of the ordinary in the order, or None."""
        return self._windows.note

    def identity(self) -> dict[str, Any]:
        """All that the order depends on, for a checkpoint to compare."""
        return {
            "image": self.image.digest,
            "clusters": [self.clusters.start, self.clusters.stop],
            "seed": self.order.seed,
            "rows_per_cluster": self.rows,
            "shuffle": self.order.shuffle,
            "blocks": None if self.order.blocks is None else list(self.order.blocks),
        }

    def empty(self, steps: int, clusters: int) -> Stack:
        """A stack to be filled, in fresh memory that JAX can take over without a copy."""
        width = len(self.image.features)
        values = _aligned((steps, clusters // self.share.ranks, self.rows, width), np.float32)
        shape = (steps, clusters // self.share.ranks)
        return Stack(values, _aligned(shape, np.int32), _aligned(shape, np.float32))

    def stack(self, start: int, steps: int, clusters: int, into: Stack | None = None) -> Stack:
        """Batches of `clusters` clusters from position `start` on.

        Args:
            start: position of the first cluster (clusters seen so far).
            steps: how many batches.
            clusters: of each batch, over all ranks.
            into: a stack of this shape to overwrite; None: fresh memory. JAX on the CPU may use the memory of an array
                that it is given: whoever passes `into` makes sure that nothing computes with its old content any more.

        Raises:
            InputError: a negative position, no step, no cluster, or clusters that ranks cannot share equally.
        """
        if start < 0 or steps < 1 or clusters < 1:
            raise InputError(
                f"a stack of {steps} batches of {clusters} clusters from {start}: give 1 or more, from 0 on"
            )
        if clusters % self.share.ranks:
            raise InputError(f"a batch of {clusters} clusters for {self.share.ranks} processes: give a multiple")
        stack = self.empty(steps, clusters) if into is None else into
        own = clusters // self.share.ranks
        if stack.values.shape[:2] != (steps, own):
            raise InputError(f"a stack of shape {stack.values.shape[:2]} cannot take {steps} batches of {own} clusters")
        flat = Stack(
            stack.values.reshape(steps * own, self.rows, -1), stack.count.reshape(-1), stack.weight.reshape(-1)
        )
        with self._one_at_a_time:  # the memory of a window is used again for the next
            if self.share.ranks == 1:
                self._fill(flat, start, 0, steps * own)
            else:
                for step in range(steps):
                    self._fill(flat, start + step * clusters + self.share.rank * own, step * own, own)
        return stack

    def close(self) -> None:
        """Stop the threads, and let go of what they hold in memory."""
        self._pool.shutdown(cancel_futures=True)
        self._windows.close()

    def _fill(self, flat: Stack, start: int, to: int, count: int) -> None:
        """Fill places `to` and on of a stack from position `start` on."""
        chunk = max(_LEAST_CHUNK, _CHUNK_ROWS // self.rows)
        for segment in self.order.segments(start, count):
            held = self._windows.hold(segment.epoch, segment.window)
            cuts = range(0, segment.size, chunk)
            parts = [segment.part(cut, min(chunk, segment.size - cut)) for cut in cuts]
            ends = list(itertools.accumulate((part.size for part in parts), initial=to))
            tasks = [(held, part, _piece(flat, at, part.size)) for at, part in zip(ends, parts, strict=False)]
            if len(tasks) == 1:
                self._gather(*tasks[0])
            else:
                for _ in self._pool.map(lambda task: self._gather(*task), tasks):
                    pass
            to = ends[-1]

    def _gather(self, held: Held, segment: Segment, into: Stack) -> None:
        """Draw one part of a segment."""
        places = segment.places()
        if held.equal_rows is not None:
            into.count.fill(min(self.rows, held.equal_rows))
            into.weight.fill(held.equal_rows / self.mean_rows)
            if held.equal_rows == self.rows and (at := held.whole_clusters(places)) is not None:
                blocks = held.clusters_of_rows()
                np.take(blocks, at, axis=0, out=into.values.reshape(len(places), -1), mode="clip")
                return
        first, size = held.extent(places)
        offsets = self._draws.offsets(held.numbers(places), size, segment.epoch)
        offsets += first[:, None]
        np.take(held.table, offsets, axis=0, out=into.values, mode="clip")
        np.minimum(size, self.rows, out=into.count, casting="unsafe")
        np.divide(size, self.mean_rows, out=into.weight, casting="unsafe")
        if (short := np.flatnonzero(size < self.rows)).size:
            beyond = np.arange(self.rows)[None, :] >= size[short, None]
            into.values[short] = np.where(beyond[:, :, None], np.float32(0.0), into.values[short])


def _piece(flat: Stack, at: int, count: int) -> Stack:
    return Stack(flat.values[at : at + count], flat.count[at : at + count], flat.weight[at : at + count])


def _aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    skipped = -memory.ctypes.data % _ALIGNED
    return memory[skipped : skipped + size].view(dtype).reshape(shape)


def _check(image: Image, clusters: range, rows_per_cluster: int | None, share: Share) -> None:
    if clusters.step != 1 or not 0 <= clusters.start < clusters.stop <= image.clusters:
        raise InputError(f"clusters {clusters} of an image with {image.clusters}: give a range within it, step 1")
    if rows_per_cluster is not None and rows_per_cluster < 1:
        raise InputError(f"rows_per_cluster is {rows_per_cluster}: give 1 or more, or None for all rows")
    if not 0 <= share.rank < share.ranks:
        raise InputError(f"share {share.rank} of {share.ranks}: ranks count from 0")
