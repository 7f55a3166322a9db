"""`volgrad simulate`: files of option quotes from a simulated market whose true surface is known."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, progress, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.cli.fit_files import refuse_store
from volgrad.errors import InputError, UnknownOptionError
from volgrad.market.duration import format_duration, parse_duration

if TYPE_CHECKING:
    from volgrad.simulate.market import MarketSettings
    from volgrad.simulate.plan import Plan, Written

__all__ = ["simulate"]

_SHORTEST_US, _LONGEST_US = 100_000, 86_400_000_000  # --every
_MOST_DAYS = 3660.0
_LARGEST_SEED = 2**63 - 1
_FIRST, _LAST = datetime(2016, 1, 1, tzinfo=UTC), datetime(2080, 1, 1, tzinfo=UTC)


def simulate(  # noqa: PLR0913 - a parameter an option
    *,
    out: Annotated[Path, Parameter(show_default=lambda path: f"./{path}")] = Path("volgrad-market"),
    days: float = 1.0,
    every: str = "5m",
    underlying: Annotated[list[str] | None, Parameter(negative=())] = None,
    seed: int = 0,
    start: str = "2026-01-05",
    rows: Literal["auto", "chains", "changes"] = "auto",
    dirty: Annotated[bool, Parameter(negative=())] = False,
    calm: Annotated[bool, Parameter(negative=())] = False,
    common: CommonOptions = CommonOptions(),
) -> None:
    """Write option quotes of a simulated market, and the truth behind them.

    A stochastic volatility with jumps and changes of regime drives a true surface without arbitrage; listed
    expiries and strikes roll as the exchange's do; quotes have spreads, ticks, sizes, missing and stale sides.

    Args:
        out: Folder for quotes-CCY-DAY.parquet, truth.parquet (true volatilities) and market.json (what was
            simulated: regimes, jumps, laws, rates). An earlier simulation there is replaced, other files never.
        days: How long; a fraction will do.
        every: From one chain to the next, 100ms to 1d: 100ms, 1s, 5m, 1h, 1d.
        underlying: BTC, ETH or, by default, both: BTC,ETH; each moves by itself.
        seed: Of the market; the same seed gives the same files.
        start: First moment, ISO 8601, UTC where it has no zone.
        rows: chains = every listed option at every moment; changes = only those whose quote changed (a stream
            of updates); auto = chains from one minute on.
        dirty: More bad rows than the exchange has: crossed and locked quotes, asks of one coin, old forwards.
        calm: No jumps and no changes of regime.
    """
    refuse_misspelt_variables()
    every_us, moments = _moments(days, every)
    names, first = _underlyings(underlying), _moment(start)
    if not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"--seed is {seed}: give a whole number from 0 to {_LARGEST_SEED}.")
    runtime.start()
    began = time.perf_counter()
    from volgrad.simulate.files import write_market
    from volgrad.simulate.plan import CHANGES_BELOW_US, Plan, prepare_folder

    changes = rows == "changes" or (rows == "auto" and every_us < CHANGES_BELOW_US)
    markets = _markets(names, first, every_us, dirty=dirty, calm=calm)
    plan = Plan(seed, markets, moments, changes, volgrad.__version__)
    refuse_store(out)
    prepare_folder(out, plan.files())
    with progress("simulating", moments * len(markets), quiet=common.json) as advance:
        written = write_market(out, plan, advance)
    told = _told(out, plan, written, time.perf_counter() - began)
    if common.json:
        print_json(told)
    else:
        _show(told)


def _moments(days: float, every: str) -> tuple[int, int]:
    """Microseconds from one moment to the next, and how many moments there are."""
    every_us = parse_duration(every, "--every")
    if not _SHORTEST_US <= every_us <= _LONGEST_US:
        raise InputError(f"--every is {every}: give a length from 100ms to 1d.")
    if not 0.0 < days <= _MOST_DAYS:  # True for NaN
        raise InputError(f"--days is {days:g}: give a number above 0 and at most {_MOST_DAYS:g}.")
    return every_us, max(-(-round(days * _LONGEST_US) // every_us), 1)


def _underlyings(given: list[str] | None) -> list[str]:
    names = [name.strip().upper() for text in given or ["BTC,ETH"] for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ("BTC", "ETH"):
            raise UnknownOptionError.of("underlying", name, ("BTC", "ETH"))
    if not names:
        raise InputError("--underlying names nothing: give BTC, ETH or BTC,ETH.")
    return list(dict.fromkeys(names))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"--start is {text!r}: write 2026-01-31, 2026-01-31T08:00 or 2026-01-31T08:00:00Z.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not _FIRST <= moment <= _LAST:
        raise InputError(f"--start is {text}: give a time from {_FIRST.year} to {_LAST.year}.")
    return moment


def _markets(
    names: list[str], start: datetime, every_us: int, *, dirty: bool, calm: bool
) -> "tuple[MarketSettings, ...]":
    from volgrad.simulate.market import BITCOIN, ETHER
    from volgrad.simulate.quoting import DIRTY, REAL

    known = {"BTC": BITCOIN, "ETH": ETHER}
    more = {
        "start": start,
        "every": timedelta(microseconds=every_us),
        "quirks": DIRTY if dirty else REAL,
        "restless": not calm,
        "shock": 0.0,
    }
    return tuple(replace(known[name], **more) for name in names)


def _told(out: Path, plan: "Plan", written: "Written", wall_s: float) -> dict[str, Any]:
    """The result, for `--json` and for the text alike."""
    quotes = sum(written.rows.values())
    return {
        "version": volgrad.__version__,
        "command": "simulate",
        "seed": plan.seed,
        "every": format_duration(plan.every_us),
        "moments": plan.ticks,
        "rows": "changes" if plan.changes_only else "chains",
        "underlyings": [market.ccy for market in plan.markets],
        "quotes": quotes,
        "truth_rows": written.truth_rows,
        "quotes_per_s": quotes / wall_s,
        "wall_s": wall_s,
        "out": out,
        "files": [*written.rows, "truth.parquet", "market.json"],
    }


def _show(told: dict[str, Any]) -> None:
    console = results_console()
    what = "changed quotes" if told["rows"] == "changes" else "quotes"
    many = "moments" if told["moments"] > 1 else "moment"
    console.print(
        f"{told['quotes']:,} {what} of {' and '.join(told['underlyings'])} at {told['moments']:,} {many}, "
        f"{told['every']} apart, in {told['wall_s']:.1f} s ({told['quotes_per_s']:,.0f} a second)."
    )
    from rich.markup import escape

    files = len(told["files"]) - 2
    console.print(f"Written to [bold]{escape(str(told['out']))}[/]: {files} files of quotes,", soft_wrap=True)
    console.print("truth.parquet (the true volatilities) and market.json (what was simulated).")
