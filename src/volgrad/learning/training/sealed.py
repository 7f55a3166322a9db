"""The manifest of a checkpoint: what it holds and what it was made with, sealed with its own SHA-256.

A manifest that does not match its seal is never used; it holds the SHA-256 of the arrays beside it.
"""

import json
import math
import re
from typing import Any

import msgspec

from volgrad.data.seal import seal, unseal

__all__ = ["Manifest", "check_plain", "sealed", "unsealed"]

_FORMAT = 1
_TAG = "__float__"  # JSON has no inf and no NaN
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One checkpoint.

    Attributes:
        name: of its files, without the ending; it says which checkpoint this is.
        samples: clusters that the run had seen.
        sha256, bytes: of the file of arrays.
        kinds: of each leaf, by name (`volgrad.learning.training.leaves.Leaf.kind`).
        types: of each leaf, by name, such as "float32".
        host: what the run's host side carries; floats that JSON does not know as `{"__float__": "inf"}`.
        identity: the configuration's keys and values.
        format: of the manifest.
    """

    name: str
    samples: int
    sha256: str
    bytes: int
    kinds: dict[str, str]
    types: dict[str, str]
    host: dict[str, Any]
    identity: dict[str, Any]
    format: int = _FORMAT


def sealed(manifest: Manifest) -> bytes:
    """The content of a manifest's file."""
    body = json.dumps(_tagged(msgspec.to_builtins(manifest)), separators=(",", ":"), allow_nan=False).encode()
    return seal(body)


def unsealed(content: bytes) -> Manifest | None:
    """The manifest of a file's content; None where the content is not what was sealed, or of another format."""
    body = unseal(content)
    if body is None:
        return None
    try:
        manifest = msgspec.convert(json.loads(body, object_hook=_untagged), Manifest)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None
    sound = manifest.format == _FORMAT and manifest.bytes >= 0 and _SHA256.fullmatch(manifest.sha256) is not None
    return manifest if sound and manifest.kinds.keys() == manifest.types.keys() else None


def check_plain(value: object, where: str) -> None:
    """Refuse what would not come back from the manifest as it went in.

    Raises:
        ValueError: `value` has something in it that is not None, a bool, an int, a float, a string, a list or a dict
            with strings as keys.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or key == _TAG:
                raise ValueError(f"{where} has the key {key!r}: only strings can be stored, and not {_TAG!r}")
            check_plain(item, f"{where}.{key}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            check_plain(item, f"{where}[{position}]")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{where} is a {type(value).__name__}, which cannot be stored: give plain Python values")


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    return {_TAG: repr(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _untagged(value: dict[str, Any]) -> Any:
    return float(value[_TAG]) if value.keys() == {_TAG} else value
