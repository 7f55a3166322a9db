"""Streaming a source: the same rows and reasons whatever the blocks; whole or nothing; damage is one kind of error."""

import bz2
import functools
import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tables import ROWS, canonical_table, chain_rows, table_of, ticker_rows
from volgrad.data.containers import cells, opening
from volgrad.data.schema import Dataset, SourceKind
from volgrad.data.stream import stream
from volgrad.errors import DamagedError, EmptyInputError, ForeignError, InputError, SchemaError, UnitsError


def whole(item, **options):
    """All blocks of a source as one table, its reasons, and lines that could not be read."""
    blocks = list(stream(item, **options))
    table = pa.concat_tables([block.table for block in blocks], promote_options="default").unify_dictionaries()
    return table, np.concatenate([block.reason for block in blocks]), sum(block.malformed for block in blocks)


def same(left, right):
    assert left[0].column_names == right[0].column_names
    assert left[0].to_pylist() == right[0].to_pylist()
    np.testing.assert_array_equal(left[1], right[1])
    assert left[2] == right[2]


def csv_of(table):
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def zstd(data, path):
    with pa.CompressedOutputStream(str(path), "zstd") as sink:
        sink.write(data)


PACKERS = {
    "plain": lambda data, path: path.write_bytes(data),
    "gzip": lambda data, path: path.write_bytes(gzip.compress(data)),
    "bzip2": lambda data, path: path.write_bytes(bz2.compress(data)),
    "xz": lambda data, path: path.write_bytes(lzma.compress(data)),
    "zstd": zstd,
}


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("name", ["quotes.csv", "quotes", "quotes.txt"])
def test_cells_packed_in_any_way_and_under_any_name_are_the_same_rows(tmp_path, how, name):
    PACKERS[how](csv_of(canonical_table()), tmp_path / name)
    same(whole(tmp_path / name), whole(canonical_table()))


@pytest.mark.parametrize("rows", [canonical_table, lambda: table_of(ticker_rows())], ids=["canonical", "ticker5m"])
@settings(max_examples=20)
@given(block_rows=st.integers(1, 100))
def test_the_size_of_blocks_changes_nothing(tmp_path_factory, rows, block_rows):
    table = rows()
    path = tmp_path_factory.getbasetemp() / "blocks.parquet"
    pq.write_table(table, path)
    for item in (table, path):
        blocks = list(stream(item, block_rows=block_rows))
        assert all(block.table.num_rows <= block_rows for block in blocks)
        same(whole(item, block_rows=block_rows), whole(table))


def test_a_block_needs_a_row():
    with pytest.raises(ValueError, match="block_rows is 0"):
        list(stream(canonical_table(), block_rows=0))


def test_line_breaks_byte_order_mark_and_quotes_do_not_matter(tmp_path):
    content, expected = csv_of(canonical_table()), whole(canonical_table())
    path = tmp_path / "q.csv"
    variants = [
        content.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + content,
        content.replace(b'"', b""),
        b"\n".join(
            b",".join(b'"%b"' % cell.strip(b'"') for cell in line.split(b",")) for line in content.split(b"\n")[:-1]
        ),
        content.replace(b",", b";"),
        content.replace(b",", b"\t"),
        content.removesuffix(b"\n"),
    ]
    for variant in variants:
        path.write_bytes(variant)
        same(whole(path), expected)


@pytest.mark.parametrize("cells", [{}, {"bid": "n.a."}, {"ask": "1,5"}, {"expiry": "soon"}, {"strike": "9e4 USD"}])
def test_bad_cells_are_rejected_rows_and_the_others_as_they_were(tmp_path, cells):
    lines = csv_of(canonical_table()).decode().splitlines()
    names = [name.strip('"') for name in lines[0].split(",")]
    row = lines[8].split(",")
    for name, text in cells.items():
        row[names.index(name)] = f'"{text}"'
    (tmp_path / "q.csv").write_text("\n".join([*lines[:8], ",".join(row), *lines[9:]]))
    table, reason, malformed = whole(tmp_path / "q.csv")
    expected = whole(canonical_table())[0]
    assert (malformed, np.flatnonzero(reason).tolist()) == (0, [7] if cells else [])
    kept = pa.array(reason == 0)
    assert table.filter(kept).to_pylist() == expected.filter(kept).to_pylist()


def test_a_header_alone_is_an_empty_block_of_its_kind(tmp_path):
    (tmp_path / "q.csv").write_bytes(csv_of(canonical_table().slice(0, 0)))
    (block,) = stream(tmp_path / "q.csv")
    assert (block.table.num_rows, block.kind, block.dataset) == (0, SourceKind.CANONICAL, Dataset.QUOTES)
    assert block.table.schema.field("ts").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)], ids=["empty", "gzip"])
def test_an_empty_file_says_so(tmp_path, content):
    (tmp_path / "q.csv").write_bytes(content)
    with pytest.raises(EmptyInputError, match=r"q\.csv: .*0 bytes"):
        list(stream(tmp_path / "q.csv"))


def test_a_packed_file_cut_anywhere_is_refused_or_the_same(tmp_path):
    path = tmp_path / "q.csv.gz"
    content = csv_of(table_of(chain_rows(days=(24,), ratios=(0.9,))))
    data = gzip.compress(content)
    path.write_bytes(data)
    expected = whole(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"q\.csv\.gz"):
            same(whole(path), expected)


def test_damage_in_a_late_block_ends_the_stream(tmp_path):
    path = tmp_path / "q.parquet"
    pq.write_table(canonical_table(), path, row_group_size=10, compression="none", write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[int(len(data) * 0.3)] ^= 1  # a page in the middle
    path.write_bytes(data)
    blocks = stream(path, block_rows=10)
    next(blocks)
    with pytest.raises(DamagedError, match=r"q\.parquet: damaged or cut short"):
        list(blocks)


def test_another_unit_shows_at_the_end_where_there_are_few_rows(tmp_path):
    table = canonical_table(mark_iv=[60.0] * 2 * ROWS)
    blocks = stream(table, block_rows=30)
    assert next(blocks).table.num_rows == 30
    with pytest.raises(UnitsError, match="mark_iv has median 60"):
        list(blocks)


def test_another_unit_shows_early_where_there_are_many():
    table = pa.concat_tables([canonical_table(mark_iv=[60.0] * 2 * ROWS)] * 40)
    with pytest.raises(UnitsError, match="mark_iv has median 60"):
        next(stream(table, block_rows=2000))


def test_columns_that_nobody_wants_are_not_read():
    table = canonical_table(mark_iv=[0.6] * 2 * ROWS, oi=[1.0] * 2 * ROWS)
    (block,) = stream(table, wanted=("oi",))
    assert block.table.column_names == ["ts", "ccy", "expiry", "strike", "cp", "bid", "ask", "oi"]
    assert block.extra == ()
    assert "mark_iv" in next(stream(table)).table.column_names


def test_what_a_table_of_canonical_names_is_may_be_said():
    table = canonical_table(mark_iv=[60.0] * 2 * ROWS)
    (block,) = stream(table, kind=SourceKind.SESSION)
    assert block.kind is SourceKind.SESSION
    assert set(block.table["mark_iv"].to_pylist()) == {0.6}


def test_other_formats_come_through_the_same_door(tmp_path):
    ticker = {
        "instrument_name": "BTC-27MAR26-90000-C", "timestamp": 1767690000000, "best_bid_price": 0.05,
        "best_ask_price": 0.0, "underlying_price": 90000.0, "mark_iv": 60.0,
    }  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join([json.dumps(ticker)] * 3))
    PACKERS["gzip"](json.dumps(ticker).encode(), tmp_path / "t.json.gz")
    for name, rows in (("t.jsonl", 3), ("t.json.gz", 1)):
        table, reason, _ = whole(tmp_path / name)
        assert (table.num_rows, reason.tolist()) == (rows, [0] * rows)
        assert table["strike"][0].as_py() == 90000.0
        assert (table["ask"].null_count, table["mark_iv"][0].as_py()) == (rows, 0.6)


def test_side_series_pass_beside(tmp_path):
    (tmp_path / "btc_dvol.csv").write_text("date,open,high,low,close\n2026-01-01,44,46,43,45\n")
    (block,) = stream(tmp_path / "btc_dvol.csv")
    assert block.dataset is Dataset.VOLATILITY_INDEX
    assert block.table["close"].to_pylist() == [0.45]


def test_bars_of_nobody_knows_what_are_foreign(tmp_path):
    (tmp_path / "prices.csv").write_text("date,open,high,low,close\n2026-01-01,1,2,0,1\n")
    with pytest.raises(ForeignError, match=r"prices\.csv: bars of a price or of a volatility index"):
        list(stream(tmp_path / "prices.csv"))


def test_a_foreign_table_and_a_renamed_column_are_different_errors(tmp_path):
    pq.write_table(pa.table({"colour": ["red"], "size": [1]}), tmp_path / "f.parquet")
    with pytest.raises(ForeignError, match=r"f\.parquet: a quote table needs the columns"):
        list(stream(tmp_path / "f.parquet"))
    pq.write_table(canonical_table().rename_columns({"bid": "bidd"}), tmp_path / "r.parquet")
    with pytest.raises(SchemaError, match="'bid' is perhaps 'bidd'"):
        list(stream(tmp_path / "r.parquet"))


def test_frames_of_polars_are_streamed():
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(canonical_table())
    same(whole(frame, block_rows=7), whole(canonical_table()))


def test_frames_of_pandas_are_streamed():
    pandas = pytest.importorskip("pandas", minversion="2.2")
    frame = canonical_table().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    same(whole(frame, block_rows=7), whole(canonical_table()))


@pytest.mark.parametrize("name", ["q.parquet", "q.arrow", "q.csv.gz"])
def test_memory_holds_a_few_blocks_and_never_the_source(tmp_path, name, monkeypatch):
    table = pa.concat_tables([canonical_table()] * 3000)
    rows = table.num_rows
    if name == "q.parquet":
        pq.write_table(table, tmp_path / name, row_group_size=rows // 20)
    elif name == "q.arrow":
        with pyarrow.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows // 20)
    else:
        names, _, lines = csv_of(canonical_table()).partition(b"\n")
        (tmp_path / name).write_bytes(gzip.compress(names + b"\n" + lines * 3000, 1))
        monkeypatch.setattr(opening, "open_cells", functools.partial(cells.open_cells, at_once=1 << 19))
    size, before, peak, seen = table.nbytes, pa.total_allocated_bytes(), 0, 0
    for block in stream(tmp_path / name, block_rows=rows // 20):
        peak = max(peak, pa.total_allocated_bytes() - before)
        seen += block.table.num_rows
    assert seen == rows
    assert peak < size / 4
