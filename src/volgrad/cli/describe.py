"""`volgrad describe`: what quotes are worth for learning, in a table and a page."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, progress
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.cli.fit_files import refuse_store
from volgrad.errors import InputError

if TYPE_CHECKING:
    from volgrad.tasks.description import Description

__all__ = ["describe"]

_NAMES = ("describe.json", "describe.html")


def describe(  # noqa: PLR0913 - a parameter an option
    quotes: list[Path],
    /,
    *,
    out: Annotated[Path, Parameter(show_default=lambda path: f"./{path}")] = Path("volgrad-describe"),
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    underlying: Annotated[list[str] | None, Parameter(negative=())] = None,
    every: str = "5m",
    seed: int = 0,
    report: Annotated[bool, Parameter(negative="--no-report")] = True,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Tell what quotes are worth for learning: how alike, how independent, how stale.

    Prints a table and writes describe.json and describe.html to OUT: what there is, the correlation of quotes within a
    snapshot and its design effect, the memory from snapshot to snapshot, the effective sample size, and how long quotes
    stand unchanged. A choice of batch size may start from these.

    Parameters
    ----------
    quotes
        Stores, files of any kind that volgrad ingest reads, or folders of them.
    out
        Folder for the results; made if need be.
    from_
        First time or day to use, such as 2026-01-05 or 2026-01-05T12:00.
    to
        Last time or day to use, included.
    underlying
        Only these underlyings, such as BTC or BTC,ETH; may be repeated.
    every
        Time from one chain to the next where quotes are single updates (tickers, sessions, Tardis).
    seed
        Seed of the bootstrap behind the intervals.
    report
        Write describe.html; --no-report leaves it out.
    """
    refuse_misspelt_variables()
    began = time.perf_counter()
    _check(out, quotes, seed)
    runtime.start(None)
    refuse_store(out)
    from volgrad.data import build, read_quotes
    from volgrad.tasks.description import PARTS
    from volgrad.tasks.description import describe as work

    with progress("describing", PARTS + 1, at_first="reading quotes", quiet=common.json) as advance:
        read = read_quotes(quotes, from_=from_, to=to, underlying=underlying, every=every)
        built = build(read)
        advance(1)
        found = work(read, built, seed=seed, advance=advance)
    told = _write(found, [path.name for path in quotes], out, began, report)
    if common.json:
        print_json(told)
    else:
        from volgrad.cli.describe_text import show

        show(found, [out / name for name in _NAMES[: 1 + report]])
    return 0


def _check(out: Path, quotes: list[Path], seed: int) -> None:
    if seed < 0:
        raise InputError(f"--seed is {seed}: give a whole number from 0")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    if out.resolve() in {path.resolve() for path in quotes}:
        raise InputError(f"--out {out} is one of the quotes: give another folder for the results")


def _write(found: "Description", names: list[str], out: Path, began: float, report: bool) -> dict[str, Any]:
    """Write the files; the content of describe.json."""
    import msgspec

    from volgrad.data import replacing

    told = {
        "version": volgrad.__version__,
        "command": ["volgrad", *sys.argv[1:]],
        "wall_s": time.perf_counter() - began,
        **msgspec.to_builtins(found),
    }
    if report:
        from volgrad.report.describe_page import write_description

        title = f"What there is to learn from: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        write_description(out / _NAMES[1], found, title=title, summary=told)
    with replacing(out / _NAMES[0]) as file:
        file.write(msgspec.json.format(msgspec.json.encode(told), indent=1))  # NaN and infinities become null
    return told
