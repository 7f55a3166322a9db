"""Opening quote files: Parquet, Arrow IPC and CSV, told by their first bytes; what cannot be read is set
aside by name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from volgrad.data.schema import CANONICAL
from volgrad.errors import EmptyInputError, InputError

__all__ = ["Opened", "Quarantined", "expand", "is_table", "open_file"]

SUFFIXES = (".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
_JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
# first bytes of a compressed file -> how it was compressed; sources: RFC 1952, RFC 8878, and the formats' own texts
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_MISSING_CELLS = ["", "null", "NULL", "None", "nan", "NaN", "NA", "N/A", "-"]


@dataclass(frozen=True)
class Quarantined:
    """A file that was set aside, and why; the others are read. `error` is what to raise where none is
    left.
    """

    file: str
    why: str
    error: type[InputError] = InputError


@dataclass(frozen=True)
class Opened:
    """The content of a file: the columns read, the names of all, and how many lines of a CSV file had to be
    skipped because they held the wrong number of cells.
    """

    table: pa.Table
    names: tuple[str, ...]
    malformed_rows: int = 0


def is_table(source: object) -> bool:
    """Whether `source` offers the Arrow stream interface (pyarrow, Polars, pandas, DuckDB).

    >>> is_table(pa.table({"a": [1]})), is_table("quotes.parquet")
    (True, False)
    """
    return hasattr(source, "__arrow_c_stream__")


def expand(path: str | Path) -> list[Path]:
    """A file as it is; a directory as its data files (at any depth, in order of name; hidden and temporary
    ones not).

    Raises:
        InputError: nothing there, or a directory without a data file.

    >>> expand("no/such/file.parquet")
    Traceback (most recent call last):
    ...
    volgrad.errors.InputError: no/such/file.parquet: no such file or directory; check the path.
    """
    where = Path(path)
    if not where.exists():
        raise InputError(f"{where}: no such file or directory; check the path.", file=str(where))
    if not where.is_dir():
        return [where]
    inside = sorted(p for p in where.rglob("*") if p.is_file() and not _hidden(p.relative_to(where)))
    files = [p for p in inside if p.name.lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(
            f"{where}: no data file in this directory ({len(inside)} files, none of {', '.join(SUFFIXES)}).",
            file=str(where),
        )
    return files


def _hidden(inside: Path) -> bool:
    return any(part.startswith((".", "_")) for part in inside.parts)


def open_file(path: Path, columns: Iterable[str] | None = None) -> Opened | Quarantined:
    """Read one file; a damaged or foreign one comes back as :class:`Quarantined`, never as an exception.

    Args:
        path: an existing file.
        columns: names worth reading when the format can skip the others (None: all).
    """
    name = str(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
        if not head:
            return Quarantined(name, "the file is empty (0 bytes): nothing to read.", EmptyInputError)
        if head[:4] == b"PAR1":
            return _read_parquet(path, columns)
        if head[:6] == b"ARROW1":
            with pa.memory_map(name) as mapped, pyarrow.ipc.open_file(mapped) as reader:
                return _checked(reader.read_all())
        if head[:4] == b"\xff\xff\xff\xff":
            with path.open("rb") as stream, pyarrow.ipc.open_stream(stream) as reader:
                return _checked(reader.read_all())
        if name.lower().endswith(_CSV_SUFFIXES):
            return _read_csv(path)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, MemoryError) as error:
        return Quarantined(name, f"damaged or cut short ({_first_sentence(error)}); fetch it again or leave it out.")
    return Quarantined(name, _foreign(path, head))


def _foreign(path: Path, head: bytes) -> str:
    """What a file that is none of the known formats is, and what to do.

    >>> _foreign(Path("book.txt.gz"), b"\\x1f\\x8b\\x08\\x00")
    'no file of quotes: it is compressed (gzip); unpack it and give Parquet, Arrow IPC or CSV.'
    """
    said = f"its name says {path.suffix} but" if path.name.lower().endswith(SUFFIXES) else "no file of quotes:"
    packed = next((how for magic, how in _PACKED.items() if head.startswith(magic)), None)
    if _JSON_SUFFIXES & {suffix.lower() for suffix in path.suffixes[-2:]}:
        what = "it is JSON" if packed is None else f"it is compressed JSON ({packed})"
        columns = ", ".join(column.name for column in CANONICAL if column.required)
        return f"{said} {what}; convert it to a quote table ({columns}) in Parquet or CSV."
    if packed is not None:
        return f"{said} it is compressed ({packed}); unpack it and give Parquet, Arrow IPC or CSV."
    return f"{said} it starts with {head!r}; give Parquet, Arrow IPC or CSV."


def _checked(table: pa.Table, names: Iterable[str] | None = None, malformed_rows: int = 0) -> Opened:
    """What was read, once offsets, dictionary indices and UTF-8 are known to be sound (a flipped byte may
    load).
    """
    table.validate(full=True)
    for column in table.schema:
        _ = column.name, getattr(column.type, "tz", None)  # text, too
    return Opened(table, tuple(table.column_names if names is None else names), malformed_rows)


def _read_parquet(path: Path, columns: Iterable[str] | None) -> Opened:
    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        wanted = None if columns is None else [c for c in names if c in set(columns)]
        return _checked(file.read(columns=wanted), names)


def _read_csv(path: Path) -> Opened:
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    cells = pyarrow.csv.ConvertOptions(null_values=_MISSING_CELLS, strings_can_be_null=True)
    try:
        table = pyarrow.csv.read_csv(
            path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter), convert_options=cells
        )
    except pa.ArrowInvalid as error:
        if "CSV parse error: Expected" not in str(error):
            raise
        return _read_ragged_csv(path, delimiter, cells)
    return _checked(table)


def _read_ragged_csv(path: Path, delimiter: str, cells: pyarrow.csv.ConvertOptions) -> Opened:
    """Skip and count lines with the wrong number of cells. Latin-1: a damaged line need not be UTF-8."""
    malformed: list[int] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append(row.expected_columns)
        return "skip"

    parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
    reading = pyarrow.csv.ReadOptions(encoding="latin-1")
    table = pyarrow.csv.read_csv(path, read_options=reading, parse_options=parsing, convert_options=cells)
    byte_order_mark = "\u00ef\u00bb\u00bf"
    names = [name.removeprefix(byte_order_mark) for name in table.column_names]
    return _checked(table.rename_columns(names), malformed_rows=len(malformed))


def _first_sentence(error: Exception) -> str:
    return str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
