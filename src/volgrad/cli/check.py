"""`volgrad check`: does a user's study, task or layer obey its contract, and if not, which law and what to do."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, progress, results_console
from volgrad.cli.environment import refuse_misspelt_variables
from volgrad.errors import InputError, UnknownOptionError

if TYPE_CHECKING:
    from volgrad.learning.contract import Verdict
    from volgrad.learning.study import Study

__all__ = ["Checked", "check", "examine"]


@dataclass(frozen=True)
class Checked:
    """The verdicts on one class of a user's file; `kind` is study, task or layer."""

    name: str
    kind: str
    verdicts: "list[Verdict]"


def check(reference: str, *, recipe: Path | None = None, common: CommonOptions = CommonOptions()) -> int:
    """Hold the studies, tasks and layers of a file against their contracts.

    Exit code 1 if a law is broken. A law that does not apply is told with its reason.

    Args:
        reference: FILE.py, or FILE.py:NAME for one class of it.
        recipe: Take [data] and [model] of its study from this recipe; without one the defaults of their keys serve.
    """
    refuse_misspelt_variables()
    runtime.start()
    checked = examine(reference, recipe, quiet=common.json)
    failed = sum(verdict.status == "fail" for one in checked for verdict in one.verdicts)
    if common.json:
        classes = [
            {"name": one.name, "kind": one.kind, "laws": [verdict._asdict() for verdict in one.verdicts]}
            for one in checked
        ]
        print_json({"ok": failed == 0, "classes": classes})
    else:
        _show(checked, failed)
    return 1 if failed else 0


def examine(reference: str, recipe: Path | None = None, *, quiet: bool = True) -> list[Checked]:
    """Find every concrete study, task and layer of a file, and judge each.

    A task is judged by the data of its study: one that no study of the file makes is told as skipped. A layer is made
    by `LayerClass(features)`; where it takes more, give it a class method `example()`.

    Raises:
        InputError: no such file, or none of these in it.
        UnknownOptionError: no class of that name.
    """
    from volgrad.learning.study import Study
    from volgrad.learning.training.task import Task
    from volgrad.learning.user_code import classes_in, load_module
    from volgrad.models.networks.layer import Layer

    path, name = _parted(reference)
    module = load_module(path)
    kinds: dict[str, type] = {"study": Study, "task": Task, "layer": Layer}
    found = [(kind, key, one) for kind, base in kinds.items() for key, one in classes_in(module, base).items()]
    if name and name not in [key for _, key, _ in found]:
        raise UnknownOptionError.of("class", name, [key for _, key, _ in found], file=path)
    if not found:
        raise InputError(
            f"{path}: no study, task or layer in it; let a class inherit from Study, Task or Layer", file=path
        )
    chosen = [one for one in found if name in ("", one[1])]
    checked, judged = [], set[str]()
    with progress("checking", len(chosen), quiet=quiet) as advance:
        for kind, key, one in chosen:
            if kind == "study":
                verdicts, task = _study(one(), path, recipe)
                judged.add(task)
            elif kind == "task":
                verdicts = _task(key, judged)
            else:
                verdicts = _layer(one)
            checked.append(Checked(key, kind, verdicts))
            advance(1)
    return checked


def _parted(reference: str) -> tuple[Path, str]:
    found = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<name>\w*))?", reference)
    if found is None:
        raise InputError(f"'{reference}' is no Python file; write FILE.py or FILE.py:NAME")
    return Path(found["file"]), found["name"] or ""


def _study(study: "Study", path: Path, recipe: Path | None) -> "tuple[list[Verdict], str]":
    """The verdicts on a study and its task, and the task's name."""
    from volgrad.learning.recipe import read_recipe
    from volgrad.learning.struct_reading import Source, read_struct
    from volgrad.learning.study_contract import judge_study

    made: list[Any] = [None, None]
    if recipe is not None:
        raw = read_recipe(recipe)
        source = Source(raw.file, raw.given)
        keys = (("data", type(study).Data), ("model", type(study).Model))
        made = [read_struct(kind, raw.tables.get(table, {}), table, source) for table, kind in keys]
    with tempfile.TemporaryDirectory() as folder:
        base = path.parent if recipe is None else recipe.parent
        judged = judge_study(study, Path(folder), *made, base=base)
    return judged.verdicts, judged.task


def _task(name: str, judged: set[str]) -> "list[Verdict]":
    from volgrad.learning.contract import Verdict

    if name in judged:
        return [Verdict("all", "ok", "judged with its study")]
    return [
        Verdict("all", "skip", "no study of the file makes it; call volgrad.learning.contract.check_task in a test")
    ]


def _layer(kind: type) -> "list[Verdict]":
    from volgrad.learning.contract import verdict

    def laws() -> None:
        from volgrad.models.networks.contract import check_layer

        features = 4
        layer = kind.example() if hasattr(kind, "example") else kind(features)
        check_layer(layer, getattr(layer, "features", features))

    return [verdict("all", laws, {})]


def _show(checked: list[Checked], failed: int) -> None:
    from rich.table import Table

    console = results_console()
    for one in checked:
        table = Table("Law", "Verdict", "Why", title=f"{one.kind} {one.name}", title_justify="left", box=None)
        for law, status, why in one.verdicts:
            colour = {"ok": "green", "skip": "yellow", "fail": "red"}[status]
            table.add_row(law, f"[{colour}]{status}[/{colour}]", why.replace("[", r"\["))
        console.print(table)
    laws = sum(len(one.verdicts) for one in checked)
    console.print(f"{laws} laws, {failed} broken." if failed else f"{laws} laws, none broken.")
