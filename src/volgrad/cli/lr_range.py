"""`volgrad lr-range`: which learning rates a recipe can take."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.errors import InputError

if TYPE_CHECKING:
    from volgrad.learning.training.range_test import RangeTest

__all__ = ["lr_range"]

_NAMES = ("lr-range.json", "lr-range.html")


def lr_range(  # noqa: PLR0913 - a parameter an option
    recipe: Path,
    /,
    *,
    out: Annotated[Path, Parameter(show_default=lambda path: f"./{path}")] = Path("volgrad-lr-range"),
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    threads: int | None = None,
    report: Annotated[bool, Parameter(negative="--no-report")] = True,
    common: CommonOptions = CommonOptions(),
) -> int:
    """Raise the learning rate step by step from the start of a recipe, and say which rates it can take.

    Prints what was found and writes lr-range.json and lr-range.html to OUT. Nothing is trained: the state that the
    steps lead to is thrown away.

    Parameters
    ----------
    recipe
        The recipe, a TOML file.
    out
        Folder for the results; made if need be.
    set_
        KEY=VALUE in place of what the recipe says, such as batch.size=128; may be repeated.
    lowest
        Learning rate of the first step.
    highest
        Learning rate of the last step.
    steps
        How many steps, one batch each.
    threads
        Most threads to use; by default all.
    report
        Write lr-range.html; --no-report leaves it out.
    """
    refuse_misspelt_variables()
    if threads is not None and threads < 1:
        raise InputError(f"--threads is {threads}: give 1 or more")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    began = time.perf_counter()
    runtime.start(threads)
    from volgrad.cli.train import hooks_on_terminal
    from volgrad.tasks.training import lr_range as work
    from volgrad.tasks.training import read_plan

    plan = read_plan(recipe, set_ or [])
    with hooks_on_terminal(quiet=common.json) as hooks:
        found = work(plan, out / "image", lowest=lowest, highest=highest, steps=steps, hooks=hooks)
    told = _write(found, recipe, out, time.perf_counter() - began, report)
    if common.json:
        print_json(told)
    else:
        _show(found, out, report)
    return 0


def _write(found: "RangeTest", recipe: Path, out: Path, wall_s: float, report: bool) -> dict[str, Any]:
    import msgspec

    from volgrad.data import replacing

    told = {
        "version": volgrad.__version__,
        "command": ["volgrad", *sys.argv[1:]],
        "wall_s": wall_s,
        **{name: value.tolist() if hasattr(value, "tolist") else value for name, value in _fields(found).items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    if report:
        from volgrad.report.range_page import write_range_test

        write_range_test(out / _NAMES[1], found, title=f"Learning-rate range test of {recipe.name}", summary=told)
    with replacing(out / _NAMES[0]) as file:
        file.write(msgspec.json.format(msgspec.json.encode(told), indent=1))
    return told


def _fields(found: "RangeTest") -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}


def _show(found: "RangeTest", out: Path, report: bool) -> None:
    console = results_console()
    console.print(f"{found.why[:1].upper()}{found.why[1:]}.")
    if found.suggestion is not None:
        console.print(f"Suggested: --set optimizer.learning_rate={found.suggestion:.2g}")
    console.print(f"In {out}" + (f"; see {out / _NAMES[1]}" if report else ""))
