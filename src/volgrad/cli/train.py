"""`volgrad train`: mini-batch learning by recipe, into a folder that survives anything."""

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.errors import InputError, WorkError

if TYPE_CHECKING:
    from volgrad.learning.run import Hooks, Result
    from volgrad.learning.training.trainer import Segment

__all__ = ["hooks_on_terminal", "train"]

_TOLD_EVERY_S = 60.0  # where the output is no terminal


def train(
    recipe: Path,
    /,
    *,
    out: Path,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    threads: int | None = None,
    report: Annotated[bool, Parameter(negative="--no-report")] = True,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Train what a recipe says, by mini-batches, into the folder OUT.

    OUT holds recipe.toml (every key), versions.json, metrics.jsonl, checkpoints/, best/ (the best validation loss),
    final.json and report.html. A run that was killed goes on with --resume and ends with the same bits.

    Parameters
    ----------
    recipe
        The recipe, a TOML file: docs/training.md lists its tables and keys.
    out
        Folder of the run; made if need be.
    set_
        KEY=VALUE in place of what the recipe says, such as batch.size=128; may be repeated.
    resume
        Go on from the last checkpoint in OUT.
    threads
        Most threads to use; by default all.
    report
        Write report.html; --no-report leaves it out.
    """
    refuse_misspelt_variables()
    if threads is not None and threads < 1:
        raise InputError(f"--threads is {threads}: give 1 or more")
    runtime.start(threads)
    from volgrad.tasks.training import train as work

    signal.signal(signal.SIGTERM, _asked_to_stop)
    try:
        with hooks_on_terminal(quiet=common.json) as hooks:
            result = work(recipe, out, settings=set_ or [], resume=resume, hooks=hooks, threads=threads)
    except WorkError:
        if report and (out / "metrics.jsonl").is_file():  # a run that gave up is worth looking at, too
            _write_report(out)
        raise
    if report:
        _write_report(out)
    if common.json:
        print_json(result.final | {"out": out})
    else:
        _show(result, out, report)
    return 0


@contextmanager
def hooks_on_terminal(quiet: bool) -> "Iterator[Hooks]":
    """What is told on standard error while a run goes on: a bar on a terminal; notes always, unless `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from volgrad.learning.run import Hooks

    if quiet:
        yield Hooks()
        return
    if not sys.stderr.isatty():
        last = time.monotonic()

        def tell(done: int, total: int, segment: "Segment") -> None:
            nonlocal last
            if time.monotonic() - last >= _TOLD_EVERY_S:
                last = time.monotonic()
                print(f"volgrad: {done:,} of {total:,} samples, loss {segment.loss:.4g}", file=sys.stderr)

        yield Hooks(step=tell, note=lambda text: print(f"volgrad: {text}", file=sys.stderr))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("starting", total=None)

        def step(done: int, total: int, segment: "Segment") -> None:
            rate = segment.rows / max(segment.seconds, 1e-9)
            told = f"loss {segment.loss:.4g}  lr {segment.learning_rate:.2g}  {rate:,.0f} rows/s"
            bar.update(row, completed=min(done, total), total=total, description=told)

        yield Hooks(
            stage=lambda name: bar.update(row, description=name),
            step=step,
            note=lambda text: bar.console.print(f"volgrad: {text}", markup=False),
        )


def _asked_to_stop(*_: Any) -> None:
    raise SystemExit(143)


def _write_report(out: Path) -> None:
    from volgrad.report.training_page import write_training

    summary = {"version": volgrad.__version__, "command": ["volgrad", *sys.argv[1:]]}
    write_training(out / "report.html", out, title=f"Training run {out.name}", summary=summary)


_STATUS = {
    "done": "Done",
    "stalled": "Ended early: no progress after all remedies",
    "no better": "Ended early: no better validation loss (evaluate.patience)",
}


def _show(result: "Result", out: Path, report: bool) -> None:
    final, console = result.final, results_console()
    console.print(
        f"{_STATUS[result.status]}: {final['samples']:,} samples in {final['steps']:,} steps, "
        f"{final['wall_s']:.1f} s ({final['compile_s']:.1f} s of them compiling), {final['rollbacks']} roll-backs."
    )
    train, worth = final["data"]["train"], final["data"].get("effective")
    told = f"Learned from {train['clusters']:,} clusters with {train['rows']:,} rows"
    if worth:
        told += f", worth some {worth['effective_clusters']:,.0f} independent clusters (by {worth['column']})"
    console.print(f"{told}.")
    best: dict[str, Any] | None = final["best"]
    if best:
        others = [f"{name} {_number(value)}" for name, value in best.items() if name not in ("samples", "loss")]
        told = f"Best validation loss {_number(best['loss'])} at {int(best['samples']):,} samples"
        console.print(told + (f" ({', '.join(others)})" if others else "") + ".")
    console.print(f"State {final['state_sha256'][:16]}, in {out}" + (f"; see {out / 'report.html'}" if report else ""))


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "not finite"
