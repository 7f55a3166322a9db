"""`volgrad fit`: option quotes in, certified arbitrage-free volatility surfaces out."""

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, progress, results_console
from volgrad.errors import EmptyInputError, InputError

if TYPE_CHECKING:
    from volgrad.data import Built
    from volgrad.tasks.fitted import FittedChain

__all__ = ["fit"]


def fit(
    quotes: list[Path],
    /,
    *,
    out: Path,
    model: Literal["local-vol"] = "local-vol",
    predict: Path | None = None,
    grid: Path | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    underlying: Annotated[list[str] | None, Parameter(negative=())] = None,
    history: int = 0,
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
    """Fit a certified arbitrage-free volatility surface to every chain of quotes.

    Writes surfaces.parquet, summary.json, rejections.json and report.html to OUT, and the answers to --predict and
    --grid. Exit code 1 if some chain could not be fitted; everything else is written all the same.

    Parameters
    ----------
    quotes
        Quote files (Parquet, Arrow, CSV) or folders of them.
    out
        Folder for the results; made if need be.
    model
        Kind of surface.
    predict
        Query file: ts, ccy, expiry, strike, cp (and split); answered in predictions.parquet.
    grid
        Grid file: ts, ccy, tau_years, k; answered in grid.parquet.
    from_
        First time or day to use, such as 2026-01-05 or 2026-01-05T12:00.
    to
        Last time or day to use, included.
    underlying
        Only these underlyings, such as BTC; may be repeated.
    history
        Let each fit lean on the previous N chains of the same underlying and split.
    warm
        Begin each fit from the previous chain of the same underlying and split.
    optimizer
        auto is lm (Levenberg-Marquardt), which reaches the optimum first.
    batch
        Quotes a step: a number, or auto (lm: the whole chain; adam, sgd: 64).
    steps_csv
        Write the loss after each pass over a chain's quotes to this file.
    threads
        Most threads to use; by default as many as there are cores.
    seed
        Seed of the random order of quotes.
    report
        Leave report.html out.
    report_chains
        Show these chains in full in the report, such as "BTC 2026-01-01T09:18"; may be repeated.
    """
    runtime.start(threads)
    began = time.perf_counter()
    import volgrad.tasks.fit as work
    from volgrad.data import build, read_grid, read_query, read_quotes

    options = work.FitOptions(optimizer=optimizer, batch=_batch(batch), warm=warm, history=history, seed=seed)
    asked = None if predict is None else read_query(predict)
    asked_grid = None if grid is None else read_grid(grid)
    _writable(out)
    built = build(read_quotes(list(quotes), from_=from_, to=to, underlying=underlying))
    if not built.chains:
        raise EmptyInputError(built.refused[0].why if built.refused else "no chain in these quotes")
    fitter = work.Fitter(options)
    with progress("fitting chains", len(built.chains), quiet=common.json) as advance:
        fitted = []
        for chain in built.chains:
            fitted.append(fitter.fit(chain))
            advance(1)
    written = _write_answers(out, asked, asked_grid, fitted, built)
    summary = _write_results(
        out,
        fitted,
        built,
        threads=threads,
        model=model,
        compile_s=fitter.compile_seconds,
        began=began,
        answers=written,
    )
    if steps_csv is not None:
        _write_steps(steps_csv, fitted)
    if report:
        from volgrad.report import write_report

        title = f"Volatility surfaces: {', '.join(path.name for path in quotes[:3])}"
        write_report(out / "report.html", fitted, title=title, summary=summary, chains=report_chains or ())
    if common.json:
        print_json(summary)
    else:
        _show(summary, fitted, out, report)
    return 1 if any(chain["status"] == "refused" for chain in summary["chains"]) else 0


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"--batch takes a number of quotes or auto, not {text!r}") from error


def _writable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    out.mkdir(parents=True, exist_ok=True)


def _write_answers(
    out: Path, asked: Any, asked_grid: Any, fitted: "Sequence[FittedChain]", built: "Built"
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
        write(out / f"{name}.parquet", rows, vol)
        written[name] = {"rows": rows.rows, "answered": int((vol > 0).sum()), "unanswered": reasons}
    return written


def _write_results(
    out: Path,
    fitted: "Sequence[FittedChain]",
    built: "Built",
    *,
    threads: int | None,
    model: str,
    compile_s: float,
    began: float,
    answers: dict[str, Any],
) -> dict[str, Any]:
    import os

    import msgspec

    from volgrad.data import replacing
    from volgrad.tasks.summary import fit_summary
    from volgrad.tasks.surfaces import Surfaces

    Surfaces.of(fitted).write(out / "surfaces.parquet")
    more = {"model": model, "wall_s": time.perf_counter() - began, "compile_s": compile_s, **answers}
    used = threads or os.cpu_count() or 1
    summary = fit_summary(fitted, built, command=["volgrad", *sys.argv[1:]], threads=used, more=more)
    for name, content in (("summary.json", summary), ("rejections.json", summary["rejections"])):
        with replacing(out / name) as file:
            # NaN and infinities become null
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=1))
    return summary


def _write_steps(path: Path, fitted: "Sequence[FittedChain]") -> None:
    from volgrad.tasks.summary import stamp_text

    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ts", "ccy", "split", "epoch", "quotes_seen", "loss"])
        for one in fitted:
            name = (stamp_text(one.chain.ts_us), one.chain.ccy, one.chain.split or "")
            rows.writerows((*name, epoch, seen, f"{loss:.6g}") for epoch, (seen, loss) in enumerate(one.curve))


def _show(summary: dict[str, Any], fitted: "Sequence[FittedChain]", out: Path, report: bool) -> None:
    import numpy as np

    console = results_console()
    published = [one for one in fitted if one.surface is not None]
    statuses: dict[str, int] = {}
    for chain in summary["chains"]:
        statuses[chain["status"]] = statuses.get(chain["status"], 0) + 1
    used = sum(chain["quotes_used"] for chain in summary["chains"])
    left = sum(sum(chain["left_out"].values()) for chain in summary["chains"])
    console.print(f"{len(summary['chains'])} chains: {', '.join(f'{n} {status}' for status, n in statuses.items())}")
    console.print(f"quotes: {used:,} used, {left:,} left out (reasons: {out / 'rejections.json'})")
    if published:
        weight = np.array([one.chain.n_rows for one in published], float)
        inside = np.average([one.inside for one in published], weights=weight)
        miss = np.sqrt(np.average([one.rmse_vol_points**2 for one in published], weights=weight))
        clean = sum(one.certificate is not None and one.certificate.clean for one in published)
        console.print(f"inside bid and ask: {100 * inside:.2f} % of quotes; RMSE {miss:.3f} vol points from the middle")
        console.print(f"free of arbitrage: {clean} of {len(published)} published surfaces, certified on a dense grid")
        console.print(
            f"a chain: {np.median([one.fit_ms for one in published]):.1f} ms to fit, "
            f"{np.median([one.certificate_ms for one in published]):.1f} ms to join and certify (medians); "
            f"all: {summary['wall_s']:.1f} s, of which compiling {summary['compile_s']:.1f} s"
        )
    for name in ("predictions", "grid"):
        if name in summary:
            told = summary[name]
            gaps = "".join(f"; {count} not answered: {reason}" for reason, count in told["unanswered"].items())
            console.print(f"{name}: {told['answered']:,} of {told['rows']:,} rows answered{gaps}")
    for chain in summary["chains"]:
        if chain["status"] in ("refused", "diverged"):
            split = f" {chain['split']}" if chain["split"] else ""
            console.print(f"{chain['status']}: {chain['ccy']} {chain['ts']}{split}: {chain['why']}")
    for note in summary["notes"]:
        console.print(f"note: {note}")
    console.print(f"written to {out}: " + ", ".join(sorted(path.name for path in out.iterdir() if path.is_file())))
    if report:
        console.print(f"look at {out / 'report.html'}")
