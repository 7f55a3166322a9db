"""Which cluster stands at which position: over the whole data, or within windows of a few blocks.

The whole order is that of :class:`~volgrad.learning.batching.sampler.Sampler`. Where data exceed the memory, reading a
cluster here and there would cost a seek each; then blocks of neighbouring clusters are put in random order, a few
blocks make a window, and clusters are in random order within their window. Both orders depend on (seed, epoch) and on
the blocks alone: neither on the batch size nor on what was read before.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from volgrad.errors import InputError
from volgrad.learning.batching.permutation import Permutation
from volgrad.learning.batching.sampler import epoch_permutation

__all__ = ["Blocks", "Order", "Segment"]


class Blocks(NamedTuple):
    """How data are cut for a block-wise order; a part of the order's identity.

    clusters: of one block (the last may have fewer).
    window: blocks that are in memory, and shuffled, together.
    """

    clusters: int
    window: int


class Segment(NamedTuple):
    """Neighbouring positions within one window of one epoch.

    epoch, window: which (one window is all there is without blocks).
    first, size: places in the window.
    order: of the window's clusters; None: as they are stored.
    """

    epoch: int
    window: int
    first: int
    size: int
    order: Permutation | None

    def part(self, first: int, size: int) -> "Segment":
        """Some of its places, counted from its own first."""
        return self._replace(first=self.first + first, size=size)

    def places(self) -> Int64[np.ndarray, " size"]:
        """Clusters by their place in the window's storage."""
        at = np.arange(self.first, self.first + self.size)
        return at if self.order is None else self.order.at(at)


class Order:
    """The order of `n` clusters, epoch after epoch.

    Args:
        n: clusters.
        seed: of the order.
        shuffle: False: as they are stored, in every epoch.
        blocks: None: one window of all clusters.
    """

    def __init__(self, n: int, seed: int, *, shuffle: bool = True, blocks: Blocks | None = None) -> None:
        if blocks is not None and (blocks.clusters < 1 or blocks.window < 1):
            raise InputError(f"blocks of {blocks.clusters} clusters, {blocks.window} a window: give 1 or more of each")
        self.n, self.seed, self.shuffle = n, seed, shuffle
        self.blocks = blocks if shuffle else None
        self._table: tuple[int, np.ndarray, np.ndarray] | None = None

    def segments(self, start: int, count: int) -> list[Segment]:
        """Positions `start` to `start + count - 1`, cut where a window or an epoch ends."""
        found = []
        while count:
            epoch, place = divmod(start, self.n)
            segment = self._segment(epoch, place, min(count, self.n - place))
            found.append(segment)
            start, count = start + segment.size, count - segment.size
        return found

    def windows(self, epoch: int) -> int:
        """Windows of an epoch."""
        return 1 if self.blocks is None else len(self._bounds(epoch)[1]) - 1

    def blocks_of(self, epoch: int, window: int) -> list[range]:
        """The blocks of a window, as ranges of clusters, in the order in which they lie there."""
        if self.blocks is None:
            return [range(self.n)]
        size, wide = self.blocks
        chosen = self._bounds(epoch)[0][window * wide : (window + 1) * wide].tolist()
        chosen.sort(key=lambda block: (block + 1) * size > self.n)  # a short one last: the n-th is in block n // size
        return [range(block * size, min(self.n, (block + 1) * size)) for block in chosen]

    def _segment(self, epoch: int, place: int, count: int) -> Segment:
        if not self.shuffle:
            return Segment(epoch, 0, place, count, None)
        if self.blocks is None:
            return Segment(epoch, 0, place, count, epoch_permutation(self.n, self.seed, epoch))
        bounds = self._bounds(epoch)[1]
        window = int(np.searchsorted(bounds, place, side="right")) - 1
        first, stop = int(bounds[window]), int(bounds[window + 1])
        order = Permutation.of(stop - first, "window", self.seed, epoch, window)
        return Segment(epoch, window, place - first, min(count, stop - place), order)

    def _bounds(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Blocks of an epoch in their order, and where its windows begin; kept for the latest epoch."""
        if self._table is None or self._table[0] != epoch:
            assert self.blocks is not None
            size, wide = self.blocks
            count = -(-self.n // size)
            order = Permutation.of(count, "blocks", self.seed, epoch).at(np.arange(count))
            sizes = np.minimum(size, self.n - order * size)
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
            bounds = np.append(ends[:-1:wide], ends[-1])
            self._table = epoch, order, bounds
        return self._table[1], self._table[2]
