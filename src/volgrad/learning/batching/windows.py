"""Where the rows of a window come from: the mapped image, or blocks read into memory ahead of their use.

Blocks are read with plain reads into memory of the process and dropped from the page cache behind: so the memory in use
is two windows, whatever the image's size.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from volgrad.data.image import Image
from volgrad.errors import DamagedError
from volgrad.learning.batching.memory import free_bytes
from volgrad.learning.batching.order import Blocks, Order

__all__ = ["Held", "Windows", "choose_blocks"]

_SHARE = 0.7  # of the free memory that an image may take as page cache
_LARGEST_WINDOW = 160 << 20  # bytes; two are held
_WINDOW = 8  # blocks: as many neighbourhoods are mixed at a time
_SMALLEST_BLOCK = 1 << 20  # bytes: reading a megabyte outweighs the way to it (assumption)
_PIECE = 1 << 22  # clusters looked at at a time


class Held(NamedTuple):
    """Rows of a window.

    table: the rows. Shape: (rows, features).
    equal_rows: rows of every cluster, or None.
    skipped: clusters of the table that come before the window's first.
    first_row: where in `table` clusters begin and the last one ends; None where all have as many rows.
    ids: numbers of the clusters in the image; None: neighbours.
    first_id: number of the first cluster.
    """

    table: Float32[np.ndarray, "rows features"]
    equal_rows: int | None
    skipped: int
    first_row: Int64[np.ndarray, " clusters+1"] | None
    ids: Int64[np.ndarray, " clusters"] | None
    first_id: int

    def extent(
        self, places: Int64[np.ndarray, " places"]
    ) -> tuple[Int64[np.ndarray, " places"], Int64[np.ndarray, " places"]]:
        """First row and number of rows of some clusters."""
        if self.first_row is None:
            assert self.equal_rows is not None
            return (places + self.skipped) * self.equal_rows, np.full(len(places), self.equal_rows)
        first = self.first_row[places]
        return first, self.first_row[places + 1] - first

    def numbers(self, places: Int64[np.ndarray, " places"]) -> Int64[np.ndarray, " places"]:
        """Numbers of some clusters in the image."""
        return places + self.first_id if self.ids is None else self.ids[places]


def choose_blocks(image: Image, clusters: range, memory_bytes: int | None = None) -> Blocks | None:
    """Blocks for a range of clusters that exceeds the memory, or None where it fits (or is in memory already).

    Args:
        image: the data.
        clusters: of which these are drawn.
        memory_bytes: what may be used; None: what is free by the system and by the control group's limit.
    """
    if image.folder is None:
        return None
    limit = free_bytes() if memory_bytes is None else memory_bytes
    width = 4 * len(image.features)
    size = int(image.first_row[clusters.stop] - image.first_row[clusters.start]) * width
    if limit is None or size <= _SHARE * limit:
        return None
    window = min(_LARGEST_WINDOW, max(_WINDOW * _SMALLEST_BLOCK, limit // 4))
    a_cluster = size / len(clusters)
    return Blocks(max(1, int(window / _WINDOW / a_cluster)), _WINDOW)


class Windows:
    """Gives the windows of an order, and reads the next one while one is in use.

    Args:
        image: the data.
        clusters: the range that is drawn.
        order: of its clusters.
    """

    def __init__(self, image: Image, clusters: range, order: Order) -> None:
        self._image, self._clusters, self._order = image, clusters, order
        self._held: dict[tuple[int, int], Future[Held]] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._file: int | None = None
        self._spare: list[np.ndarray] = []
        if order.blocks is None:
            self._whole = self._mapped()
        else:
            assert image.folder is not None
            self._file = os.open(image.folder / "rows.f32", os.O_RDONLY)
            self._reader = ThreadPoolExecutor(1, "volgrad-reader")

    @property
    def note(self) -> str | None:
        """What there is to say of the order."""
        blocks = self._order.blocks
        if blocks is None:
            return None
        gigabytes = self._image.rows.nbytes / 1e9
        return (
            f"the image ({gigabytes:.1f} GB) exceeds the memory that is free: clusters are shuffled within windows of "
            f"{blocks.window} blocks of {blocks.clusters} neighbours, which are read in random order"
        )

    def longest(self) -> int:
        """Rows of the longest cluster of the range."""
        if self._image.equal_rows is not None:
            return self._image.equal_rows
        pieces = range(self._clusters.start, self._clusters.stop, _PIECE)
        ends = [min(self._clusters.stop, piece + _PIECE) for piece in pieces]
        offsets = self._image.first_row
        return max(int(np.diff(offsets[piece : end + 1]).max()) for piece, end in zip(pieces, ends, strict=True))

    def hold(self, epoch: int, window: int) -> Held:
        """The rows of a window; the one after it is being read when this returns."""
        if self._order.blocks is None:
            return self._whole
        now, then = (epoch, window), self._after(epoch, window)
        for key in [key for key in self._held if key not in (now, then)]:
            gone = self._held.pop(key)
            if not gone.cancel():
                gone.result()
        for key in (now, then):
            if key not in self._held:
                assert self._reader is not None
                self._held[key] = self._reader.submit(self._read, *key)
        return self._held[now].result()

    def close(self) -> None:
        """Stop reading, and let go of all windows."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        self._held.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _after(self, epoch: int, window: int) -> tuple[int, int]:
        return (epoch, window + 1) if window + 1 < self._order.windows(epoch) else (epoch + 1, 0)

    def _mapped(self) -> Held:
        image, clusters = self._image, self._clusters
        table = np.asarray(image.rows)
        if image.equal_rows is not None:
            return Held(table, image.equal_rows, clusters.start, None, None, clusters.start)
        offsets = np.asarray(image.first_row)[clusters.start : clusters.stop + 1]
        return Held(table, None, 0, offsets, None, clusters.start)

    def _read(self, epoch: int, window: int) -> Held:
        image, base = self._image, self._clusters.start
        blocks = [range(base + b.start, base + b.stop) for b in self._order.blocks_of(epoch, window)]
        extents = [(int(image.first_row[block.start]), int(image.first_row[block.stop])) for block in blocks]
        table = np.empty((sum(stop - start for start, stop in extents), len(image.features)), np.float32)
        at = 0
        for start, stop in extents:
            self._read_rows(table[at : at + stop - start], start)
            at += stop - start
        ids = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        if image.equal_rows is not None:
            return Held(table, image.equal_rows, 0, None, ids, 0)
        counts = np.concatenate([np.diff(image.first_row[block.start : block.stop + 1]) for block in blocks])
        return Held(table, None, 0, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), ids, 0)

    def _read_rows(self, rows: np.ndarray, start: int) -> None:
        assert self._file is not None
        content = rows.reshape(-1).view(np.uint8).data
        place = start * rows.shape[1] * 4
        begin = place
        while content:
            if not (count := os.preadv(self._file, [content], place)):
                path = self._image.folder
                raise DamagedError(f"{path}: rows.f32 ends at byte {place}; derive the image again.", file=path)
            content, place = content[count:], place + count
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, begin, place - begin, os.POSIX_FADV_DONTNEED)
