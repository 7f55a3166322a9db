"""Every exception that volgrad raises on purpose.

    VolgradError
    |-- InputError               wrong usage or input (exit code 2)
    |   |-- SchemaError          a column is missing, renamed or of the wrong type
    |   |-- UnitsError           percent where a fraction is due, or the reverse
    |   |-- EmptyInputError      no rows, or no chain in them
    |   |-- DamagedError         a file cut short, corrupt, or swelling beyond bounds when unpacked
    |   |-- ForeignError         a file that holds something else than was looked for
    |   |-- UnknownOptionError   an option, key or name that does not exist; carries `suggestion`
    |   `-- InstrumentNameError  not an option's name; carries `kind` for futures and combos
    `-- WorkError                the input was sound, the work failed (exit code 1)
        |-- ContractError        a task, a study or a layer breaks a law of its contract
        |-- FitError             no surface could be fitted
        `-- CertificateError     a surface with arbitrage was about to be published

A message says which value was wrong, where it stands (file, row, column, instrument) and what to do about it.
Inside compiled code nothing is raised: failure there is data, an outcome code per row.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "CertificateError",
    "ContractError",
    "DamagedError",
    "EmptyInputError",
    "FitError",
    "ForeignError",
    "InputError",
    "InstrumentNameError",
    "SchemaError",
    "UnitsError",
    "UnknownOptionError",
    "VolgradError",
    "WorkError",
    "suggest",
]


class VolgradError(Exception):
    """Root of the tree: `except VolgradError` catches what volgrad raises on purpose and nothing else.

    `exit_code` is what the command line returns for it.
    """

    exit_code = 1


class InputError(VolgradError):
    """Wrong usage or input: the caller can mend it.

    `file` is the file at fault where there is one; the message then names it.

    >>> print(InputError("column 'bid' is missing", file="january.parquet"))
    january.parquet: column 'bid' is missing
    """

    exit_code = 2

    def __init__(self, message: str, *, file: str | Path | None = None) -> None:
        self.file = None if file is None else Path(file)
        named = self.file is None or str(self.file) in message
        super().__init__(message if named else f"{self.file}: {message}")


class SchemaError(InputError):
    """A table lacks a column, or holds one under another name or type."""


class UnitsError(InputError):
    """Numbers that cannot be in the unit they claim: 0.65 for a percentage volatility, 65 for a fraction."""


class EmptyInputError(InputError):
    """No rows, or rows of which no chain can be made."""


class DamagedError(InputError):
    """A file that cannot be trusted: cut short, corrupt, or swelling beyond bounds when it is unpacked.

    Callers that read many files may set it aside by this type; nothing of such a file is used.
    """


class ForeignError(InputError):
    """A file that is sound but holds something else than was looked for; callers may set it aside by this type."""


class UnknownOptionError(InputError):
    """A name that does not exist, most often a typo; `suggestion` is the nearest one that does, or None."""

    def __init__(self, message: str, *, suggestion: str | None = None, file: str | Path | None = None) -> None:
        self.suggestion = suggestion
        super().__init__(message, file=file)

    @classmethod
    def of(cls, what: str, given: str, known: Iterable[str], *, file: str | Path | None = None) -> "UnknownOptionError":
        """The error for `given`, a `what` that is not one of `known`, with the nearest one suggested.

        >>> print(UnknownOptionError.of("model", "esvi", ["essvi", "ssvi", "local-vol"]))
        unknown model 'esvi': did you mean 'essvi'? Known: essvi, local-vol, ssvi
        >>> print(UnknownOptionError.of("key", "qqq", ["seed"], file="recipe.toml"))
        recipe.toml: unknown key 'qqq'. Known: seed
        """
        names = sorted(known)
        suggestion = suggest(given, names)
        hint = "." if suggestion is None else f": did you mean '{suggestion}'?"
        message = f"unknown {what} '{given}'{hint} Known: {', '.join(names)}"
        return cls(message, suggestion=suggestion, file=file)


class InstrumentNameError(InputError):
    """Not the name of an option; `kind` says what it is instead ("future", "combo"), where known."""

    def __init__(self, message: str, *, kind: str | None = None, file: str | Path | None = None) -> None:
        self.kind = kind
        super().__init__(message, file=file)


class WorkError(VolgradError):
    """The input was sound and the work failed all the same."""


class FitError(WorkError):
    """No surface could be fitted to a chain."""


class ContractError(WorkError):
    """A task, a study or a layer breaks a law of its contract."""


class CertificateError(WorkError):
    """A surface with arbitrage was about to be published; it was not."""


def suggest(given: str, known: Iterable[str]) -> str | None:
    """The name among `known` that `given` most likely meant, or None where nothing is near.

    >>> suggest("fti", ["fit", "demo", "doctor"])
    'fit'
    """
    nearest = difflib.get_close_matches(given.lower(), list(known), n=1, cutoff=0.6)
    return nearest[0] if nearest else None
