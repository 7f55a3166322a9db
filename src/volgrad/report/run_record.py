"""What the folder of a training run tells, read for the page: whatever of it is there."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from volgrad.errors import InputError

__all__ = ["Event", "RunRecord", "as_number", "read_run"]

#: Kind of an event -> what it is called.
_ROLL_BACK, _REMEDY, _CUT, _BATCH, _END = "roll-back", "remedy", "rate cut", "batch size", "gave up"
_NOTE = "note"
_FALL = (
    0.97  # of the rate from one segment to the next, where only a plateau lets it fall (assumption: cuts are larger)
)
_MOST_TEXT = 200_000  # characters of a recipe that are kept


class Event(NamedTuple):
    """Something out of the ordinary.

    samples, step: where.
    kind: "roll-back", "remedy", "rate cut", "batch size", "gave up" or "note".
    text: in words.
    """

    samples: float
    step: float
    kind: str
    text: str


@dataclass(frozen=True)
class RunRecord:
    """A run as its files tell it.

    Attributes:
        lines: of `metrics.jsonl`, a segment each, in their order.
        recipe: `recipe.toml` as text; empty where it is missing.
        versions: of `versions.json`.
        final: of `final.json`; None where the run has not ended, or not by itself.
    """

    lines: tuple[Mapping[str, Any], ...] = ()
    recipe: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] | None = None

    def column(self, name: str) -> Float64[np.ndarray, " lines"]:
        """A column of the metrics; NaN where a line does not have it, or not as a number.

        >>> RunRecord(({"loss": 0.5}, {"loss": None}, {})).column("loss")
        array([0.5, nan, nan])
        """
        return np.array([as_number(line.get(name)) for line in self.lines], np.float64)

    @property
    def validation(self) -> list[str]:
        """Names of the validation metrics, `loss` first, without their `validation_`."""
        prefix = "validation_"
        names = {key[len(prefix) :] for line in self.lines for key in line if key.startswith(prefix)}
        return sorted(names, key=lambda name: (name != "loss", name))

    @property
    def tables(self) -> dict[str, Any]:
        """The recipe as tables; empty where it cannot be read."""
        try:
            return tomllib.loads(self.recipe)
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}

    def setting(self, table: str, key: str) -> Any:
        """A value of the recipe, None where it has none."""
        found = self.tables.get(table)
        return found.get(key) if isinstance(found, Mapping) else None

    @property
    def taken_back(self) -> Bool[np.ndarray, " lines"]:
        """Segments whose steps do not count, as the run went back to their start."""
        kinds = [_kind(line.get("event")) for line in self.lines]
        # a run that gives up on a stall keeps the segment, one that gives up on a runaway does not get ahead
        stood = np.diff(self.column("samples"), prepend=0.0) == 0.0
        return np.array(
            [kind == _ROLL_BACK or (kind == _END and bool(at)) for kind, at in zip(kinds, stood, strict=True)], bool
        )

    @property
    def events(self) -> list[Event]:
        """What happened, in its order: what the lines tell, changes of the batch size, and a plateau's cuts.

        A cut is told by the learning rate of the line after it.
        """
        samples, steps, batch, rate = (self.column(name) for name in ("samples", "step", "batch", "lr"))
        cuts = np.zeros(len(self.lines), bool)
        if self.setting("schedule", "name") == "plateau":
            cuts[:-1] = (rate[1:] < _FALL * rate[:-1]) & (batch[1:] == batch[:-1])
        found = []
        for place, line in enumerate(self.lines):
            if place and batch[place] != batch[place - 1] and np.isfinite(batch[place - 1 : place + 1]).all():
                text = f"batches of {batch[place]:,.0f} clusters, before of {batch[place - 1]:,.0f}"
                found.append(Event(samples[place - 1], steps[place - 1], _BATCH, text))
            if kind := _kind(line.get("event")):
                found.append(Event(samples[place], steps[place], kind, str(line["event"])))
            elif cuts[place]:
                text = f"learning rate {rate[place]:.3g} to {rate[place + 1]:.3g}: no better validation loss"
                found.append(Event(samples[place], steps[place], _CUT, text))
        return found

    @property
    def best(self) -> Mapping[str, Any] | None:
        """Samples, `loss` and the other metrics of the least validation loss; None where nothing was evaluated."""
        if self.final is not None and isinstance(self.final.get("best"), Mapping):
            return self.final["best"]
        loss = self.column("validation_loss")
        if not np.isfinite(loss).any():
            return None
        place = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.nan)))
        line = self.lines[place]
        return {"samples": line.get("samples")} | {name: line.get(f"validation_{name}") for name in self.validation}

    @property
    def status(self) -> str:
        """`final.json`'s, else "gave up" or "not finished"."""
        if self.final is not None:
            status = self.final.get("status", "done")
            return status if isinstance(status, str) else "done"
        return _END if self.lines and _kind(self.lines[-1].get("event")) == _END else "not finished"


def read_run(folder: str | Path) -> RunRecord:
    """Read the folder of a run, one that is still going on included; files and lines that are missing, torn or damaged
    are left out.

    Raises:
        InputError: no run is there.
    """
    root = Path(folder)
    if not any((root / name).is_file() for name in ("recipe.toml", "metrics.jsonl", "final.json")):
        raise InputError(
            f"{root}: no run is here (no recipe.toml); name the folder of `volgrad train --out`", file=root
        )
    lines = [found for line in _text(root / "metrics.jsonl").split("\n") if (found := _object(line)) is not None]
    recipe = _text(root / "recipe.toml")
    if len(recipe) > _MOST_TEXT:
        recipe = recipe[:_MOST_TEXT] + "\n# and more\n"
    versions, final = (_object(_text(root / name)) for name in ("versions.json", "final.json"))
    return RunRecord(tuple(lines), recipe, versions or {}, final)


def as_number(value: object) -> float:
    """A value of a JSON file as a number, NaN where it is none.

    >>> as_number(3), as_number(None), as_number("3")
    (3.0, nan, nan)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all doubles
        return math.nan


def _kind(event: object) -> str:
    """What an event's text is about; empty where there is none."""
    if not isinstance(event, str) or not event.strip():
        return ""
    names = {"gave up": _END, "roll-back": _ROLL_BACK, "remedy": _REMEDY, "the rate is cut": _CUT}
    return next((kind for words, kind in names.items() if words in event), _NOTE)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
