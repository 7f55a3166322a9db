"""Text of cells (CSV, TSV, semicolons) as a stream of blocks.

A line break always ends a row: a stray quote costs its own line and no other. A line whose cells are not as many
as the header's, or whose quotes or letters (UTF-8) make no sense, is skipped and counted. A cell that does not
read as its column's type leaves that column of the block as text, for the caller to judge cell by cell.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from volgrad.data.containers.block import Block, Container, Pick
from volgrad.data.containers.packed import LARGEST_LINE
from volgrad.errors import DamagedError

__all__ = ["looks_like_cells", "open_cells"]

_READ = 8 << 20
_BOM = b"\xef\xbb\xbf"
_MISSING_CELLS = ["", "null", "NULL", "None", "nan", "NaN", "NA", "N/A", "-"]
_DELIMITERS = b",\t;"
_JSON = re.compile(rb"\s*(\{|\[\s*[\[{\"0-9-])")
_NAME = re.compile(r'[^"{}\x00-\x1f\x7f]{1,64}')


def looks_like_cells(head: bytes) -> bool:
    """Whether a text that starts with `head` has a first line of column names.

    >>> [looks_like_cells(head) for head in (b"ts,ccy,expiry\\n", b'{"ts": 1, "ccy": 2}\\n', b"once upon a time")]
    [True, False, False]
    """
    line = head.removeprefix(_BOM).split(b"\n")[0].split(b"\r")[0]
    if b"\0" in line or _JSON.match(line):
        return False
    try:
        names = _names(line)
    except UnicodeDecodeError:
        return False
    return len(names) > 1 and all(_NAME.fullmatch(name) for name in names if name)


def _delimiter(line: bytes) -> bytes:
    return max((bytes([mark]) for mark in _DELIMITERS), key=line.count)


def _names(line: bytes) -> list[str]:
    text = line.decode("utf-8")
    cells = next(csv.reader([text], delimiter=_delimiter(line).decode()), [])
    return [cell.strip() for cell in cells]


def open_cells(stream: BinaryIO, source: str, at_once: int = _READ) -> Container:
    """A container of the cells of `stream`, whose first line holds the names of the columns.

    Args:
        stream: the text, unpacked.
        source: for messages.
        at_once: bytes of a block, about.

    Raises (then and while it is read):
        DamagedError: a line that does not end.
        OSError, EOFError, pyarrow.ArrowException: as reading `stream` does.
    """
    blocks = _line_blocks(stream, source, at_once)
    first = next(blocks, b"").removeprefix(_BOM)
    header, _, rest = first.partition(b"\n")
    names, delimiter = _names(header), _delimiter(header)
    notes: list[str] = []

    def read(pick: Pick) -> Iterator[Block]:
        parser = _Parser(names, delimiter, pick)
        last = rest
        if pick.types is None:
            yield parser.parse(rest + b"".join(blocks))
            return
        if rest:
            yield from _sliced(parser.parse(rest), pick.rows)
        for last in blocks:
            yield from _sliced(parser.parse(last), pick.rows)
        if last and not last.endswith(b"\n"):
            notes.append(
                f"{source}: its last line has no line break; if the file was cut there, the last cell is short"
            )

    return Container(
        tuple(names), read, pa.table({name: pa.nulls(0, pa.string()) for name in dict.fromkeys(names)}), notes
    )


def _sliced(block: Block, rows: int) -> Iterator[Block]:
    yield Block(block.table.slice(0, rows), block.malformed)
    for start in range(rows, block.table.num_rows, rows):
        yield Block(block.table.slice(start, rows))


def _line_blocks(stream: BinaryIO, source: str, at_once: int) -> Iterator[bytes]:
    """Whole lines, about `at_once` bytes at a time, with `\\n` for every kind of line break."""
    while data := stream.read(at_once):
        if not data.endswith(b"\n"):
            data += stream.readline(LARGEST_LINE + 1)
        if len(data) > LARGEST_LINE and b"\n" not in data[-LARGEST_LINE:]:
            raise DamagedError(
                f"{source}: a line of more than {LARGEST_LINE >> 20} MiB; no table of quotes has one: "
                "leave the file out or fetch it again.",
                file=source,
            )
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield data


class _Parser:
    """Lines -> tables of the columns and types that were picked."""

    def __init__(self, names: list[str], delimiter: bytes, pick: Pick) -> None:
        self._names, self._delimiter = names, delimiter
        self._columns = pick.of(names)
        self._types: Mapping[str, pa.DataType] | None = pick.types
        if pick.types is not None:
            self._types = {name: pick.types.get(name, pa.string()) for name in self._columns}
        # as Arrow reads a cell: quoted to its closing quote and on to the delimiter, or unquoted, or empty
        cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"[^%b]*+|[^"%b][^%b]*+|)' % (delimiter, delimiter, delimiter)
        self._quoted_line = re.compile(rb"%b(?:%b%b){%d}" % (cell, delimiter, cell, len(names) - 1))

    def parse(self, lines: bytes) -> Block:
        """A block of whole lines; those that cannot be taken apart are counted."""
        try:
            table = self._typed(lines)
            # a stray quote can swallow line breaks: then there are fewer rows than lines
            if b'"' not in lines or table.num_rows == _lines(lines):
                return Block(table)
        except pa.ArrowInvalid:
            pass  # what is wrong, and where, is found out below
        given = [line for line in lines.split(b"\n") if line]
        sound = [line for line in given if self._sound(line)]
        joined = b"\n".join(sound)
        try:
            table = self._typed(joined)
        except pa.ArrowInvalid:
            table = self._partly_typed(joined)
        if table.num_rows != len(sound):
            raise pa.ArrowInvalid(f"{len(sound)} lines gave {table.num_rows} rows")
        return Block(table, len(given) - len(sound))

    def _sound(self, line: bytes) -> bool:
        if not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return False
        if b'"' in line:
            return self._quoted_line.fullmatch(line) is not None
        return line.count(self._delimiter) == len(self._names) - 1

    def _partly_typed(self, lines: bytes) -> pa.Table:
        """The columns that hold what they should in its type, the others as text."""
        table = self._read(lines, {name: pa.string() for name in self._columns})
        for name, dtype in (self._types or {}).items():
            if pa.types.is_dictionary(dtype):
                column = table[name].dictionary_encode()
            else:
                try:
                    column = table[name].cast(dtype)
                except pa.ArrowInvalid:
                    continue
            table = table.set_column(table.column_names.index(name), name, column)
        return table

    def _typed(self, lines: bytes) -> pa.Table:
        return self._read(lines, self._types)

    def _read(self, lines: bytes, types: Mapping[str, pa.DataType] | None) -> pa.Table:
        if not lines or lines.isspace():
            known = types or {}
            return pa.table({name: pa.nulls(0, known.get(name, pa.string())) for name in self._columns})
        return pyarrow.csv.read_csv(
            pa.BufferReader(lines),
            read_options=pyarrow.csv.ReadOptions(
                column_names=self._names, use_threads=False, block_size=len(lines) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self._delimiter.decode()),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=self._columns,
                column_types=types,
                null_values=_MISSING_CELLS,
                strings_can_be_null=True,
            ),
        )


def _lines(lines: bytes) -> int:
    """Lines that are not empty."""
    return lines.count(b"\n") + (not lines.endswith(b"\n")) - lines.count(b"\n\n") - lines.startswith(b"\n")
