"""The benchmark of reading: its made files are what they claim to be, and it measures what it says."""

import json

import pytest

from benchmarks import ingest
from volgrad.data.schema import SourceKind
from volgrad.data.stream import stream

WRITERS = {"tardis.csv.gz": ingest.write_tardis, "snapshots.parquet": ingest.write_snapshots}
KINDS = {"tardis.csv.gz": SourceKind.TARDIS, "snapshots.parquet": SourceKind.SNAPSHOT}


@pytest.fixture(params=WRITERS)
def made(request, tmp_path):
    WRITERS[request.param](tmp_path / request.param, 3000, 1)
    return tmp_path / request.param


def test_made_files_are_sound_quotes(made):
    blocks = list(stream(made))
    assert {block.kind for block in blocks} == {KINDS[made.name]}
    assert sum(block.malformed for block in blocks) == 0
    assert all((block.reason == 0).all() for block in blocks)
    table = blocks[0].table
    assert set(table["ccy"].to_pylist()) == {"BTC", "ETH"}
    assert 0.03 < table["bid"].null_count / table.num_rows < 0.2
    assert ingest.decode(made) >= 3000


def test_the_same_seed_makes_the_same_rows(tmp_path):
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet", "c.parquet")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        ingest.write_snapshots(path, 100, seed)
    first, again, other = (next(stream(path)).table for path in paths)
    assert first.equals(again)
    assert not first.equals(other)


def test_ours_and_each_rival_are_timed_and_told(made):
    told = ingest.measure(made, turns=1)
    assert told["rows"] == ingest.decode(made)
    assert set(told["rival_over_ours"]) == set(told["ns_a_row"]) - set(ingest.OURS) >= {"pyarrow"}
    assert all(figure > 0 for figure in told["ns_a_row"].values())
    text = ingest.table(
        json.loads(json.dumps({"ingest": [told | {"peak_mib": 1.0, "peak_mib_of_four_times_the_rows": 1.0}]}))
    )
    assert made.name in text
    assert "pyarrow" in text
