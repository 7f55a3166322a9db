"""`volgrad batch-size`: which batch size serves a recipe best, and why."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from volgrad.learning.batch_size.decision import Decision

__all__ = ["batch_size"]

_NAMES = ("batch-size.json", "batch-size.html")


def batch_size(  # noqa: PLR0913 - a parameter an option
    recipe: Path,
    /,
    *,
    out: Annotated[Path, Parameter(show_default=lambda path: f"./{path}")] = Path("volgrad-batch-size"),
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    objective: Literal["time", "samples", "memory"] | None = None,
    least: int | None = None,
    most: int | None = None,
    seconds: float = 20.0,
    all_sizes: Annotated[bool, Parameter(negative=())] = False,
    sharpness: Annotated[bool, Parameter(negative=())] = False,
    threads: int | None = None,
    report: Annotated[bool, Parameter(negative="--no-report")] = True,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Measure which batch size gets a recipe to its target first, and say what every other would cost.

    Times a step of every size on this machine, measures how noisy gradients of these data are, predicts from both how
    long each size takes, and lets the best run against each other for a while. Prints what was found and writes
    batch-size.json and batch-size.html to OUT. Nothing is trained. Sizes are clusters a batch (snapshots of quotes,
    days, rows of a table: what a recipe draws); rows are told beside them.

    Parameters
    ----------
    recipe
        The recipe, a TOML file. What it says of the size is what its learning rate is meant for.
    out
        Folder for the results; made if need be.
    set_
        KEY=VALUE in place of what the recipe says, such as optimizer.name=sgd; may be repeated.
    objective
        What counts: time to the target, samples (data are scarce) or memory. By default the recipe's, else time.
    least
        Fewest clusters a batch. By default the recipe's batch.least, else 1.
    most
        Most clusters a batch. By default the recipe's batch.most, else all there are.
    seconds
        Seconds of probing, compilation and reading apart.
    all_sizes
        Time sizes, too, that are far too large to win: compiling them takes a while.
    sharpness
        Look at how sharp the minima are that small, chosen and large batches come to.
    threads
        Most threads to use; by default all.
    report
        Write batch-size.html; --no-report leaves it out.
    """
    refuse_misspelt_variables()
    _refuse(out, least, most, seconds, threads)
    began = time.perf_counter()
    runtime.start(threads)
    from volgrad.cli.train import hooks_on_terminal
    from volgrad.learning.batch_size.from_recipe import effort_of, settings_of
    from volgrad.tasks.training import batch_size as work
    from volgrad.tasks.training import read_plan

    plan = read_plan(recipe, set_ or [])
    # sizes that only the user's bound keeps in the race are timed, however little they promise
    effort = effort_of(seconds, sharpness=sharpness, whole_ladder=all_sizes or least is not None)
    wish: dict[str, Any] = {"objective": objective, "least": least, "most": most}
    with hooks_on_terminal(quiet=common.json) as hooks:
        found = work(plan, out / "image", **wish, effort=effort, hooks=hooks)
    settings = settings_of(plan.recipe, found)
    told = _write(found, settings, recipe, out, time.perf_counter() - began, report)
    if common.json:
        print_json(told)
    else:
        _show(told, out, report)
    return 0


def _refuse(out: Path, least: int | None, most: int | None, seconds: float, threads: int | None) -> None:
    """Wrong options, before anything is loaded."""
    if threads is not None and threads < 1:
        raise InputError(f"--threads is {threads}: give 1 or more")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    for name, value in (("--least", least), ("--most", most)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: give 1 cluster a batch or more")
    if least is not None and most is not None and least > most:
        raise InputError(f"--least {least} is above --most {most}: swap or widen them")
    if not 0.0 < seconds < float("inf"):
        raise InputError(f"--seconds is {seconds:g}: give a number above 0")


def _write(
    found: "Decision", settings: Sequence[str], recipe: Path, out: Path, wall_s: float, report: bool
) -> dict[str, Any]:
    import msgspec

    from volgrad.data import replacing

    told = {
        "version": volgrad.__version__,
        "command": ["volgrad", *sys.argv[1:]],
        "wall_s": wall_s,
        **found.to_dict(),
        "settings": list(settings),
    }
    out.mkdir(parents=True, exist_ok=True)
    if report:
        from volgrad.report.batch_size_page import write_batch_size

        write_batch_size(out / _NAMES[1], told, title=f"Batch size of {recipe.name}")
    with replacing(out / _NAMES[0]) as file:
        file.write(msgspec.json.format(msgspec.json.encode(told), indent=1))
    return told


def _show(told: Mapping[str, Any], out: Path, report: bool) -> None:
    from volgrad.report.batch_size_words import likeness_words, noise_words, rows_words

    console = results_console()
    console.print(_table(told))
    console.print(told["reason"], markup=False)
    console.print(" ".join((noise_words(told["noise"]), likeness_words(told["noise"]))).strip(), markup=False)
    if words := rows_words(told):
        console.print(words, markup=False)
    for note in told["notes"]:
        console.print(f"Note: {note}.", markup=False)
    console.print("To use it: " + " ".join(f"--set {setting}" for setting in told["settings"]), markup=False)
    spent = f"{told['probe_s']:.1f} s of probing, {told['compile_s']:.1f} s of compiling"
    console.print(f"{spent}; in {out}" + (f", see {out / _NAMES[1]}" if report else ""), markup=False)


def _table(told: Mapping[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    from volgrad.report.batch_size_words import HEADINGS, ladder_rows

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in HEADINGS[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(HEADINGS[-1])
    for rung in ladder_rows(told):
        table.add_row(*rung.cells, style="bold green" if rung.chosen else "" if rung.measured else "dim")
    return table
