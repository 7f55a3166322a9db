"""`volgrad demo`: see it work, offline: fit a simulated market whose true surface is known."""

import math
import shlex
import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from volgrad.cli.demo_run import Look
    from volgrad.tasks.fit import Fitter

__all__ = ["demo"]

_FRAME_S = 0.08  # least time from one picture to the next
_LINES = 12  # on output that is no terminal
_LONGEST_S = 300.0
_INTERRUPTED = 130


@dataclass
class _Run:
    """What was done so far; Ctrl-C may end it anywhere."""

    seed: int
    seconds: float
    planned: int
    threads: int
    fitter: "Fitter"
    looks: "list[Look]" = field(default_factory=list)
    interrupted: bool = False


def demo(
    *,
    out: Annotated[Path, Parameter(show_default=lambda path: f"./{path}")] = Path("volgrad-demo"),
    seconds: float = 20.0,
    seed: int = 0,
    threads: int = 1,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Fit a simulated market, live, and compare with its true surface. Needs no data and no network.

    Option quotes of an exchange are simulated from a known arbitrage-free surface, with a volatility shock
    half-way; each chain is fitted from quotes alone, certified, and compared with the truth.

    Args:
        out: Folder for report.html, quotes.parquet (what was fitted) and truth.parquet.
        seconds: Longest to fit, 8 chains a second; compilation on the first run and the report come on top.
        seed: Of the simulated market.
        threads: Most threads to use; chains of this size are fastest on one (measured).
    """
    _check(out, seconds, seed)
    began = time.perf_counter()
    refuse_misspelt_variables()
    cache = runtime.start(threads)
    from volgrad.cli.demo_run import plan, rehearse
    from volgrad.tasks.fit import FitOptions, Fitter

    console = _progress_console(quiet=common.json)
    chains, fitter = plan(seconds), Fitter(FitOptions(warm=True))
    kept = "" if cache is None else f", kept in {cache}"
    with _status(console, f"Compiling the fit (once{kept})"):
        rehearse(seed, chains, fitter, time.perf_counter)
    run = _Run(seed, seconds, chains, threads, fitter)
    try:
        _watch(run, console)
    except KeyboardInterrupt:
        run.interrupted = True
    if not run.looks:
        raise KeyboardInterrupt
    with _status(console, "Writing the report"):
        files = _write(run, out, began)
    told = _told(run, files, time.perf_counter() - began)
    if common.json:
        print_json(told)
    else:
        _show(told)
    return _INTERRUPTED if run.interrupted else 0


def _check(out: Path, seconds: float, seed: int) -> None:
    """Refuse before any work what would fail after it."""
    if not 0.0 < seconds <= _LONGEST_S:  # True for NaN
        raise InputError(f"--seconds is {seconds:g}: give how long to fit, above 0 and at most {_LONGEST_S:g}.")
    if seed < 0:
        raise InputError(f"--seed is {seed}: give a whole number from 0 upwards.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder.")
    out.mkdir(parents=True, exist_ok=True)


def _progress_console(*, quiet: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=True, highlight=False, quiet=quiet, soft_wrap=not sys.stderr.isatty())


def _status(console: "Console", what: str) -> Any:
    """A spinner on a terminal, a line elsewhere."""
    if console.is_terminal and not console.quiet:
        return console.status(f"{what} ...")
    console.print(f"{what} ...")
    return nullcontext()


def _watch(run: _Run, console: "Console") -> None:
    """Fit chain after chain while showing it: a picture on a terminal, some lines elsewhere."""
    from rich.live import Live

    from volgrad.cli.demo_run import follow
    from volgrad.cli.live_view import SMALLEST, LiveView, told

    clock = time.perf_counter
    roomy = console.width >= SMALLEST[0] and console.height >= SMALLEST[1]
    pictures = console.is_terminal and roomy and not (console.quiet or console.options.ascii_only)
    every = max(run.planned // _LINES, 1)
    began, view, shown_s, told_to = clock(), None, -math.inf, -every
    with Live(console=console, auto_refresh=False) if pictures else nullcontext() as live:
        for look in follow(run.seed, run.planned, run.fitter, run.seconds, clock):
            run.looks.append(look)
            done = look.number + 1
            if live is None:
                if look.number >= told_to + every or look.stage == "at":
                    console.print(told(look, run.planned))
                    told_to = look.number
                continue
            view = view or LiveView(run.planned, look)
            view.add(look, (clock() - began) / done * (run.planned - done))
            if clock() - shown_s >= _FRAME_S or look.stage == "at" or done == run.planned:
                live.update(view, refresh=True)
                shown_s = clock()


def _write(run: _Run, out: Path, began: float) -> dict[str, Path]:
    """Write the quotes, the truth and the report; where each lies."""
    import pyarrow as pa

    from volgrad.data import write_table
    from volgrad.report import write_report
    from volgrad.report.shown import chain_name

    files = {name: out / name for name in ("report.html", "quotes.parquet", "truth.parquet")}
    write_table(files["quotes.parquet"], pa.concat_tables([look.simulated.quotes for look in run.looks]))
    write_table(files["truth.parquet"], _truth_table(run.looks))
    truths = {look.simulated.ts_us: look.simulated.truth for look in run.looks}
    shock = next((look for look in run.looks if look.stage == "at"), None)
    fitted = [look.fitted for look in run.looks]
    write_report(
        files["report.html"],
        fitted,
        title=f"volgrad demo: simulated {run.looks[0].simulated.ccy} options, seed {run.seed}",
        summary={
            "version": volgrad.__version__,
            "command": ["volgrad", *sys.argv[1:]],
            "wall_s": time.perf_counter() - began,
            "compile_s": run.fitter.compile_seconds,
            "threads": run.threads,
            "mode": "single",
        },
        chains=() if shock is None else (chain_name(shock.fitted),),
        truth=lambda chain: truths[chain.ts_us],
    )
    return files


def _truth_table(looks: "list[Look]") -> Any:
    """True volatilities (fractions) of every expiry, at 25 places within three ATM standard deviations."""
    import numpy as np
    import pyarrow as pa

    stamps, codes, years, moneyness, vols = [], [], [], [], []
    reach = np.linspace(-3.0, 3.0, 25)
    for look in looks:
        simulated = look.simulated
        tau = simulated.expiry_years[:, None]
        k = np.sqrt(simulated.truth.total_variance(0.0, tau)) * reach
        stamps.append(np.full(k.size, simulated.ts_us))
        codes += [simulated.ccy] * k.size
        years.append(np.broadcast_to(tau, k.shape).ravel())
        moneyness.append(k.ravel())
        vols.append(simulated.truth.implied_vol(k, tau).ravel())
    return pa.table(
        {
            "ts": pa.array(np.concatenate(stamps), pa.timestamp("us", "UTC")),
            "ccy": codes,
            "tau_years": np.concatenate(years),
            "k": np.concatenate(moneyness),
            "iv": np.concatenate(vols),
        }
    )


def _told(run: _Run, files: dict[str, Path], wall_s: float) -> dict[str, Any]:
    """The result, for `--json` and for the table alike."""
    import numpy as np

    from volgrad.cli.demo_run import table

    looks = run.looks
    warm = [look.fit_ms for look in looks if look.fitted.warm and not look.compiled]
    cold = [look.cold_ms for look in looks if look.cold_ms is not None]
    return {
        "version": volgrad.__version__,
        "command": "demo",
        "ccy": looks[0].simulated.ccy,
        "seed": run.seed,
        "chains": len(looks),
        "planned": run.planned,
        "seconds": run.seconds,
        "threads": run.threads,
        "interrupted": run.interrupted,
        "quotes": sum(look.fitted.chain.n_rows for look in looks),
        "stages": table(looks),
        "cold_ms_p50": float(np.median(cold)) if cold else None,
        "warm_ms_p50": float(np.median(warm)) if warm else None,
        "compile_s": run.fitter.compile_seconds,
        "wall_s": wall_s,
        "files": files,
    }


def _show(told: dict[str, Any]) -> None:
    console = results_console()
    console.print()
    if told["interrupted"]:
        console.print(f"Stopped by Ctrl-C after {told['chains']} of {told['planned']} chains.", style="yellow")
    elif told["chains"] < told["planned"]:
        console.print(
            f"Fitted {told['chains']} of {told['planned']} chains: no time for more in {told['seconds']:g} s."
        )
    console.print(_result_table(told["stages"]))
    console.print("Errors: root mean squares against the true surface, in volatility points.")
    from rich.markup import escape

    cold, warm = (f"{told[key]:.0f} ms" if told[key] else "not timed" for key in ("cold_ms_p50", "warm_ms_p50"))
    console.print(f"A chain, fit and certificate, p50: {cold} cold, {warm} warm (from the last chain);")
    console.print(f"compilation apart: {told['compile_s']:.1f} s of {told['wall_s']:.0f} s in all.\n")
    files = told["files"]
    console.print(f"Look at the report:     [bold]{escape(str(files['report.html']))}[/]", soft_wrap=True)
    program = escape("volgrad" if shutil.which("volgrad") else sys.argv[0])
    console.print(f"Next, your own quotes:  [bold]{program} fit YOUR.parquet --out DIR[/]", soft_wrap=True)
    quotes = shlex.quote(str(files["quotes.parquet"]))
    console.print(f"or those of this demo:  [bold]{program} fit {escape(quotes)} --out DIR[/]", soft_wrap=True)


def _result_table(stages: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("vol\nshock")
    errors = ("error\nof fit", "of raw\nmids", "ATM error\nof fit", "of raw\nmids")
    for heading in ("\nchains", *errors, "inside\nbid-ask", "\narbitrage"):
        table.add_column(heading, justify="right")
    for row in stages:
        values = [
            f"{row[name]:.2f}"
            for name in (
                "rmse_vol_points",
                "mid_rmse_vol_points",
                "atm_rmse_vol_points",
                "mid_atm_rmse_vol_points",
            )
        ]
        published = row["chains"] - row["refused"]
        arbitrage = "none" if row["clean"] == published else f"in {published - row['clean']}"
        refused = f", {row['refused']} refused" if row["refused"] else ""
        style = "bold" if row["stage"] == "all" else ""
        cells = (row["stage"], str(row["chains"]), *values, f"{row['inside']:.1%}", arbitrage + refused)
        table.add_row(*cells, style=style)
    return table
