"""`volgrad ingest`: files of every kind into one store."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import refuse_misspelt_variables

if TYPE_CHECKING:
    from volgrad.data.ingest import Ingested, Taken

__all__ = ["ingest"]

_INTERRUPTED = 130
_TOLD = 12  # lines of one kind on the terminal; --json tells all


def ingest(
    sources: list[Path],
    /,
    *,
    out: Path,
    underlying: str | None = None,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Read files of quotes, trades, bars and volatility indices into a store.

    A source is recognised by its content: chain snapshots and 5-minute tickers, book summaries, tickers and order
    books (JSON, JSON lines, CSV), recorded WebSocket sessions, Tardis options_chain, ccxt, OKX, Bybit, Binance, any
    table in the canonical columns; plain or compressed. Each is stored whole or not at all; rows that are there
    already are no new rows. Writes rejections.json to the store: every row that was not stored, by source and reason.
    Exit code 1 if some source had to be set aside (the others are stored all the same), or no row could be stored.

    Args:
        sources: Files, or folders of them.
        out: Folder of the store; made if need be, else added to.
        underlying: Such as BTC: of bars and volatility indices whose rows and file name do not say it.
    """
    refuse_misspelt_variables()
    began = time.perf_counter()
    runtime.start()
    from volgrad.data.ingest import ingest as work

    try:
        with _rows_so_far(quiet=common.json) as advance:
            done = work(list(sources), out, underlying=underlying, progress=advance)
    except KeyboardInterrupt:
        print(
            f"volgrad: interrupted; sources that were read whole are in {out}: run it again for the rest.",
            file=sys.stderr,
        )
        return _INTERRUPTED
    seconds = time.perf_counter() - began
    if common.json:
        print_json(_told(done, out, seconds))
    else:
        _show(done, out, seconds)
    return 1 if done.set_aside or not any(one.already or one.stored or one.duplicates for one in done.taken) else 0


@contextmanager
def _rows_so_far(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A line on standard error that counts rows, shown on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _source, _rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda source, rows: bar.update(task, description=f"{Path(source).name}: {rows:,} rows")


def _told(done: "Ingested", out: Path, seconds: float) -> dict[str, Any]:
    return {
        "store": out,
        "wall_s": seconds,
        "sources": [
            {
                "source": one.source,
                "kinds": [{"kind": kind, "dataset": rows, "rows": n} for (kind, rows), n in one.kinds.items()],
                "rows": one.rows,
                "stored": one.stored,
                "duplicates": one.duplicates,
                "rejected": dict(one.rejected),
                "bad_values": {column: dict(counts) for column, counts in one.bad_values.items()},
                "extra_columns": one.extra_columns,
                "notes": one.notes,
                "already": one.already,
            }
            for one in done.taken
        ],
        "set_aside": [{"source": one.source, "why": str(one.error)} for one in done.set_aside],
        "rejections": done.rejections(),
        "notes": list(done.notes),
        "holds": [
            {
                "dataset": one.dataset.value,
                "underlying": one.underlying,
                "rows": one.rows,
                "bytes": one.bytes,
                "partitions": one.partitions,
                "from": _time(one.from_us),
                "to": _time(one.to_us),
            }
            for one in done.store.describe()
        ],
    }


def _show(done: "Ingested", out: Path, seconds: float) -> None:
    console = results_console()

    def say(line: str) -> None:
        # paths may hold what looks like markup, and must come out in one piece
        console.print(line, markup=False, emoji=False, soft_wrap=not console.is_terminal)

    def some(lines: list[str]) -> None:
        for line in lines[:_TOLD]:
            say(line)
        if len(lines) > _TOLD:
            say(f"  ... and {len(lines) - _TOLD:,} more like this: --json tells all")

    read = [one for one in done.taken if not one.already]
    some([_source(one) for one in read])
    if already := [one.source for one in done.taken if one.already]:
        more = f" and {len(already) - 3:,} more" if len(already) > 3 else ""
        say(f"in the store already, byte for byte: {', '.join(already[:3])}{more}")
    some([f"set aside: {one.error}" for one in done.set_aside])
    _show_rejections(done, some)
    some([f"note: {note}" for one in read for note in one.notes] + [f"note: {note}" for note in done.notes])
    for one in done.store.describe():
        say(
            f"{out}: {one.rows:,} {one.dataset.value.replace('_', ' ')} of {one.underlying}, "
            f"{_time(one.from_us)[:16]} to {_time(one.to_us)[:16]} UTC, {one.bytes / 1e6:,.1f} MB"
        )
    rows = sum(one.rows for one in read)
    if rows and seconds > 0:
        say(f"read {rows:,} rows in {seconds:.1f} s")
    if any(one.dataset.value == "quotes" for one in done.store.describe()):
        say(f"look at it: volgrad describe {out}; fit it: volgrad fit {out} --out results")
    else:
        say(f"{out}: no quotes so far")


def _show_rejections(done: "Ingested", some: Callable[[list[str]], None]) -> None:
    from volgrad.data import advice

    rows = done.rejections()
    some(
        [f"rejected: {row['source']}: {row['count']:,} {row['reason']} ({advice(str(row['reason']))})" for row in rows]
    )


def _source(one: "Taken") -> str:
    kinds = ", ".join(
        f"{count:,} {dataset.replace('_', ' ')} ({kind})" for (kind, dataset), count in one.kinds.items() if count
    )
    if unread := one.rows - one.kinds.total():
        kinds += f" and {unread:,} unreadable lines or records"
    parts = [f"{one.source}: {kinds or f'{one.rows:,} rows'}: {one.stored:,} stored"]
    if one.duplicates:
        parts.append(f"{one.duplicates:,} there already or twice in it")
    if lost := one.rejected.total():
        parts.append(f"{lost:,} rejected")
    return ", ".join(parts)


def _time(stamp_us: int) -> str:
    from volgrad.tasks.summary import stamp_text

    return stamp_text(stamp_us)
