"""Text of cells: every line is a row or is counted, wherever blocks end, whatever the line breaks and quotes."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.containers import cells
from volgrad.data.containers.block import Pick
from volgrad.data.containers.cells import looks_like_cells, open_cells
from volgrad.errors import DamagedError

TYPES = {"a": pa.float64(), "b": pa.dictionary(pa.int32(), pa.string()), "c": pa.int64()}


def read(content, at_once=1 << 20, pick=None):
    container = open_cells(io.BytesIO(content), "q.csv", at_once)
    blocks = list(container.read(pick or Pick(types=TYPES)))
    tables = [block.table for block in blocks] or [container.empty]
    return pa.concat_tables(tables, promote_options="permissive"), sum(block.malformed for block in blocks), container


def rows_of(table):
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


NUMBERS = st.integers(-(10**6), 10**6)
GOOD = st.tuples(NUMBERS.map(lambda n: n / 4), st.sampled_from(["C", "x y", "é", "a,b", 'say "no"']), NUMBERS)
# a quote inside an unquoted cell, or text after a closing one, is read as it stands
READ = {b'1,b",3': (1.0, 'b"', 3), b'1,"b"c,3': (1.0, "bc", 3), b'1,"b"c"d,3': (1.0, 'bc"d', 3)}
BAD = [b"1,2", b"1,2,3,4", b'1,"b,3', b'1,x"y,"3', b"1,\xff\xfe,3", b'"1,b,3"', b",", b'""', b'1,"""b,3']
LINES = st.one_of(GOOD, st.sampled_from([b"", *READ, *BAD]))


def line_of(row):
    if isinstance(row, bytes):
        return row
    quoted = row[1].replace('"', '""')
    return (
        f'{row[0]},"{quoted}",{row[2]}'.encode() if set(row[1]) & set(',"') else f"{row[0]},{row[1]},{row[2]}".encode()
    )


@given(lines=st.lists(LINES, max_size=30), at_once=st.integers(1, 200), end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_rows_in_are_rows_out_and_lines_counted(lines, at_once, end):
    table, malformed, _ = read(end.join([b"a,b,c", *map(line_of, lines)]) + end, at_once)
    assert rows_of(table) == [READ.get(row, row) for row in lines if row in READ or not isinstance(row, bytes)]
    assert table.num_rows + malformed == len([line for line in lines if line])


@given(st.lists(st.tuples(NUMBERS, st.sampled_from(["1.5", "n.a.", "", "1,5", "1_0", "-"])), min_size=1))
def test_a_cell_that_is_no_number_leaves_its_column_as_text_and_no_other(rows):
    lines = [f"{second if ',' not in second else chr(34) + second + chr(34)},x,{first}" for first, second in rows]
    table, malformed, _ = read("\n".join(["a,b,c", *lines]).encode())
    assert malformed == 0
    assert table["c"].to_pylist() == [first for first, _ in rows]
    missing = [None if text in ("", "-") else text for _, text in rows]
    given_back = table["a"].to_pylist()
    assert [None if cell is None else str(cell) for cell in given_back] == missing


@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_delimiters_and_byte_order_marks(mark, start):
    content = start + f"a{mark}b{mark}c\n1.5{mark}x{mark}7\n".encode()
    assert looks_like_cells(content)
    table, _, container = read(content)
    assert container.names == ("a", "b", "c")
    assert rows_of(table) == [(1.5, "x", 7)]


def test_names_may_be_quoted_and_spaced():
    assert read(b'"a", b ,"c"\n1,2,3\n')[2].names == ("a", "b", "c")


@pytest.mark.parametrize(
    "head",
    [
        b'{"ts": 1, "bid": 2}',
        b'[{"ts": 1, "bid": 2}]',
        b"[[1504541580000, 4235.4]]",
        b"once upon a time",
        b"a,b\0c",
        b"\xff,\xfe",
    ],
)
def test_what_has_no_line_of_names_is_no_text_of_cells(head):
    assert not looks_like_cells(head)


def test_only_a_header():
    table, malformed, container = read(b"a,b,c")
    assert (table.num_rows, malformed, container.notes) == (0, 0, [])


def test_blocks_hold_as_many_rows_as_asked_at_most():
    container = open_cells(io.BytesIO(b"a,b,c\n" + b"1,x,2\n" * 10), "q.csv")
    blocks = list(container.read(Pick(types=TYPES, rows=4)))
    assert [block.table.num_rows for block in blocks] == [4, 4, 2]


def test_types_are_guessed_over_all_rows_where_none_are_given():
    table, _, _ = read(b"a,b,c\n1,x,\n2.5,y,2026-01-01\n", 5, Pick(types=None))
    assert table.schema.types == [pa.float64(), pa.string(), pa.date32()]


def test_a_line_that_does_not_end_is_told():
    assert "no line break" in read(b"a,b,c\n1,x,2\n1,x,2")[2].notes[0]
    assert read(b"a,b,c\n1,x,2\n")[2].notes == []


def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(cells, "LARGEST_LINE", 100)
    assert read(b"a,b,c\n" + b"1,x,2\n" * 100, 30)[0].num_rows == 100
    with pytest.raises(DamagedError, match=r"q\.csv: a line of more than"):
        read(b"a,b,c\n1," + b"x" * 500 + b",2\n", 30)
