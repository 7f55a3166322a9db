"""The loader: one order whatever the batches, processes, threads and kills; means without bias."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.images import in_memory, on_disk, uneven
from volgrad.errors import InputError
from volgrad.learning.batching import loader as loading
from volgrad.learning.batching.draws import RowDraws
from volgrad.learning.batching.loader import Loader, Share, batch_of
from volgrad.learning.batching.order import Blocks
from volgrad.learning.batching.sampler import Sampler

COUNTS = uneven(90, 12)
TAKEN = range(10, 83)
WAYS = [
    {"rows_per_cluster": rows, "shuffle": shuffle, "blocks": blocks}
    for rows in (None, 1, 4, 50)
    for shuffle, blocks in ((True, None), (False, None), (True, Blocks(7, 3)))
]


@pytest.fixture(scope="module", params=["uneven", "equal"])
def image(request, tmp_path_factory):
    counts = COUNTS if request.param == "uneven" else np.full(90, 8)
    return on_disk(counts, tmp_path_factory.mktemp("images") / "image")


def sequence(loader, start, stop, clusters):
    """Clusters and rows that batches of one size give, in order; the last batch may run over."""
    steps = -(-(stop - start) // clusters)
    stack = loader.stack(start, steps, clusters)
    width = stack.values.shape[2:]
    values = stack.values.reshape(-1, *width)[: stop - start]
    return values, stack.count.reshape(-1)[: stop - start], stack.weight.reshape(-1)[: stop - start]


def same(left, right):
    return all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_order_is_the_same_for_any_batch_size_worker_count_and_kill(image, way, monkeypatch):
    whole = sequence(Loader(image, TAKEN, 5, **way), 0, 200, 200)
    for clusters in (1, 9, 73, 146):
        assert same(sequence(Loader(image, TAKEN, 5, **way), 0, 200, clusters), whole)
    monkeypatch.setattr(loading, "_CHUNK_ROWS", 1)
    monkeypatch.setattr(loading, "_LEAST_CHUNK", 5)
    assert same(sequence(Loader(image, TAKEN, 5, **way), 0, 200, 20), whole)  # by several threads
    resumed = sequence(Loader(image, TAKEN, 5, **way), 131, 200, 3)
    assert same(resumed, [part[131:] for part in whole])


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_each_batch(image, way, ranks):
    whole = Loader(image, TAKEN, 5, **way).stack(17, 4, 12)
    shares = [Loader(image, TAKEN, 5, **way, share=Share(rank, ranks)).stack(17, 4, 12) for rank in range(ranks)]
    assert same([np.concatenate(parts, axis=1) for parts in zip(*shares, strict=True)], whole)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_cluster_comes_once_an_epoch_with_its_own_rows(image, way):
    loader = Loader(image, TAKEN, 5, **way)
    for epoch in range(3):
        values, count, weight = sequence(loader, epoch * 73, (epoch + 1) * 73, 73)
        cluster = values[:, 0, 0].astype(int)
        size = image.counts[cluster]
        assert sorted(cluster.tolist()) == list(TAKEN)
        assert np.array_equal(count, np.minimum(size, loader.rows))
        assert weight == pytest.approx(size / image.counts[TAKEN.start : TAKEN.stop].mean())
        for rows, there, own in zip(values, count, cluster, strict=True):
            assert (rows[:there, 0] == own).all()
            assert len(set(rows[:there, 1].tolist())) == there
            assert (rows[there:] == 0.0).all()
    assert loader.note is None or "windows of 3 blocks" in loader.note


def test_clusters_come_as_the_sampler_says():
    image = in_memory(COUNTS)
    values, _, _ = sequence(Loader(image, TAKEN, 8, rows_per_cluster=1), 0, 200, 50)
    assert np.array_equal(values[:, 0, 0], TAKEN.start + Sampler(73, 8).indices(0, 200))


def test_without_shuffling_clusters_come_as_they_are_stored():
    values, _, _ = sequence(Loader(in_memory(COUNTS), TAKEN, 8, shuffle=False), 0, 100, 10)
    assert np.array_equal(values[:, 0, 0], TAKEN.start + np.arange(100) % 73)


def test_seeds_and_epochs_give_other_orders():
    image = in_memory(COUNTS)
    orders = [
        sequence(Loader(image, TAKEN, seed, 1), 73 * epoch, 73 * epoch + 73, 73)[0]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({one[:, 0, 0].tobytes() for one in orders}) == 4
    assert len({one[np.argsort(one[:, 0, 0]), 0, 1].tobytes() for one in orders}) == 4


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize("blocks", [None, Blocks(2, 2)])
def test_the_objective_is_the_row_mean_exactly_over_full_cycles(rows, blocks, tmp_path):
    counts = np.array([1, 2, 3, 4, 6, 4, 12])
    image = on_disk(counts, tmp_path / "image")
    cycle = math.lcm(*(int(count) // math.gcd(int(count), rows) for count in counts if count > rows))
    loader = Loader(image, range(7), 3, rows_per_cluster=rows, blocks=blocks)
    values, count, weight = sequence(loader, 0, 7 * cycle, 7)
    mask = np.arange(loader.rows)[None, :] < count[:, None]
    loss = (np.where(mask, values[:, :, 2].astype(np.float64), 0.0).sum(axis=1) / count) * weight
    assert loss.mean() == pytest.approx(float(image.rows[:, 2].astype(np.float64).mean()), abs=1e-6)


@given(n=st.integers(1, 40), m=st.integers(1, 40), seed=st.integers(0, 50), cluster=st.integers(0, 10**6))
@settings(max_examples=30)
def test_rows_are_cycled_through(n, m, seed, cluster):
    draws = RowDraws(seed, m)
    once = -(-n // m)
    period = n // math.gcd(n, m)
    found = [draws.offsets(np.array([cluster]), np.array([n]), epoch)[0][: min(m, n)] for epoch in range(2 * period)]
    assert all(len(set(rows.tolist())) == min(m, n) for rows in found)
    assert set(np.concatenate(found[:once]).tolist()) == set(range(n))
    if n > m:
        for first in (0, period):
            seen = np.bincount(np.concatenate(found[first : first + period]), minlength=n)
            assert (seen == seen[0]).all()


def test_rows_drawn_anew_come_in_another_order():
    draws = RowDraws(0, 10)
    epochs = [draws.offsets(np.array([3]), np.array([40]), epoch)[0].tolist() for epoch in range(0, 40, 4)]
    assert len({tuple(rows) for rows in epochs}) == 10


def test_a_batch_is_one_row_or_all_of_the_data():
    image = in_memory(np.ones(50, np.int64))
    loader = Loader(image, range(50), 1)
    one = loader.stack(3, 1, 1)
    assert one.values.shape == (1, 1, 1, 3)
    every = loader.stack(0, 2, 50)
    assert np.array_equal(np.sort(every.values[0, :, 0, 0]), np.arange(50))
    assert every.values[0, 3, 0, 0] == one.values[0, 0, 0, 0]


def test_a_step_becomes_a_batch_with_masks():
    image = in_memory(COUNTS)
    stack = Loader(image, TAKEN, 1).stack(0, 1, 73)
    batch = batch_of(*(jnp.asarray(part[0]) for part in stack))
    assert np.array_equal(np.asarray(batch.rows.mask).sum(axis=1), stack.count[0])
    assert batch.mask.all()
    assert float(batch.weight.mean()) == pytest.approx(1.0, abs=1e-6)
    assert batch.rows.values.dtype == jnp.float32


def test_a_stack_may_be_filled_again():
    loader = Loader(in_memory(COUNTS), TAKEN, 1)
    stack = loader.empty(2, 10)
    assert stack.values.ctypes.data % 64 == 0
    assert loader.stack(0, 2, 10, into=stack) is not None
    assert same(loader.stack(40, 2, 10, into=stack), loader.stack(40, 2, 10))
    with pytest.raises(InputError, match="cannot take 3 batches of 10"):
        loader.stack(0, 3, 10, into=stack)


def test_identity_names_all_that_the_order_depends_on(image):
    first = Loader(image, TAKEN, 5, 4, blocks=Blocks(7, 3)).identity()
    assert first["blocks"] == [7, 3]
    again = Loader(image, TAKEN, first["seed"], first["rows_per_cluster"], blocks=Blocks(*first["blocks"]))
    assert again.identity() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clusters": range(0)}, "give a range within it"),
        ({"clusters": range(91)}, "of an image with 90"),
        ({"clusters": range(0, 90, 2)}, "step 1"),
        ({"rows_per_cluster": 0}, "rows_per_cluster is 0"),
        ({"share": Share(2, 2)}, "share 2 of 2"),
        ({"blocks": Blocks(0, 1)}, "blocks of 0 clusters"),
    ],
)
def test_arguments_that_cannot_be_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        Loader(**{"image": in_memory(COUNTS), "clusters": TAKEN, "seed": 0} | change)


@pytest.mark.parametrize("asked", [(-1, 1, 1), (0, 0, 1), (0, 1, 0)])
def test_stacks_that_cannot_be_are_refused(asked):
    with pytest.raises(InputError, match="give 1 or more, from 0 on"):
        Loader(in_memory(COUNTS), TAKEN, 0).stack(*asked)


def test_processes_must_share_equally():
    loader = Loader(in_memory(COUNTS), TAKEN, 0, share=Share(0, 2))
    with pytest.raises(InputError, match="5 clusters for 2 processes"):
        loader.stack(0, 1, 5)
