"""What every verb shares: the common options, how output and progress look, and how a failure ends.

Results go to standard output, everything else (progress, errors) to standard error.
"""

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EEXIST, EISDIR, ENOENT, ENOTDIR, EPERM, EROFS
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import CycloptsError, MissingArgumentError, Parameter, UnknownCommandError, UnusedCliTokensError

from volgrad.errors import VolgradError, suggest

if TYPE_CHECKING:
    from cyclopts import App
    from rich.console import Console

__all__ = ["CommonOptions", "print_json", "progress", "results_console", "run"]

# a path that the user gave and the system refuses: wrong usage rather than failed work
_PATH_FAULTS = {EACCES, EEXIST, EISDIR, ENOENT, ENOTDIR, EPERM, EROFS}
_TRUE = {"1", "true", "yes", "y", "on", "t"}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every verb; take them as the last parameter: `common: CommonOptions = CommonOptions()`."""

    json: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Print one JSON object for machines instead of text."""

    debug: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """On failure show the traceback."""


def run(make_app: Callable[[], "App"], words: Sequence[str]) -> int:
    """Run one command and turn whatever ends it into an exit code and, on failure, one sentence.

    Args:
        make_app: makes the application.
        words: the words after the program's name.

    Returns:
        The verb's own code (0 when it returned None), 2 for wrong usage or input, 1 for any other failure.
    """
    try:
        code = make_app()(words)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(error, words, 2, _usage_sentence(error))
    except VolgradError as error:
        return _fail(error, words, error.exit_code, str(error))
    except BrokenPipeError:  # the reader of a pipe left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        known = error.errno in _PATH_FAULTS and error.filename is not None
        return _fail(error, words, 2 if known else 1, f"{place}{error.strerror or error}.")
    except Exception as error:  # noqa: BLE001 - the edge of the process: the unforeseen is told in a sentence
        hint = "" if _asks(words, "debug") else " Run it again with --debug for the traceback."
        reason = " ".join(str(error).split())[:500].rstrip(".") or "no reason given"
        return _fail(error, words, 1, f"unexpected {type(error).__name__}: {reason}.{hint}")
    return code if isinstance(code, int) else 0


def print_json(payload: Mapping[str, Any]) -> None:
    """Print `payload` as one JSON object; NaN and infinities as null, arrays as lists, paths as text."""
    print(json.dumps(_plain(payload), allow_nan=False))


def results_console() -> "Console":
    """The console for results, on standard output; 120 columns wide where that is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


@contextmanager
def progress(
    label: str, total: int, *, at_first: str | None = None, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, shown on a terminal only.

    Args:
        label: what is being done, such as "fitting chains".
        total: how many units there are.
        at_first: label until the first unit is done, where that takes its own time ("compiling").
        quiet: show nothing in any case.

    Yields:
        A function that takes the number of units just done.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(at_first or label, total=total)
        yield lambda done: bar.update(task, advance=done, description=label)


def _usage_sentence(error: CycloptsError) -> str:
    """What the parser refused, in one sentence, and where the right usage is told."""
    chain = " ".join(("volgrad", *(error.command_chain or ())))
    see = f"See {chain} --help."
    if isinstance(error, UnknownCommandError) and error.unused_tokens and error.app is not None:
        given = error.unused_tokens[0]
        verbs = [name for name in error.app if not name.startswith("-")]
        if given.lstrip("-") in ("json", "debug"):
            return f"{given} follows the verb: {chain} VERB {given}."
        nearest = suggest(given, [*verbs, *error.app.help_flags, *error.app.version_flags])
        hint = "" if nearest is None else f" Did you mean {nearest}?"
        return f"unknown verb {given}.{hint} Verbs: {', '.join(verbs)}."
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{chain} does not take {' '.join(error.unused_tokens)}. {see}"
    lacking = error.argument if isinstance(error, MissingArgumentError) and not error.tokens_so_far else None
    if lacking is not None and not lacking.tokens:
        return f"{chain} needs {lacking.name if lacking.name.startswith('-') else lacking.name.upper()}. {see}"
    sentence = str(error).strip()
    return f"{sentence[:1].lower()}{sentence[1:]} {see}"


def _fail(error: Exception, words: Sequence[str], code: int, sentence: str) -> int:
    if _asks(words, "debug"):
        traceback.print_exception(error)
    print(f"volgrad: {sentence}", file=sys.stderr)
    if _asks(words, "json"):
        print_json({"error": {"kind": type(error).__name__, "message": sentence, "exit_code": code}})
    return code


def _asks(words: Sequence[str], flag: str) -> bool:
    """Whether a common flag is set, found without the parser: the parser itself may be what failed."""
    set_to = os.environ.get(f"VOLGRAD_{flag.upper()}", "").lower()
    return f"--{flag}" in words or set_to in _TRUE


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
