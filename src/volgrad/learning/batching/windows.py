"""Where the rows of a window come from: the mapped image, or blocks read into memory ahead of their use.

Blocks are read into memory of the process and leave nothing in the page cache: so the memory in use is two windows,
whatever the image's size.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from volgrad.data.image import Image
from volgrad.learning.batching.memory import free_bytes
from volgrad.learning.batching.order import Blocks, Order
from volgrad.learning.batching.reading import RowFile

__all__ = ["Held", "Windows", "choose_blocks"]

_SHARE = 0.7  # of the free memory that an image may take as page cache
_LARGEST_WINDOW = 160 << 20  # bytes; two are held
_WINDOW = 8  # blocks: as many neighbourhoods are mixed at a time
_SMALLEST_BLOCK = 1 << 20  # bytes: reading a megabyte outweighs the way to it (assumption)
_PIECE = 1 << 22  # clusters looked at at a time
_MOST_STEPS = 64  # pages that may be skipped to put a block at a whole cluster; else at a whole row


class Runs(NamedTuple):
    """Blocks of clusters of one length, in a table.

    size: clusters of a block; only the last may have fewer.
    lines: for each block, from a place in the window to the line of `Held.clusters_of_rows`.
    ids: for each block, from a place in the window to the cluster's number in the image.
    """

    size: int
    lines: Int64[np.ndarray, " blocks"]
    ids: Int64[np.ndarray, " blocks"]


class Held(NamedTuple):
    """Rows of a window.

    table: the rows. Shape: (rows, features).
    equal_rows: rows of every cluster, or None.
    skipped: clusters of the table that come before the window's first.
    first_row: where in `table` clusters begin; None: neighbours of one length.
    counts: rows of each; None: `equal_rows`.
    ids: numbers of the clusters in the image; None: neighbours.
    first_id: number of the first cluster.
    runs: where blocks of equal clusters stand, in place of `first_row` and `ids`; None: not in blocks.
    """

    table: Float32[np.ndarray, "rows features"]
    equal_rows: int | None
    skipped: int
    first_row: Int64[np.ndarray, " clusters"] | None
    counts: Int64[np.ndarray, " clusters"] | None
    ids: Int64[np.ndarray, " clusters"] | None
    first_id: int
    runs: "Runs | None" = None

    def extent(
        self, places: Int64[np.ndarray, " places"]
    ) -> tuple[Int64[np.ndarray, " places"], Int64[np.ndarray, " places"]]:
        """First row and number of rows of some clusters."""
        if self.first_row is not None:
            first = self.first_row[places]
        else:
            lines = self.whole_clusters(places)
            assert lines is not None
            assert self.equal_rows is not None
            first = lines * self.equal_rows
        return first, np.full(len(places), self.equal_rows) if self.counts is None else self.counts[places]

    def whole_clusters(self, places: Int64[np.ndarray, " places"]) -> Int64[np.ndarray, " places"] | None:
        """Lines of `clusters_of_rows` of some clusters; None where clusters are no lines of it."""
        if self.first_row is not None:
            return None
        if self.runs is None:
            return places + self.skipped
        return places + self.runs.lines[places // self.runs.size]

    def clusters_of_rows(self) -> Float32[np.ndarray, "clusters numbers"]:
        """The table with a cluster a line; what is left over at its end is cut off."""
        assert self.equal_rows is not None
        lines = len(self.table) // self.equal_rows
        return self.table[: lines * self.equal_rows].reshape(lines, -1)

    def numbers(self, places: Int64[np.ndarray, " places"]) -> Int64[np.ndarray, " places"]:
        """Numbers of some clusters in the image."""
        if self.runs is not None:
            return places + self.runs.ids[places // self.runs.size]
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
        self._file: RowFile | None = None
        if order.blocks is None:
            self._whole = self._mapped()
            return
        assert image.folder is not None
        row = 4 * len(image.features)
        cluster = row * (image.equal_rows or 1)
        self._unit = cluster if cluster // math.gcd(cluster, 4096) <= _MOST_STEPS else row
        self._file = RowFile(image.folder / "rows.f32", self._unit)
        self._reader = ThreadPoolExecutor(1, "volgrad-window")

    @property
    def note(self) -> str | None:
        """What there is to say of the order."""
        blocks = self._order.blocks
        if blocks is None:
            return None
        gigabytes = self._image.rows.nbytes / 1e9
        return (
            f"block-wise order, for an image ({gigabytes:.1f} GB) that exceeds the memory at hand: clusters are "
            f"shuffled within windows of {blocks.window} blocks of {blocks.clusters} neighbours, which are read in "
            "random order"
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
        """The rows of a window, until another is asked for; the one after it is being read when this returns."""
        if self._order.blocks is None:
            return self._whole
        now, then = (epoch, window), self._after(epoch, window)
        for key in [key for key in self._held if key not in (now, then)]:
            gone = self._held.pop(key)
            if not gone.cancel() and gone.exception() is None:
                assert self._file is not None
                self._file.recycle(gone.result().table)
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
            self._file.close()
            self._file = None

    def _after(self, epoch: int, window: int) -> tuple[int, int]:
        return (epoch, window + 1) if window + 1 < self._order.windows(epoch) else (epoch + 1, 0)

    def _mapped(self) -> Held:
        image, clusters = self._image, self._clusters
        table = np.asarray(image.rows)
        if image.equal_rows is not None:
            return Held(table, image.equal_rows, clusters.start, None, None, None, clusters.start)
        offsets = np.asarray(image.first_row)[clusters.start : clusters.stop + 1]
        return Held(table, None, 0, offsets[:-1], np.diff(offsets), None, clusters.start)

    def _read(self, epoch: int, window: int) -> Held:
        image, base = self._image, self._clusters.start
        assert self._file is not None
        width = len(image.features)
        blocks = [range(base + b.start, base + b.stop) for b in self._order.blocks_of(epoch, window)]
        if image.equal_rows is not None:
            ends = [(block.start * image.equal_rows, block.stop * image.equal_rows) for block in blocks]
        else:
            ends = [(int(image.first_row[block.start]), int(image.first_row[block.stop])) for block in blocks]
        table, begins = self._file.read([(4 * width * first, 4 * width * last) for first, last in ends], width)
        if image.equal_rows is not None and begins and self._unit == 4 * width * image.equal_rows:
            return Held(table, image.equal_rows, 0, None, None, None, 0, self._runs(blocks, begins))
        offsets = [np.asarray(image.first_row[block.start : block.stop + 1]) for block in blocks]
        rows_at = [begin // (4 * width) for begin in begins]
        first_row = np.concatenate([rows[:-1] - rows[0] + at for rows, at in zip(offsets, rows_at, strict=True)])
        counts = None if image.equal_rows is not None else np.concatenate([np.diff(rows) for rows in offsets])
        ids = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        return Held(table, image.equal_rows, 0, first_row, counts, ids, 0)

    def _runs(self, blocks: list[range], begins: list[int]) -> Runs:
        assert self._order.blocks is not None
        size = self._order.blocks.clusters
        before = size * np.arange(len(blocks))
        lines = np.array(begins) // self._unit - before
        return Runs(size, lines, np.array([block.start for block in blocks]) - before)
