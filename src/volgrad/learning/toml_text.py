"""Plain values as TOML 1.0, which Python reads and does not write."""

import math
import re
from typing import Any

__all__ = ["toml_text"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def toml_text(tables: dict[str, Any]) -> str:
    """A document that parses back to `tables`.

    Args:
        tables: strings, ints, floats, bools, lists and dicts with strings as keys. A key whose value is None is left
            out: TOML has no such value.

    Raises:
        ValueError: another kind of value, or a string with half a surrogate pair.

    >>> print(toml_text({"seed": 1, "batch": {"size": None, "clusters": 64, "then": [{"samples": 10}]}}), end="")
    seed = 1
    <BLANKLINE>
    [batch]
    clusters = 64
    then = [{samples = 10}]
    """
    lines: list[str] = []
    _table(tables, [], lines)
    return "\n".join(lines) + "\n" if lines else ""


def _table(table: dict[str, Any], path: list[str], lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if value is not None and not isinstance(value, dict)}
    below = {key: value for key, value in table.items() if isinstance(value, dict)}
    if path and (plain or not below):
        lines += ["", f"[{'.'.join(path)}]"] if lines else [f"[{'.'.join(path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in below.items():
        _table(value, [*path, _key(key)], lines)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = [f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None]
        return f"{{{', '.join(pairs)}}}"
    raise ValueError(f"a {type(value).__name__} has no place in TOML: {value!r}")


def _float(value: float) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return repr(value)  # the shortest text that reads back to the same bits; 1e+16 and 1e-05 are TOML too


def _string(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"half a surrogate pair has no place in TOML: {text!r}")
    return f'"{"".join(_character(character) for character in text)}"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04X}" if ord(character) < 0x20 or ord(character) == 0x7F else character
