"""Parts: what is written is read, from checked bytes alone, and numbers are encoded as they repeat."""

import hashlib

import hypothesis.extra.numpy as arrays
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.store.small import FIRST_DAY, quotes
from volgrad.data.schema import ColumnKind, Dataset
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import PartEntry
from volgrad.data.store.parts import check_part, make_part, read_part
from volgrad.data.store.rows import canonical_types
from volgrad.errors import DamagedError

PARTITION = Partition(Dataset.QUOTES, "BTC", FIRST_DAY)


def written(root, table, ids=None):
    """A part of these rows on the disk."""
    ids = np.zeros(table.num_rows, np.int32) if ids is None else np.array(ids, np.int32)
    part = make_part(PARTITION, canonical_types(table, "test").append_column("source", pa.array(ids)))
    file = root / part.entry.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(part.content)
    return part.entry


def chain(rows):
    """Rows of one day."""
    return quotes(minutes=range(rows), strikes=(9e4,), ccys=("BTC",))


@given(
    bid=arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(allow_subnormal=True)),
    data=st.data(),
)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, bid, data):
    root = tmp_path_factory.mktemp("part")
    text = data.draw(st.lists(st.none() | st.text(max_size=5), min_size=len(bid), max_size=len(bid)))
    nulls = data.draw(arrays.arrays(bool, len(bid)))
    table = chain(len(bid)).drop_columns(["bid"]).append_column("bid", pa.array(bid, mask=nulls))
    table = table.append_column("split", pa.array(text, pa.string()).dictionary_encode())
    entry = written(root, table)
    back = read_part(root, entry)
    assert back["bid"].is_null().to_pylist() == nulls.tolist()
    kept = back["bid"].drop_null().to_numpy()
    np.testing.assert_array_equal(kept.view(np.int64), bid[~nulls].view(np.int64))
    assert back["split"].to_pylist() == text
    assert back["ts"].to_pylist() == table["ts"].to_pylist()
    assert entry.columns["split"] is ColumnKind.TEXT


def test_the_name_follows_from_the_content_and_the_entry_tells_it(tmp_path):
    entry = written(tmp_path, chain(10), ids=[3, 1, 1, 3, 3, 7, 7, 7, 7, 1])
    content = (tmp_path / entry.path).read_bytes()
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.path == f"quotes/BTC/2026-01-05/{entry.sha256[:16]}.parquet"
    assert (entry.bytes, entry.rows, entry.sources) == (len(content), 10, {1: 3, 3: 3, 7: 4})
    assert entry.to_us - entry.from_us == 9 * 60_000_000
    assert written(tmp_path, chain(10), ids=[3, 1, 1, 3, 3, 7, 7, 7, 7, 1]) == entry


def test_numbers_that_repeat_have_a_dictionary_and_others_none(tmp_path):
    rng = np.random.default_rng(0)
    rows = 20_000
    table = pa.table(
        {
            "ts": chain(1)["ts"].combine_chunks().take(pa.array(np.zeros(rows, int))),
            "ccy": pa.array(["BTC"] * rows),
            "repeats": rng.integers(0, 100, rows) * 0.5,
            "never": rng.random(rows),
        }
    )
    entry = written(tmp_path, table)
    group = pq.ParquetFile(tmp_path / entry.path).metadata.row_group(0)
    encodings = {group.column(n).path_in_schema: group.column(n).encodings for n in range(group.num_columns)}
    assert "RLE_DICTIONARY" in encodings["repeats"]
    assert "BYTE_STREAM_SPLIT" in encodings["never"]
    assert entry.bytes < 11 * rows


def test_pages_carry_checksums(tmp_path):
    """A reader other than ours, which knows no manifest, finds a flipped byte as well."""
    entry = written(tmp_path, pa.table({"ts": chain(50)["ts"], "ccy": ["BTC"] * 50, "bid": np.arange(50) / 7}))
    file = tmp_path / entry.path
    content = file.read_bytes()
    place = pq.ParquetFile(file).metadata.row_group(0).column(2).data_page_offset + 40
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(OSError, match="CRC checksum"):
        pq.ParquetFile(file, page_checksum_verification=True).read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 9, "sources": {0: 9}}, "rows or columns are not the manifest's"),
        ({"columns": {"ts": ColumnKind.STAMP, "ccy": ColumnKind.TEXT}}, "rows or columns are not the manifest's"),
        ({"sources": {1: 10}}, "by source"),
        ({"bytes": 17}, "in place of 17"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"path": "quotes/BTC/2026-01-05/0000000000000000.parquet"}, "No such file"),
    ],
)
def test_a_file_that_is_not_what_its_entry_says_is_not_read(tmp_path, change, message):
    entry = written(tmp_path, chain(10))
    told = {name: getattr(entry, name) for name in PartEntry.__struct_fields__} | change
    with pytest.raises(DamagedError, match=message):
        read_part(tmp_path, PartEntry(**told))


def test_a_file_whose_sha256_holds_and_that_is_no_parquet_is_not_read(tmp_path):
    entry = written(tmp_path, chain(10))
    content = b"PAR1" + b"\0" * 40 + b"PAR1"
    (tmp_path / entry.path).write_bytes(content)
    told = {name: getattr(entry, name) for name in PartEntry.__struct_fields__}
    told |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert bytes(check_part(tmp_path, PartEntry(**told))) == content
    with pytest.raises(DamagedError, match="damaged or missing"):
        read_part(tmp_path, PartEntry(**told))


def test_a_folder_in_place_of_a_part_is_told(tmp_path):
    entry = written(tmp_path, chain(10))
    (tmp_path / entry.path).unlink()
    (tmp_path / entry.path).mkdir()
    with pytest.raises(DamagedError, match="no plain file inside the store"):
        read_part(tmp_path, entry)


def test_only_the_columns_asked_for_are_read(tmp_path):
    entry = written(tmp_path, chain(10))
    assert read_part(tmp_path, entry, frozenset({"bid", "nothing"})).column_names == ["bid", "source"]
