"""`volgrad fit`: option quotes in, certified arbitrage-free volatility surfaces out."""

import csv
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, progress
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.cli.fit_files import FitFiles
from volgrad.cli.fit_text import show
from volgrad.errors import InputError

if TYPE_CHECKING:
    from volgrad.data import Asked, Built, Quotes
    from volgrad.tasks.fitted import FittedChain

__all__ = ["fit"]

_LATEST_SEED = 2**63 - 1
_AT_FIRST = "compiling on first use"  # some seconds on a new machine; later runs load what was compiled


def fit(  # noqa: PLR0913 - a parameter an option
    quotes: list[Path],
    /,
    *,
    out: Path,
    model: Literal["local-vol", "surface-net", "essvi", "ssvi", "svi"] = "local-vol",
    predict: Path | None = None,
    grid: Path | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    underlying: Annotated[list[str] | None, Parameter(negative=())] = None,
    every: str = "5m",
    history: int = 0,
    weights: Path | None = None,
    warm: Annotated[bool, Parameter(negative=())] = False,
    optimizer: Literal["auto", "lm", "adam", "sgd"] = "auto",
    batch: str = "auto",
    steps_csv: Path | None = None,
    threads: int | None = None,
    seed: int = 0,
    report: Annotated[bool, Parameter(negative="--no-report")] = True,
    report_chains: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Fit a certified volatility surface to every chain of quotes, free of arbitrage but for --model svi.

    Writes surfaces.parquet, summary.json, rejections.json and report.html to OUT, and the answers to --predict and
    --grid. A chain without a usable quote is named and left out. Exit code 1 if some chain's fit failed; everything
    else is written all the same.

    Parameters
    ----------
    quotes
        Stores, files of any kind that volgrad ingest reads, or folders of them.
    out
        Folder for the results; made if need be.
    model
        Kind of surface: local-vol (the closest to quotes), surface-net (the same around what a network expects, and
        with --history a memory of earlier chains), essvi and ssvi (closed forms of three numbers an expiry, and of one
        and three more; all four are free of arbitrage), or svi (raw SVI an expiry, which may have arbitrage:
        certificate and report say where).
    predict
        Query file: ts, ccy, expiry, strike, cp (and split); answered in predictions.parquet.
    grid
        Grid file: ts, ccy, tau_years, k; answered in grid.parquet.
    from_
        First time or day to use, such as 2026-01-05 or 2026-01-05T12:00.
    to
        Last time or day to use, included.
    underlying
        Only these underlyings, such as BTC or BTC,ETH; may be repeated.
    every
        Time from one chain to the next where quotes are single updates (tickers, sessions, Tardis).
    history
        Let each fit lean on the previous N chains of the same underlying and split (local-vol; surface-net remembers
        what earlier chains showed, whatever N from 1 on).
    weights
        Weights of surface-net: a file, or the folder of a run of volgrad train; else those that come with volgrad.
    warm
        Begin each fit from the previous chain of the same underlying and split.
    optimizer
        auto is lm (Levenberg-Marquardt), which reaches the optimum first.
    batch
        Quotes a step (svi: of each expiry): a number, or auto (the whole chain).
    steps_csv
        Write the loss after each pass over a chain's quotes to this file.
    threads
        Most threads to use; by default XLA may use every core. Chains are fitted one after the other.
    seed
        Seed of the order of quotes in batches smaller than the chain, and of restarts.
    report
        Write report.html; --no-report leaves it out.
    report_chains
        Show these chains in full in the report, such as "BTC 2026-01-01T09:18"; may be repeated.
    """
    refuse_misspelt_variables()
    began = time.perf_counter()
    runtime.start(threads)
    import volgrad.tasks.fit as work
    from volgrad.data import build, read_grid, read_query, read_quotes
    from volgrad.tasks.desk import require_chains

    options = work.FitOptions(
        model=model,
        optimizer=optimizer,
        batch=_batch(batch),
        warm=warm,
        history=history,
        seed=_seed(seed),
        weights=weights,
    )
    if report_chains and not report:
        raise InputError("--report-chains names chains to show in the report: leave --no-report out")
    files = FitFiles(out, predict, grid, steps_csv, report)
    sources = files.check(quotes)
    asked = None if predict is None else read_query(predict)
    asked_grid = None if grid is None else read_grid(grid)
    read = read_quotes(sources, from_=from_, to=to, underlying=underlying, every=every)
    built = build(read)
    require_chains(built, read)
    fitted = []
    with progress("fitting chains", len(built.chains), at_first=_AT_FIRST, quiet=common.json) as advance:
        fitter = work.Fitter(options)
        for chain in built.chains:
            fitted.append(fitter.fit(chain))
            advance(1)
    more = {
        "command": ["volgrad", *sys.argv[1:]],
        "model": model,
        "threads": threads or _cores(),
        "compile_s": fitter.compile_seconds,
        **_write_answers(files, asked, asked_grid, fitted, built),
    }
    summary = _write_results(files, fitted, built, read, more, began, report_chains or ())
    if common.json:
        print_json(summary)
    else:
        show(summary, fitted, files)
    return 1 if any(one.surface is None for one in fitted) else 0


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"--batch takes a number of quotes or auto, not {text!r}") from error


def _seed(seed: int) -> int:
    if not 0 <= seed <= _LATEST_SEED:
        raise InputError(f"--seed is {seed}: give a whole number from 0 to {_LATEST_SEED}")
    return seed


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_answers(
    files: FitFiles,
    asked: "Asked | None",
    asked_grid: "Asked | None",
    fitted: "Sequence[FittedChain]",
    built: "Built",
) -> dict[str, Any]:
    from volgrad.data import locate, locate_grid, write_grid, write_predictions
    from volgrad.tasks.answers import answer

    written: dict[str, Any] = {}
    todo = (
        ("predictions", asked, locate, write_predictions),
        ("grid", asked_grid, locate_grid, write_grid),
    )
    for name, rows, find, write in todo:
        if rows is None:
            continue
        vol, reasons = answer(find(rows, built.chains, built.refused), fitted)
        write(files.out / f"{name}.parquet", rows, vol)
        written[name] = {"rows": rows.rows, "answered": int((vol > 0).sum()), "unanswered": reasons}
    return written


def _write_results(
    files: FitFiles,
    fitted: "Sequence[FittedChain]",
    built: "Built",
    read: "Quotes",
    more: dict[str, Any],
    began: float,
    report_chains: Sequence[str],
) -> dict[str, Any]:
    """Write all but the answers, the summary last: where there is one, everything else is there, too."""
    from volgrad.tasks.summary import fit_summary
    from volgrad.tasks.surfaces import Surfaces

    more = {"wall_s": time.perf_counter() - began, **more}
    summary = fit_summary(fitted, built, read, more)
    Surfaces.of(fitted).write(files.out / "surfaces.parquet")
    _write_json(files.out / "rejections.json", summary["rejections"])
    if files.steps_csv is not None:
        _write_steps(files.steps_csv, fitted)
    if files.report:
        from volgrad.report import write_report
        from volgrad.report.chosen import choose

        names = list(dict.fromkeys(Path(source["source"]).name for source in summary["sources"]))
        title = f"Volatility surfaces: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        set_aside = [f"{one.file}: set aside: {one.why}" for one in read.quarantined]
        shown = {**summary, "notes": [*set_aside, *summary["notes"]]}
        write_report(files.out / "report.html", fitted, title=title, summary=shown, chains=report_chains)
        summary["notes"] = [*choose(fitted, report_chains)[1], *summary["notes"]]
    summary["wall_s"] = time.perf_counter() - began
    _write_json(files.out / "summary.json", summary)
    return summary


def _write_json(path: Path, content: Any) -> None:
    import msgspec

    from volgrad.data import replacing

    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=1))  # NaN and infinities become null


def _write_steps(path: Path, fitted: "Sequence[FittedChain]") -> None:
    from volgrad.data import replacing
    from volgrad.tasks.summary import stamp_text

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["ts", "ccy", "split", "epoch", "quotes_seen", "loss"])
    for one in fitted:
        name = (stamp_text(one.chain.ts_us), one.chain.ccy, one.chain.split or "")
        rows.writerows((*name, epoch, seen, f"{loss:.6g}") for epoch, (seen, loss) in enumerate(one.curve))
    with replacing(path) as file:
        file.write(text.getvalue().encode())
