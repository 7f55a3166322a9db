"""Block-wise order: when it is taken, that its rows are the image's, and that little is held in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.images import in_memory, on_disk, uneven
from volgrad.errors import DamagedError
from volgrad.learning.batching.loader import Loader
from volgrad.learning.batching.memory import free_bytes
from volgrad.learning.batching.order import Blocks, Order
from volgrad.learning.batching.reading import RowFile
from volgrad.learning.batching.windows import choose_blocks


@settings(max_examples=60)
@given(
    n=st.integers(1, 400),
    size=st.integers(1, 60),
    window=st.integers(1, 9),
    epoch=st.integers(0, 9),
    seed=st.integers(0, 9),
)
def test_windows_hold_every_cluster_once(n, size, window, epoch, seed):
    order = Order(n, seed, blocks=Blocks(size, window))
    windows = [order.blocks_of(epoch, number) for number in range(order.windows(epoch))]
    assert all(1 <= len(blocks) <= window for blocks in windows)
    assert sorted(cluster for blocks in windows for block in blocks for cluster in block) == list(range(n))
    segments = order.segments(epoch * n, n)
    assert [segment.window for segment in segments] == list(range(len(windows)))
    for segment, blocks in zip(segments, windows, strict=True):
        assert np.array_equal(np.sort(segment.places()), np.arange(sum(map(len, blocks))))


def test_blocks_of_an_epoch_and_seed_stand_in_their_own_order():
    orders = {
        tuple(
            block.start
            for number in range(5)
            for block in Order(100, seed, blocks=Blocks(5, 4)).blocks_of(epoch, number)
        )
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_blocks_are_chosen_where_the_image_exceeds_the_memory(tmp_path):
    counts = np.full(100_000, 10)
    image = on_disk(counts, tmp_path / "image")
    size = image.rows.nbytes
    assert choose_blocks(image, range(100_000), 2 * size) is None
    assert choose_blocks(in_memory(np.full(10, 10)), range(10), 1) is None
    blocks = choose_blocks(image, range(100_000), size)
    assert blocks is not None
    assert blocks.clusters * blocks.window * 120 <= max(size // 4, 8 << 20)
    assert choose_blocks(image, range(50_000), size) is None  # half of it fits
    loader = Loader(image, range(100_000), 0, blocks=blocks)
    assert loader.note is not None
    assert f"windows of {blocks.window} blocks of {blocks.clusters} neighbours" in loader.note


@pytest.mark.parametrize(
    "counts", [uneven(3000, 9), np.ones(5000, np.int64), np.full(2000, 16), np.full(700, 23)], ids=len
)
@pytest.mark.parametrize("direct", [True, False])
def test_rows_read_are_those_of_the_image(counts, direct, tmp_path, monkeypatch):
    if not direct:
        monkeypatch.delattr("os.O_DIRECT", raising=False)
    image = on_disk(counts, tmp_path / "image")
    clusters = range(13, len(counts) - 5)
    loader = Loader(image, clusters, 2, blocks=Blocks(101, 3))
    stack = loader.stack(0, 1, len(clusters))
    cluster = stack.values[0, :, 0, 0].astype(int)
    assert np.array_equal(np.sort(cluster), np.array(clusters))
    for values, own, count in zip(stack.values[0], cluster, stack.count[0], strict=True):
        assert np.array_equal(values[:count], image.rows[image.first_row[own] : image.first_row[own + 1]])
    loader.close()


@pytest.mark.parametrize("unit", [12, 48, 52, 3072, 4096, 12 * 7])
def test_runs_lie_at_whole_units(unit, tmp_path):
    width = unit // 4
    whole = np.arange(400_000 // width * width, dtype=np.float32)
    whole.tofile(tmp_path / "rows")
    file = RowFile(tmp_path / "rows", unit)
    units = len(whole) // width
    runs = [(unit * first, unit * last) for first, last in ((3, 5), (0, 1), (units - 300, units), (7, 290))]
    found, begins = file.read(runs, width)
    for (first, last), begin in zip(runs, begins, strict=True):
        assert begin % unit == 0
        assert np.array_equal(found.reshape(-1)[begin // 4 :][: (last - first) // 4], whole[first // 4 : last // 4])
    file.close()


def test_a_file_cut_short_while_it_is_read_is_told(tmp_path):
    image = on_disk(np.full(5000, 4), tmp_path / "image")
    loader = Loader(image, range(5000), 2, blocks=Blocks(5000, 1))
    with (tmp_path / "image" / "rows.f32").open("r+b") as stream:
        stream.truncate(100_000)
    with pytest.raises(DamagedError, match=r"rows\.f32: ends at byte"):
        loader.stack(0, 1, 10)
    loader.close()


def test_free_memory_is_what_the_system_and_the_control_group_leave(tmp_path):
    assert free_bytes(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert free_bytes(tmp_path) == 5_120_000
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    folder = tmp_path / "sys/fs/cgroup/a"
    (folder / "b").mkdir(parents=True)
    (folder / "b/memory.max").write_text("max\n")
    assert free_bytes(tmp_path) == 5_120_000
    (folder / "memory.max").write_text("3000000\n")
    (folder / "memory.stat").write_text("anon 1000000\nfile 1500000\n")
    assert free_bytes(tmp_path) == 2_000_000


def test_free_memory_knows_the_older_control_groups(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu:/x\n2:memory:/x\n")
    folder = tmp_path / "sys/fs/cgroup/memory/x"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("total_rss 200\n")
    assert free_bytes(tmp_path) == 500
