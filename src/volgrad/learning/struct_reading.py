"""Tables from a file as typed structs, with errors that name the key, the value and what was expected."""

import math
import types
import typing
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from volgrad.errors import InputError, UnknownOptionError, suggest

__all__ = ["Source", "keys_of", "read_struct"]

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text in quotes"}


class Source(NamedTuple):
    """Where values come from.

    Attributes:
        file: the recipe, for errors.
        given: what `--set` gave, by key, as it was typed.
        known: every key there is, for suggestions across tables.
    """

    file: str
    given: dict[str, str]
    known: tuple[str, ...] = ()

    def says(self, key: str, message: str) -> InputError:
        """The error for a key's value."""
        return InputError(f"{self.place(key)}: {message}")

    def place(self, key: str) -> str:
        """The file, or the option that set the key."""
        for part in (key, key.split("[", maxsplit=1)[0]):
            if part in self.given:
                return f"--set {part}={' '.join(self.given[part].split())}"
        return self.file


def keys_of(struct: type[msgspec.Struct], path: str) -> list[str]:
    """Every key of a struct and of the structs in it: `batch.size`."""
    found: list[str] = []
    for field in msgspec.structs.fields(struct):
        name = f"{path}.{field.encode_name}" if path else field.encode_name
        found += keys_of(field.type, name) if _is_struct(field.type) else [name]
    return found


def read_struct(struct: type[_Struct], table: dict[str, Any], path: str, source: Source) -> _Struct:
    """The struct that a table says.

    Args:
        struct: its type; what its `__post_init__` raises as InputError is given a place.
        table: from TOML.
        path: name of the table, such as "batch".
        source: for errors.

    Raises:
        UnknownOptionError: a key that does not exist, or a name that is none of a choice.
        InputError: a key is missing, or a value of the wrong type or out of range.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    if unknown := [key for key in table if key not in fields]:
        raise _unknown(unknown[0], list(fields), path, source)
    values: dict[str, Any] = {}
    for key, field in fields.items():
        where = f"{path}.{key}" if path else key
        if key in table:
            values[field.name] = _read(field.type, table[key], where, source)
        elif field.required:
            raise InputError(f"{source.file}: {where} is missing: it must be {_expected(field.type)}")
    try:
        return struct(**values)
    except UnknownOptionError:
        raise
    except InputError as error:
        at_fault = [key for key in source.given if key.startswith(f"{path}.") and key in str(error)]
        raise source.says(at_fault[0] if at_fault else path, str(error)) from None


def _unknown(key: str, known: list[str], path: str, source: Source) -> UnknownOptionError:
    where = f"{path}.{key}" if path else key
    full = [f"{path}.{name}" if path else name for name in known]
    if suggest(key, known) is None:
        elsewhere = [name for name in source.known if name.rpartition(".")[2] == key]
        full = elsewhere or full
    elif path:
        nearest = f"{path}.{suggest(key, known)}"
        message = f"unknown key '{where}': did you mean '{nearest}'? Known: {', '.join(sorted(full))}"
        return UnknownOptionError(f"{source.place(where)}: {message}", suggestion=nearest)
    error = UnknownOptionError.of("key", where, full)
    return UnknownOptionError(f"{source.place(where)}: {error}", suggestion=error.suggestion)


def _read(kind: Any, value: Any, key: str, source: Source) -> Any:
    if _is_struct(kind):
        if not isinstance(value, dict):
            raise source.says(key, f"{key} = {value!r}: must be a table")
        return read_struct(kind, value, key, source)
    if (item := _item_struct(kind)) is not None and isinstance(value, list):
        if wrong := [entry for entry in value if not isinstance(entry, dict)]:
            raise source.says(key, f"{key} has {wrong[0]!r} in it: must be a list of tables")
        read = [read_struct(item, entry, f"{key}[{place}]", source) for place, entry in enumerate(value)]
        return msgspec.convert(read, kind)
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        if key in source.given and _takes_text(kind) and not isinstance(value, str):
            return _read(kind, source.given[key], key, source)  # 2024-01-01 is a date to TOML, and was meant as text
        raise _mistyped(kind, value, key, source) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise source.says(key, f"{key} = {value}: must be a finite number")
    return converted


def _mistyped(kind: Any, value: Any, key: str, source: Source) -> InputError:
    parts = _parts(kind)
    choices = [name for part in parts if typing.get_origin(part) is Literal for name in typing.get_args(part)]
    only = all(typing.get_origin(part) is Literal for part in parts)
    if isinstance(value, str) and only and all(isinstance(name, str) for name in choices):
        error = UnknownOptionError.of(key, value, choices)
        return UnknownOptionError(f"{source.place(key)}: {error}", suggestion=error.suggestion)
    return source.says(key, f"{key} = {value!r}: must be {_expected(kind)}")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _item_struct(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a list or tuple is of."""
    items = [item for item in typing.get_args(kind) if item is not Ellipsis]
    sequence = typing.get_origin(kind) in (list, tuple)
    return items[0] if sequence and len(items) == 1 and _is_struct(items[0]) else None


def _parts(kind: Any) -> list[Any]:
    """The members of a union, without None, and without the constraints of `Annotated`."""
    if typing.get_origin(kind) is typing.Annotated:
        return _parts(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(kind) if member is not type(None) for part in _parts(member)]
    return [kind]


def _takes_text(kind: Any) -> bool:
    return any(part is str or typing.get_origin(part) is Literal for part in _parts(kind))


def _expected(kind: Any) -> str:
    """A type in words."""
    return " or ".join(_words(part) for part in _parts(kind))


def _words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    if typing.get_origin(kind) is Literal and len(typing.get_args(kind)) == 1:
        return repr(typing.get_args(kind)[0])
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(kind)))}"
    if typing.get_origin(kind) in (list, tuple):
        items = [item for item in typing.get_args(kind) if item is not Ellipsis]
        return f"a list, each entry {_expected(items[0])}" if items else "a list"
    if _is_struct(kind) or kind is dict or typing.get_origin(kind) is dict:
        return "a table"
    return getattr(kind, "__name__", str(kind))
