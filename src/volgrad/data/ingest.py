"""Sources of every kind into a store: streamed, judged row by row, each source whole or not at all."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.canonical import Canonical
from volgrad.data.columns import text_codes
from volgrad.data.files import expand, is_table
from volgrad.data.reasons import Reason
from volgrad.data.store import Store, Writer, is_store
from volgrad.data.store.identity import KIND
from volgrad.data.store.layout import is_underlying
from volgrad.data.stream import stream
from volgrad.data.write import replacing
from volgrad.errors import EmptyInputError, InputError

__all__ = ["Ingested", "SetAside", "Taken", "ingest"]

_COMMIT_ROWS = 4_000_000  # what a crash may cost: some seconds of reading


@dataclass
class Taken:
    """What became of one source.

    Attributes:
        source: path as it was given, or `table`.
        kinds: how it was recognised, and what its rows are: rows by (kind, dataset).
        rows: rows read, those that could not be read as rows included.
        stored: rows that are in the store now and were not before.
        duplicates: rows that were there already, or came twice.
        rejected: reason -> rows that are not in the store.
        bad_values: column -> what (nan, negative, zero, cap) -> volatilities that are none; their rows are stored.
        extra_columns: columns that are not stored.
        notes: sentences on what had to be assumed.
        already: whether the whole source was in the store, byte for byte, and was not read again.
    """

    source: str
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: int = 0
    stored: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    bad_values: dict[str, Counter[str]] = field(default_factory=dict)
    extra_columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    already: bool = False


@dataclass(frozen=True)
class SetAside:
    """A source of which nothing was stored, and why."""

    source: str
    error: InputError


@dataclass(frozen=True)
class Ingested:
    """What became of every source, in the order given; `store` as it is now; what the store had to tell."""

    taken: list[Taken]
    set_aside: list[SetAside]
    store: Store
    notes: tuple[str, ...]

    def rejections(self) -> list[dict[str, str | int]]:
        """Rows of this run that were rejected: one record a source and reason."""
        return _records((one.source, one.rejected) for one in self.taken)

    def all_rejections(self) -> list[dict[str, str | int]]:
        """The content of `rejections.json`: likewise, of everything that was ever read into the store."""
        return _records((one.entry.name, one.entry.rejections) for one in self.store.sources)


def ingest(
    sources: Any,
    out: str | Path,
    *,
    underlying: str | None = None,
    progress: Callable[[str, int], None] = lambda _source, _rows: None,
) -> Ingested:
    """Read every source into the store at `out`, which is made if need be.

    A source that is damaged, foreign or in the wrong unit is set aside by name, nothing of it is stored, and the others
    are read. Rows that the store has already are no new rows. `rejections.json` in the store lists what was rejected.

    Args:
        sources: paths (files or folders) and tables with `__arrow_c_stream__` (pyarrow, Polars, pandas, DuckDB), one or
            a list of them.
        out: folder of the store; made if need be.
        underlying: such as BTC, of bars and indices whose rows and file name do not say it.
        progress: called with a source's name and its rows so far.

    Raises:
        InputError: no such source, or `out` is something else.
        EmptyInputError: there is no source, or none of them could be read.
        WorkError: the store cannot be written to, or another process is writing to it.

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> now, then = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 27, 8, tzinfo=UTC)
    >>> table = pa.table({"ts": [now] * 2, "ccy": ["BTC"] * 2, "expiry": [then] * 2, "strike": [9e4, -1.0],
    ...                   "cp": ["C", "C"], "bid": [0.05, 0.05], "ask": [0.06, 0.06]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = ingest([table, table], folder)
    >>> [(one.rows, one.stored, one.duplicates, dict(one.rejected)) for one in done.taken]
    [(2, 1, 0, {'bad_strike': 1}), (2, 0, 1, {'bad_strike': 1})]
    """
    out = Path(out)
    listed = _listed([sources] if is_table(sources) or isinstance(sources, str | Path) else list(sources), out)
    taken: list[Taken] = []
    aside: list[SetAside] = []
    made = not is_store(out)
    store = Store.create(out) if made else Store.open(out)
    with store.writer() as writer:
        waiting = 0
        for item in listed:
            name = str(item) if isinstance(item, Path) else "table"
            try:
                taken.append(_take(item, name, writer, underlying, progress))
            except InputError as error:
                aside.append(SetAside(name, error))
                continue
            except KeyboardInterrupt:
                writer.commit()  # what was read whole is kept
                raise
            waiting += taken[-1].stored
            if waiting > _COMMIT_ROWS:
                writer.commit()
                waiting = 0
        writer.commit()
        notes = tuple(writer.notes)
    if not taken:
        if made:
            store.remove_empty()
        first = aside[0].error
        more = f" Nor could {len(aside) - 1} more be read." if len(aside) > 1 else ""
        raise type(first)(f"{first}{more}", file=first.file)
    done = Ingested(taken, aside, Store.open(out), notes)
    with replacing(out / "rejections.json") as file:
        file.write(msgspec.json.format(msgspec.json.encode(done.all_rejections()), indent=1))
    return done


def _records(of: Iterable[tuple[str, Mapping[str, int]]]) -> list[dict[str, str | int]]:
    return [
        {"source": source, "reason": reason, "count": count}
        for source, counts in of
        for reason, count in Counter(counts).most_common()
    ]


def _listed(sources: list[Any], out: Path) -> list[Any]:
    """Files (folders opened up, each once, nothing of the store itself) and tables."""
    listed: list[Any] = []
    root, seen = out.resolve(), set()
    for source in sources:
        if is_table(source):
            listed.append(source)
            continue
        if is_store(Path(source)):
            raise InputError(
                f"{source} is a store already: `volgrad fit {source}` reads it; give its sources to ingest."
            )
        for path in expand(source):
            real = path.resolve()
            if real not in seen and real != root and root not in real.parents and not is_store(path):
                seen.add(real)
                listed.append(path)
    if not listed:
        raise EmptyInputError("ingest: no source was given; name at least one file or folder.")
    return listed


def _take(item: Any, name: str, writer: Writer, underlying: str | None, progress: Callable[[str, int], None]) -> Taken:
    told = Taken(name)
    digest = _digest(item) if isinstance(item, Path) else None
    if digest is not None and writer.has_source(digest):
        told.already = True
        return told
    blocks = stream(item, name=name, underlying=underlying)
    first = next(blocks)
    writer.begin(name, first.kind.value, digest)
    try:
        for block in itertools.chain([first], blocks):
            block = _named(block, told)
            sound = _judge(block, told)
            if sound.size:
                rows = block.table if sound.size == block.table.num_rows else block.table.take(pa.array(sound))
                added = writer.add(block.dataset, rows.append_column(KIND, _constant(block.kind.value, sound.size)))
                told.stored += added.rows
                told.duplicates += added.duplicates
            progress(name, told.rows)
        if not told.rows:
            raise EmptyInputError(f"{name}: a header but no row; nothing to store.", file=name)
    except (InputError, KeyboardInterrupt):
        writer.drop()
        raise
    writer.end(told.rejected, told.notes)
    return told


def _named(block: Canonical, told: Taken) -> Canonical:
    """The block with underlyings as folders are named: upper case; others are rejected."""
    names, codes = text_codes(block.table["ccy"])
    upper = [name.strip().upper() for name in names]
    if all(map(is_underlying, names)):
        return block
    stored = ", ".join(f"{a} as {b}" for a, b in zip(names, upper, strict=True) if a != b and is_underlying(b))
    if stored and (note := f"{told.source}: the underlying {stored}") not in told.notes:
        told.notes.append(note)
    wrong = np.array([not is_underlying(name) for name in upper] + [False])[codes]
    entries = sorted(set(upper))
    number = np.array([entries.index(name) for name in upper] + [-1], np.int32)[codes]
    column = pa.DictionaryArray.from_arrays(pa.array(number, mask=number < 0), pa.array(entries, pa.string()))
    reason = np.where((block.reason == 0) & wrong, np.int8(Reason.BAD_UNDERLYING), block.reason)
    place = block.table.column_names.index("ccy")
    return replace(block, table=block.table.set_column(place, "ccy", column), reason=reason)


def _judge(block: Canonical, told: Taken) -> Int[np.ndarray, " sound"]:
    """Account for every row of a block; the rows that can be stored."""
    told.rows += block.table.num_rows + block.malformed
    told.kinds[block.kind.value, block.dataset.value] += block.table.num_rows
    told.notes += [note for note in block.notes if note not in told.notes]
    told.extra_columns += [name for name in block.extra if name not in told.extra_columns]
    for column, counts in block.bad_values.items():
        told.bad_values.setdefault(column, Counter()).update(counts)
    if block.malformed:
        told.rejected[Reason.MALFORMED.label] += block.malformed
    counts = np.bincount(block.reason, minlength=1)
    for code in np.flatnonzero(counts[1:]) + 1:
        told.rejected[Reason(int(code)).label] += int(counts[code])
    return np.flatnonzero(block.reason == 0)


def _constant(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], pa.string()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
