"""Reading files: every format gives the same chains; damaged and foreign ones are named, others are read."""

import contextlib
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tables import (
    ROWS,
    assert_same_chains,
    canonical_table,
    chain_rows,
    table_of,
)
from volgrad.data import build_chains, read_quotes
from volgrad.errors import EmptyInputError, InputError, SchemaError


def _write_csv(table, path):
    pyarrow.csv.write_csv(table, path)


def _write_gzip(table, path):
    plain = path.with_suffix(".plain")
    pyarrow.csv.write_csv(table, plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def _write_stream(table, path):
    with pyarrow.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def _write_arrow(table, path):
    with pyarrow.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


WRITERS = {
    "q.parquet": pq.write_table,
    "q.arrow": _write_arrow,
    "q.arrows": _write_stream,
    "q.csv": _write_csv,
    "q.csv.gz": _write_gzip,
    "parquet_without_suffix": pq.write_table,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_chains(tmp_path, name):
    WRITERS[name](canonical_table(), tmp_path / name)
    chains = build_chains(read_quotes(tmp_path / name))
    assert_same_chains(chains, build_chains(read_quotes(canonical_table())))


def test_several_sources_and_a_directory_are_one_table(tmp_path):
    pq.write_table(table_of(chain_rows()), tmp_path / "a.parquet")
    (tmp_path / "day").mkdir()
    pq.write_table(table_of(chain_rows("ETH")), tmp_path / "day" / "b.parquet")
    (tmp_path / ".half.parquet.tmp").write_bytes(b"PAR1")
    (tmp_path / "notes.md").write_text("not data")
    listed = read_quotes([tmp_path / "a.parquet", str(tmp_path / "day" / "b.parquet")])
    found = read_quotes(tmp_path)
    assert [source.rows for source in found.sources] == [ROWS, ROWS]
    assert_same_chains(build_chains(found), build_chains(listed))
    assert_same_chains(build_chains(found), build_chains(read_quotes(canonical_table())))


def test_a_file_named_twice_is_read_once(tmp_path):
    pq.write_table(canonical_table(), tmp_path / "a.parquet")
    quotes = read_quotes([tmp_path / "a.parquet", tmp_path])
    assert quotes.rows == 2 * ROWS
    assert any("read once" in note for note in quotes.notes)


def damaged(tmp_path):
    """Files that cannot be quotes, and what must be said of each."""
    pq.write_table(canonical_table(), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "whole.parquet").unlink()
    content = {
        "cut.parquet": (whole[: len(whole) // 2], "damaged or cut short"),
        "empty.parquet": (b"", "the file is empty"),
        "empty.csv": (b"", "the file is empty"),
        "text.parquet": (b"this is no parquet file", "its name says .parquet but it starts with"),
        "other.csv": (b"a,b\n1,2\n", "needs the columns"),
        "binary.csv": (bytes(range(128, 256)) * 4, ""),
        "cut.csv.gz": (gzip.compress(b"ts,ccy\n" * 999)[:40], "damaged or cut short"),
        "cut.arrow": (b"ARROW1\0\0" + b"\1" * 40, "damaged or cut short"),
    }
    for name, (data, _) in content.items():
        (tmp_path / name).write_bytes(data)
    pq.write_table(pa.table({"open": [1.0], "close": [2.0]}), tmp_path / "candles.parquet")
    return {name: said for name, (_, said) in content.items()} | {"candles.parquet": "needs the columns"}


def test_damaged_and_foreign_files_are_set_aside_by_name_and_the_others_are_read(tmp_path):
    said = damaged(tmp_path)
    pq.write_table(canonical_table(), tmp_path / "good.parquet")
    quotes = read_quotes(tmp_path)
    assert quotes.rows == 2 * ROWS
    why = {path.rpartition("/")[2]: why for path, why in ((q.file, q.why) for q in quotes.quarantined)}
    assert why.keys() == said.keys()
    for name, words in said.items():
        assert words in why[name]


def test_when_nothing_is_left_the_file_is_named_with_the_reason(tmp_path):
    for name, words in damaged(tmp_path).items():
        with pytest.raises(InputError, match=name) as caught:
            read_quotes(tmp_path / name)
        assert words in str(caught.value)
        assert caught.value.exit_code == 2
        assert caught.value.file == tmp_path / name
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "book.txt.gz",
            gzip.compress(b"ts,ccy", mtime=0),
            "a quote table needs the columns expiry, strike, cp, bid, ask",
        ),
        ("book.zip", b"PK\x03\x04\x14\0\0\0", "no file of quotes: it is compressed (zip); unpack it"),
        ("book.parquet", gzip.compress(b"PAR1", mtime=0), "Parquet inside gzip; unpack it once"),
        ("book.gz", gzip.compress(gzip.compress(b"ts,ccy", mtime=0), mtime=0), "gzip inside gzip; unpack it once"),
        ("book.txt", bytes(range(256)), "no file of quotes: it starts with b'\\x00"),
        ("book.csv", b"# my quotes\nts,ccy\n", "begins with a line of comment (b'# my quotes')"),
        ("book.csv", b"\xff\xfet\0s\0", "its name says .csv but it starts with b'\\xff\\xfe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_told_as_such(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_quotes(tmp_path / name)
    assert f"{name}: {said}" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["q.parquet", "q.csv", "q.arrow"])
def test_a_header_without_rows_is_empty_input(tmp_path, name):
    WRITERS[name](canonical_table().slice(0, 0), tmp_path / name)
    with pytest.raises(EmptyInputError, match=f"{name}: a header but no row"):
        read_quotes(tmp_path / name)


def test_the_truth_beside_simulated_quotes_is_no_source(tmp_path):
    pq.write_table(table_of(chain_rows()), tmp_path / "quotes-BTC-2026-01-05.parquet")
    for name in ("truth.parquet", "market.json"):
        (tmp_path / name).write_bytes(b"PAR1")
    assert read_quotes(tmp_path).quarantined == ()
    (tmp_path / "market.json").unlink()
    assert [Path(one.file).name for one in read_quotes(tmp_path).quarantined] == ["truth.parquet"]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_quotes(tmp_path / "missing.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no data file in this directory"):
        read_quotes(tmp_path / "empty")
    with pytest.raises(EmptyInputError, match="no source"):
        read_quotes([])
    with pytest.raises(InputError, match="int is neither a path nor a table"):
        read_quotes(7)


def test_drift_in_one_of_many_files_is_an_error_not_a_loss(tmp_path):
    pq.write_table(canonical_table(), tmp_path / "a.parquet")
    pq.write_table(canonical_table().drop_columns("ask"), tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=r"b\.parquet: a quote table needs the column ask"):
        read_quotes(tmp_path)


def test_lines_with_the_wrong_number_of_cells_are_skipped_and_counted(tmp_path):
    _write_csv(canonical_table(), tmp_path / "q.csv")
    with (tmp_path / "q.csv").open("a") as stream:
        stream.write("1,2,3\n2026-01-06")
    quotes = read_quotes(tmp_path / "q.csv")
    assert quotes.rows == 2 * ROWS
    assert quotes.rejections.by_reason() == {"malformed": 2}


@settings(max_examples=30)
@given(
    name=st.sampled_from(["q.parquet", "q.arrow", "q.arrows", "q.csv"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
    keep=st.floats(0.1, 1),
)
def test_a_damaged_file_is_told_or_read_but_never_breaks(tmp_path_factory, name, flips, keep):
    path = tmp_path_factory.getbasetemp() / f"flipped_{name}"
    WRITERS[name](table_of(chain_rows(days=(24,))), path)
    data = bytearray(path.read_bytes())
    for where, mask in flips:
        data[int(where * len(data))] ^= mask
    path.write_bytes(data[: int(keep * len(data))])
    with contextlib.suppress(InputError):
        build_chains(read_quotes(path))
