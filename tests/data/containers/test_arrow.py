"""Parquet and Arrow IPC: blocks of any size give the same rows; what is cut or damaged never passes for whole."""

import io

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.data.containers import Pick, arrow, in_memory, open_container
from volgrad.data.damage import damage
from volgrad.errors import DamagedError, InputError

TABLE = pa.table(
    {
        "n": pa.array(range(40), pa.int64()),
        "x": [n / 7 if n % 5 else None for n in range(40)],
        "text": [("BTC", "ETH", None)[n % 3] for n in range(40)],
        "code": pa.array([("C", "P")[n % 2] for n in range(40)]).dictionary_encode(),
    }
)


def parquet(table=TABLE):
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=15, write_page_checksum=True)
    return sink.getvalue()


def ipc_file(table=TABLE):
    sink = io.BytesIO()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=15)
    return sink.getvalue()


def ipc_stream(table=TABLE):
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=15)
    return sink.getvalue()


MAKERS = {"q.parquet": parquet, "q.arrow": ipc_file, "q.arrows": ipc_stream}


def read(path, pick=None):
    with damage(str(path)), open_container(path) as opened:
        assert opened.container is not None
        return [block.table for block in opened.container.read(pick or Pick())]


def values(tables, names=TABLE.column_names):
    return [row for table in tables for row in table.select(names).to_pylist()]


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=15)
@given(rows=st.integers(1, 50))
def test_blocks_of_any_size_hold_the_same_rows(tmp_path_factory, name, rows):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(MAKERS[name]())
    tables = read(path, Pick(rows=rows))
    assert values(tables) == TABLE.to_pylist()
    assert all(table.num_rows <= rows for table in tables)


@pytest.mark.parametrize("name", MAKERS)
def test_only_the_columns_asked_for_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(MAKERS[name]())
    tables = read(tmp_path / name, Pick(columns=("x", "text", "colour")))
    assert tables[0].column_names == ["x", "text"]
    assert values(tables, ["x", "text"]) == TABLE.select(["x", "text"]).to_pylist()


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_cut_anywhere_is_found_out(tmp_path, name):
    data, path = MAKERS[name](TABLE.slice(0, 4)), tmp_path / name
    for length in range(1, len(data), 1 + len(data) // 400):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=name):
            read(path)


def test_a_stream_cut_between_two_batches_is_found_out(tmp_path):
    data, path = ipc_stream(), tmp_path / "q.arrows"
    path.write_bytes(data[:-8])  # all batches are whole, the end mark is gone
    with pytest.raises(DamagedError, match=r"q\.arrows: damaged or cut short .*no end mark"):
        read(path)


def test_a_flipped_byte_in_any_page_of_a_parquet_file_is_found_out_or_does_not_matter(tmp_path):
    data, path = parquet(TABLE.slice(0, 8)), tmp_path / "q.parquet"
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for place in range(4, pages):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        try:
            assert values(read(path)) == TABLE.slice(0, 8).to_pylist()
        except DamagedError:
            continue


def test_a_parquet_file_that_claims_more_than_it_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "UNBOUNDED", 1000)
    monkeypatch.setattr(arrow, "LARGEST_RATIO", 100)
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"n": pa.repeat(0, 3_000_000)}), path)
    with pytest.raises(DamagedError, match=r"bomb\.parquet: claims to hold [\d,]+ bytes or rows in"):
        read(path)


def test_a_table_in_memory_is_drawn_batch_by_batch():
    drawn = []

    def batches():
        for n in range(10):
            drawn.append(n)
            yield from pa.table({"n": [n] * 3}).to_batches()

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), batches())
    blocks = in_memory(reader).read(Pick(rows=6))
    assert drawn == []
    assert next(blocks).table["n"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert drawn == [0, 1]
    assert sum(block.table.num_rows for block in blocks) == 24


@pytest.mark.parametrize("how", ["lz4", "zstd"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_an_ipc_file_that_claims_more_than_it_can_hold_is_never_unpacked(tmp_path, monkeypatch, how, kind):
    table = pa.table({"n": pa.repeat(0, 200_000), "x": pa.repeat(1.5, 200_000)})
    path = tmp_path / "bomb.arrow"
    options = pyarrow.ipc.IpcWriteOptions(compression=how)
    with getattr(pyarrow.ipc, f"new_{kind}")(path, table.schema, options=options) as writer:
        writer.write_table(table)
    assert sum(block.num_rows for block in read(path)) == 200_000
    monkeypatch.setattr(arrow, "UNBOUNDED", table.nbytes - 1)
    monkeypatch.setattr(arrow, "LARGEST_RATIO", 0)
    with pytest.raises(DamagedError, match=r"bomb\.arrow: claims to hold [\d,]+ bytes or rows in"):
        read(path)
    monkeypatch.setattr(arrow, "UNBOUNDED", 2 * table.nbytes)
    assert len(read(path)) == 1


def test_many_small_batches_make_one_block():
    table = pa.table({"n": range(5000), "text": pa.array(["a", "b"] * 2500).dictionary_encode()})
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1))
    (block,) = in_memory(reader).read(Pick())
    assert block.table.to_pylist() == table.to_pylist()
    assert block.table["n"].num_chunks == 1
