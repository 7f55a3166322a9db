"""The files of `volgrad fit`: checked before any work, so that no run is lost at its end."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volgrad.errors import InputError

__all__ = ["FitFiles", "refuse_store"]


@dataclass(frozen=True)
class FitFiles:
    """Where a fit reads from and writes to.

    Attributes:
        out: folder of the results.
        predict, grid: files that ask, if any.
        steps_csv: file of the learning curves, if any.
        report: whether a report is written.
    """

    out: Path
    predict: Path | None
    grid: Path | None
    steps_csv: Path | None
    report: bool

    def results(self) -> list[Path]:
        """Every file that will be written, in the order in which it is named to the user."""
        chosen = {
            "surfaces.parquet": True,
            "predictions.parquet": self.predict is not None,
            "grid.parquet": self.grid is not None,
            "summary.json": True,
            "rejections.json": True,
            "report.html": self.report,
        }
        inside = [self.out / name for name, wanted in chosen.items() if wanted]
        return inside if self.steps_csv is None else [*inside, self.steps_csv]

    def stale(self) -> list[str]:
        """Names of results in the folder that an earlier run left and this one does not replace."""
        everything = FitFiles(self.out, Path(), Path(), None, report=True).results()
        return [path.name for path in everything if path.exists() and path not in self.results()]

    def check(self, quotes: Sequence[Path]) -> list[Path]:
        """The quote files, once it is certain that results can be written and that none would replace an input.

        Results of an earlier run that lie in a folder of quotes are no quotes.

        Raises:
            InputError: no such quotes, a place that cannot be written to, or one that holds an input.
        """
        from volgrad.data.files import expand

        everything = FitFiles(self.out, Path(), Path(), self.steps_csv, report=True).results()
        earlier = {path.resolve() for path in everything}
        sources: list[Path] = []
        for path in quotes:
            found = expand(path)
            sources += [one for one in found if one.resolve() not in earlier] if path.is_dir() else found
        inputs = {path.resolve() for path in (*sources, self.predict, self.grid) if path is not None}
        for result in self.results():
            if result.resolve() in inputs:
                raise InputError(f"{result} is an input and would be overwritten: give another place for the results")
        refuse_store(self.out)
        _writable(self.out, "--out")
        if self.steps_csv is not None:
            if self.steps_csv.is_dir():
                raise InputError(f"--steps-csv {self.steps_csv} is a folder: give a file")
            _writable(self.steps_csv.parent, "--steps-csv")
        return sources


def refuse_store(out: Path) -> None:
    """Refuse a store, or a folder in one, as the place of results: they would stand among its own files.

    Raises:
        InputError: it is one.
    """
    from volgrad.data.store import is_store

    for folder in (out, *out.parents):
        if is_store(folder):
            raise InputError(f"--out {out} lies in the store {folder}: give a folder outside it")


def _writable(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be made or written to, before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option} {folder} is a file: give a folder")
    probe = folder / f".volgrad.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{option} {folder} cannot be written to ({why}): give another folder") from error
