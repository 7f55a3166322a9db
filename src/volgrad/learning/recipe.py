"""Recipes: what `volgrad train` is told, in TOML, read in two stages because the task decides some of the tables.

>>> raw = RawRecipe("recipe.toml", {"task": {"use": "x"}, "budget": {"samples": 1000}}, {})
>>> recipe = resolve(raw, StudyData, StudyModel)
>>> recipe.optimizer.name, recipe.batch.accumulate, recipe.identity()["budget.samples"]
('adam', 1, 1000)
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.recipe_tables import (
    BatchTable,
    BudgetTable,
    CheckpointTable,
    EvaluateTable,
    GuardTable,
    OptimizerTable,
    ScheduleTable,
    TaskTable,
)
from volgrad.learning.struct_reading import Source, keys_of, read_struct
from volgrad.learning.study import StudyData, StudyModel
from volgrad.learning.toml_text import toml_text

__all__ = ["RawRecipe", "Recipe", "read_recipe", "resolve"]

_TABLES: dict[str, type[msgspec.Struct]] = {
    "task": TaskTable,
    "optimizer": OptimizerTable,
    "schedule": ScheduleTable,
    "batch": BatchTable,
    "budget": BudgetTable,
    "evaluate": EvaluateTable,
    "guard": GuardTable,
    "checkpoint": CheckpointTable,
}
# keys of which a recipe has one: --set of one takes the place of another in the file
_ALTERNATIVES = (("budget", ("samples", "epochs", "seconds")), ("batch", ("size", "clusters")))
_MAX_BYTES = 1 << 20
_MAX_SEED = 2**63 - 1


class RawRecipe(NamedTuple):
    """A recipe as it was read, the tables of its task not looked at yet.

    Attributes:
        file: as users named it; what is relative in the recipe is relative to its folder.
        tables: of the file, with what `--set` gave.
        given: what `--set` gave, by key, as it was typed.
    """

    file: str
    tables: dict[str, Any]
    given: dict[str, str]

    @property
    def base(self) -> Path:
        """The folder that relative paths start from."""
        return Path(self.file).parent

    @property
    def use(self) -> str:
        """The study's name, or `file.py:Name`.

        Raises:
            InputError: it is missing, or is no text.
        """
        table = self.tables.get("task", {})
        if not isinstance(table, dict) or "use" not in table:
            raise InputError(f'{self.file}: task.use is missing: write [task] with use = "NAME" or "file.py:Name"')
        return read_struct(TaskTable, table, "task", Source(self.file, self.given)).use


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe in full, every default in place.

    Attributes:
        task, optimizer, schedule, batch, budget, evaluate, guard, checkpoint: the tables.
        data, model: of the types that the study gives.
        seed: of everything random in the run.
    """

    seed: int
    task: TaskTable
    data: Any
    model: Any
    optimizer: OptimizerTable
    schedule: ScheduleTable
    batch: BatchTable
    budget: BudgetTable
    evaluate: EvaluateTable
    guard: GuardTable
    checkpoint: CheckpointTable

    def to_toml(self) -> str:
        """The recipe as a file that reads back to the same one; keys that are not set are left out."""
        return toml_text(self._tables())

    def identity(self) -> dict[str, Any]:
        """Key -> value of everything that has a part in what is learned (`[checkpoint]` has none)."""
        tables = self._tables()
        del tables["checkpoint"]
        return _flat(tables, "")

    def _tables(self) -> dict[str, Any]:
        return _listed(msgspec.to_builtins(self))


def read_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> RawRecipe:
    """Read a recipe's file and what is to be set otherwise.

    Args:
        path: the file.
        overrides: `key=value` each, such as "batch.size=128"; the value as TOML writes it, or bare text.

    Raises:
        InputError: no such file, no TOML, or an override that is no `key=value`.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise InputError(f"{file}: larger than 1 MB; this is no recipe", file=file)
        tables = tomllib.loads(file.read_bytes().decode())
    except FileNotFoundError:
        raise InputError(f"{file}: no such file", file=file) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: this is no text in UTF-8 (byte {error.start})", file=file) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{file}: this is not TOML: {error}", file=file) from None
    given: dict[str, str] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise InputError(f"--set {override}: write key=value, such as batch.size=128")
        _put(tables, key, _parsed(text.strip()), override)
        given[key] = text.strip()
    _without_alternatives(tables, given)
    _without_auto(tables.get("batch"), given)
    return RawRecipe(str(file), tables, given)


def _without_alternatives(tables: dict[str, Any], given: dict[str, str]) -> None:
    """Drop from the file what `--set` gave otherwise."""
    for name, keys in _ALTERNATIVES:
        if isinstance(table := tables.get(name), dict) and any(f"{name}.{key}" in given for key in keys):
            for key in keys:
                if f"{name}.{key}" not in given:
                    table.pop(key, None)


def _without_auto(batch: Any, given: dict[str, str]) -> None:
    """Drop what says something with size "auto" only, where `--set` gave another size."""
    if (
        not isinstance(batch, dict)
        or not {"batch.size", "batch.clusters"} & given.keys()
        or batch.get("size") == "auto"
    ):
        return
    for key in ("least", "most", "objective", "rows_per_cluster"):
        if f"batch.{key}" not in given and (key != "rows_per_cluster" or batch.get(key) == "auto"):
            batch.pop(key, None)


def resolve(raw: RawRecipe, data: type[StudyData], model: type[StudyModel]) -> Recipe:
    """Check every key and value, and fill in the defaults.

    Args:
        raw: from `read_recipe`.
        data, model: keys of `[data]` and `[model]`: `Study.Data` and `Study.Model`.

    Raises:
        UnknownOptionError: a key or name that does not exist; carries the nearest one.
        InputError: a key is missing, or a value of the wrong type or out of range.
    """
    types = {**_TABLES, "data": data, "model": model}
    known = ("seed", *(key for name, kind in types.items() for key in keys_of(kind, name)))
    source = Source(raw.file, raw.given, known)
    _ = raw.use
    for name, table in raw.tables.items():
        if name == "seed":
            continue
        if name not in types:
            raise _unknown_table(name, table, tuple(types), source)
        if not isinstance(table, dict):
            raise source.says(name, f"{name} = {table!r}: must be a table, [{name}]")
    read = {name: read_struct(kind, raw.tables.get(name, {}), name, source) for name, kind in types.items()}
    read["schedule"] = _suited(read["schedule"], read["optimizer"], "name" in raw.tables.get("schedule", {}), source)
    seed = raw.tables.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= _MAX_SEED:
        raise source.says("seed", f"seed = {seed!r}: must be a whole number from 0 to 2^63 - 1")
    return Recipe(seed=seed, **read)


def _suited(schedule: Any, optimizer: Any, chosen: bool, source: Source) -> ScheduleTable:
    """The schedule, which for the schedule-free optimizer is one that does not fall, and for others no namesake."""
    free = optimizer.name == "schedule-free"
    if free and not chosen:
        return msgspec.structs.replace(schedule, name="schedule-free")
    if free != (schedule.name == "schedule-free") and not (free and schedule.name in ("constant", "plateau")):
        raise source.says(
            "schedule.name",
            f"schedule.name = {schedule.name!r} does not go with optimizer.name = {optimizer.name!r}: schedule-free is "
            "a method of its own, name it in both tables or in neither",
        )
    return schedule


def _unknown_table(name: str, value: Any, tables: tuple[str, ...], source: Source) -> UnknownOptionError:
    elsewhere = [key for key in source.known if key.rpartition(".")[2] == name]
    if isinstance(value, dict):
        error = UnknownOptionError.of("table", name, tables)
    else:
        error = UnknownOptionError.of("key", name, elsewhere or (*tables, "seed"))
    place = next((source.place(key) for key in source.given if key.split(".")[0] == name), source.file)
    return UnknownOptionError(f"{place}: {error}", suggestion=error.suggestion)


def _parsed(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if document.keys() == {"value"} else text


def _put(tables: dict[str, Any], key: str, value: Any, override: str) -> None:
    *above, last = key.split(".")
    for name in above:
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            raise InputError(f"--set {override}: {name} is no table")
    tables[last] = value


def _listed(value: Any) -> Any:
    """Tuples as lists, as they come back from any file."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(table: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found
