"""The simulated market beside the recorded ones, and how fast it is written.

    python -m benchmarks.simulator --seed 0 --json FILE [--months 3] [--days 2]

Simulated: `months` markets of 31 days with a chain every six hours (seeds N, N + 1, ...), as the recorded months
have, and `days` of 5-minute chains; both are written to files by `volgrad simulate`'s own writer and read back.
Recorded: the three months and the two 5-minute days in $VOLGRAD_DATA, else ../shared/data; without them that side is
left out. January and March were looked at while the laws were chosen, and so were the two days of 2023 for how long
quotes stand; May was not.

Speed: whole chains and changes, BTC and ETH, written to files on one core: quotes a second of wall clock and of the
processor's own time, which other work on the machine moves less.
"""

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import cyclopts
import numpy as np

from benchmarks import chains as sources

START = datetime(2026, 1, 1, 3, 16, tzinfo=UTC)
SPEEDS = (("5m", 300.0, 2.0), ("1m", 60.0, 0.4), ("1h", 3600.0, 14.0), ("1d", 86_400.0, 90.0), ("100ms", 0.1, 0.05))


def write(folder: Path, seed: int, every: timedelta, ticks: int, *, changes_only: bool = False) -> int:
    """Write a simulated market of both underlyings; how many quotes."""
    from dataclasses import replace

    from volgrad.simulate.files import write_market
    from volgrad.simulate.market import BITCOIN, ETHER
    from volgrad.simulate.plan import Plan, prepare_folder
    from volgrad.simulate.quoting import REAL

    more: dict[str, Any] = {"start": START, "every": every, "quirks": REAL, "restless": True, "shock": 0.0}
    plan = Plan(seed, (replace(BITCOIN, **more), replace(ETHER, **more)), ticks, changes_only, "benchmark")
    prepare_folder(folder, plan.files())
    return sum(write_market(folder, plan, lambda _moments: None).rows.values())


def measured(files: Sequence[Path], often: bool) -> dict[str, Any]:
    """All statistics of some files, by underlying."""
    from benchmarks.market_dynamics import dynamics, persistence
    from benchmarks.market_statistics import cross_section, read_rows

    found = {}
    for ccy, rows in read_rows(files).items():
        found[ccy] = {"quotes": cross_section(rows), "market": dynamics(rows)}
        if often:
            found[ccy]["lasting"] = persistence(rows)
    return found


def recorded_sides() -> dict[str, dict[str, Any]]:
    """Every recorded month and day by name; empty without data."""
    months = [(file, False) for file in sources.recorded_files()]
    days = [(file, True) for file in sources.recorded_files(sources.DAYS)]
    return {file.stem.removeprefix("deribit_"): measured([file], often) for file, often in (*months, *days)}


def simulated_sides(seed: int, months: int, days: int) -> dict[str, dict[str, Any]]:
    """The same of simulated months and days, each of its own seed."""
    found = {}
    for kind, count, every, ticks in (
        ("month", months, timedelta(hours=6), 124),
        ("day", days, timedelta(minutes=5), 288),
    ):
        for number in range(count):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), seed + number, every, ticks)
                files = sorted(Path(folder).glob("quotes-*.parquet"))
                found[f"{kind}_{seed + number}"] = measured(files, kind == "day")
    return found


def speeds(seed: int) -> dict[str, dict[str, float]]:
    """Quotes a second at several cadences, files and truth included."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), seed, timedelta(minutes=5), 3)  # loads what is loaded once
    for name, seconds, days in SPEEDS:
        ticks = round(days * 86_400.0 / seconds)
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = perf_counter(), process_time()
            quotes = write(Path(folder), seed, timedelta(seconds=seconds), ticks, changes_only=seconds < 60.0)
            wall, cpu = perf_counter() - wall, process_time() - cpu
        found[name] = {
            "quotes": quotes,
            "quotes_per_s": quotes / wall,
            "quotes_per_cpu_s": quotes / cpu,
            "market_s_per_cpu_s": days * 86_400.0 / cpu,
        }
    return found


def flat(told: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures by dotted name."""
    found: dict[str, float] = {}
    for name, value in told.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict):
            found |= flat(value, f"{label} | ")
        elif isinstance(value, list):
            found |= {f"{label} | {share}": item for share, item in zip(("p10", "p50", "p90"), value, strict=True)}
        elif value is not None:
            found[label] = value
    return found


def table(real: dict[str, dict[str, Any]], made: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: one line a statistic and underlying; simulated figures as the range over seeds."""
    lines = []
    for often in (False, True):
        reals = {name: side for name, side in real.items() if ("ticker5m" in name) == often}
        mades = [side for name, side in made.items() if name.startswith("day") == often]
        lines += ["", "| | " + " | ".join([*reals, "simulated, lowest to highest of seeds"]) + " |"]
        lines += ["|---" * (len(reals) + 2) + "|"]
        for ccy in sorted({ccy for side in mades for ccy in side}):
            of_made = [flat(side[ccy]) for side in mades]
            of_real = [flat(side.get(ccy, {})) for side in reals.values()]
            for name in of_made[0]:
                low_high = sorted(one[name] for one in of_made if name in one and np.isfinite(one[name]))
                shown = [_shown(one[name]) if name in one else "" for one in of_real]
                span = " to ".join(dict.fromkeys(_shown(low_high[place]) for place in (0, -1))) if low_high else ""
                lines.append(f"| {ccy}: {name.replace('|', '/')} | " + " | ".join([*shown, span]) + " |")
    return lines


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def main(
    *,
    seed: int = 0,
    months: int = 3,
    days: int = 2,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Measure both sides and the speed, and print a table.

    Args:
        seed: of the first simulated month and day; the others follow.
        months: how many simulated months.
        days: how many simulated days of 5-minute chains.
        json_file: write the figures here.
    """
    sources.on_one_thread("benchmarks.simulator")
    report: dict[str, Any] = {
        "benchmark": "simulator",
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "speed": speeds(seed),
        "simulated": simulated_sides(seed, months, days),
        "recorded": recorded_sides() or "left out: no recorded files (set VOLGRAD_DATA)",
    }
    for name, told in report["speed"].items():
        print(
            f"{name:>6s}: {told['quotes']:9,.0f} quotes, {told['quotes_per_s']:9,.0f} a second of wall clock, "
            f"{told['quotes_per_cpu_s']:9,.0f} of processor; {told['market_s_per_cpu_s']:,.0f} times real time"
        )
    real = report["recorded"] if isinstance(report["recorded"], dict) else {}
    print("\n".join(table(real, report["simulated"])))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.simulator", help=__doc__)
    app.default(main)
    app()
