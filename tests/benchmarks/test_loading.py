"""The loading benchmark: that it measures what it says, and that it can be told."""

import json

import numpy as np
import pytest

from benchmarks import loading
from volgrad.learning.batching.loader import Loader


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("loading") / "report.json"
    loading.main(rows=40_000, rival_rows=5000, seconds=0.01, folder=file.parent, json_file=file)
    assert [path.name for path in file.parent.iterdir()] == ["report.json"]
    return json.loads(file.read_text())


def test_every_way_has_a_rate(report):
    assert report["image_bytes"] == 40_000 * 48
    for way in ("single rows", "clusters of 64"):
        assert min(report[way]["rows_per_s"]) > 0.0
        assert report[way]["share_of_copy"] > 0.0
    assert set(report["rivals"]) == {"torch", "grain"}
    assert report["block-wise"]["bytes_per_s"] > 0.0
    assert "single rows: " in loading.table(report)


def test_rows_are_those_of_the_image(tmp_path):
    image = loading.write_image(tmp_path / "image", 1000, 3)
    assert image.equal_rows == 1
    assert np.array_equal(image.rows[:, 0], np.arange(1000))
    clusters = loading.in_clusters(image)
    stack = Loader(clusters, range(clusters.clusters), 0).stack(0, 1, 15)
    assert np.array_equal(np.sort(stack.values[0, :, 0, 0]), np.arange(15) * 64)


def test_a_rate_leaves_the_first_batch_out():
    seen = []
    rate = loading.timed_rate(iter([5, 7, 9]), lambda batch: seen.append(batch) or batch, 1e9)
    assert seen == [7, 9]
    assert rate > 0.0
