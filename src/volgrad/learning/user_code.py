"""A user's own file: `file.py:Name` as `[task] use` writes it, loaded with errors that say where the file is wrong."""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.study import Study

__all__ = ["classes_in", "is_reference", "load", "load_module", "source_digest"]

_Class = TypeVar("_Class")
_REFERENCE = re.compile(r"(?P<file>.+\.py)(?::(?P<name>\w*))?")
_PREFIX = "volgrad_user_"


def is_reference(text: str) -> bool:
    """Whether `text` means a user's file, and no name that comes with volgrad.

    >>> is_reference("mine.py:Mine"), is_reference("surface-net")
    (True, False)
    """
    return _REFERENCE.fullmatch(text) is not None


def load(reference: str, base: Path, contract: type[_Class] = Study) -> Callable[[], _Class]:
    """The class that `file.py:Name` means, to be called for an instance.

    The name may be left out where the file has one such class only. The file is run; it imports what is installed, not
    its neighbours.

    Args:
        reference: as users write it.
        base: folder that a relative path starts from.
        contract: what the class must be a concrete subclass of.

    Raises:
        InputError: no such file; the file fails (the message names the line); the class is none of `contract`.
        UnknownOptionError: no such name in it; carries the nearest one.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise InputError(f"'{reference}' does not name a class in a file; write it as file.py:Name")
    module = load_module(base / found["file"])
    classes = classes_in(module, contract)
    path, name, what = base / found["file"], found["name"], contract.__name__
    if not name:
        if len(classes) == 1:
            return next(iter(classes.values()))
        there = f"has more than one ({', '.join(classes)})" if classes else "has none"
        raise InputError(f"{path}: which {what} is meant? The file {there}; write {path.name}:Name", file=path)
    if name in classes:
        return classes[name]
    value = getattr(module, name, None)
    if value is None:
        raise UnknownOptionError.of(what, name, classes, file=path)
    if isinstance(value, type) and issubclass(value, contract):
        missing = sorted(getattr(value, "__abstractmethods__", ()))
        raise InputError(f"{path}: {name} lacks {', '.join(missing)}, which every {what} has; write it", file=path)
    raise InputError(f"{path}: {name} is no {what}; let the class inherit from {what}", file=path)


def load_module(path: Path) -> ModuleType:
    """Run a user's file.

    Raises:
        InputError: there is no such file, or it fails; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a path is relative to the recipe's folder", file=path)
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{_PREFIX}{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: this is no Python file", file=path)
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and shape checks look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise InputError(f"{path}: {told(error, path)}", file=path) from error
    return module


def classes_in(module: ModuleType, contract: type[_Class]) -> dict[str, type[_Class]]:
    """The concrete subclasses of `contract` that a module defines itself, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, contract)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
    }


def source_digest(kind: type) -> str | None:
    """SHA-256 of the user's file that a class comes from; None for one of an installed module."""
    if not kind.__module__.startswith(_PREFIX):
        return None
    return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()


def told(error: BaseException, path: Path) -> str:
    """What an exception in a user's file says, with the last line of that file that it went through.

    >>> try:
    ...     _ = int("x")
    ... except ValueError as error:
    ...     print(told(error, Path("mine.py")))
    ValueError: invalid literal for int() with base 10: 'x'
    """
    reason = " ".join(str(error).split())[:500] or "no reason given"
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path or Path(frame.filename) == path.resolve():
            line = frame.lineno
    where = "" if line is None else f"line {line}: "
    return f"{where}{type(error).__name__}: {reason}"
