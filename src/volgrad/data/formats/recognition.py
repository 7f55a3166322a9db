"""What the lines of a file hold, told by the first that is of a known format."""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from volgrad.data.formats.lines import is_recording
from volgrad.data.formats.records import Shape, documents, shape_of

__all__ = ["Found", "Kind", "Looking", "unwrapped"]

_ANY = msgspec.json.Decoder()
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_DEEPEST = 3  # envelopes around a frame


class Kind(enum.Enum):
    """What a file is read as."""

    SESSION = "session"
    TICKERS = "tickers"
    DOCUMENTS = "documents"
    WHOLE = "one document"


class Found(NamedTuple):
    """A kind, and of a session the fields that lead to the frame where each stands in an envelope."""

    kind: Kind
    envelope: tuple[str, ...] = ()


class Looking:
    """Looks at lines until one tells: answers to requests and empty ones may come first, in any number."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._first = True
        self.whole = False

    def at(self, lines: Sequence[bytes]) -> Found | None:
        """Look at the next lines; None where they tell nothing, with `whole` set where they are parts of one document.

        >>> Looking().at([b'{"result": ["subscribed"]}', b'{"ts": 1, "msg": {"params": {"channel": "a"}}}'])
        Found(kind=<Kind.SESSION: 'session'>, envelope=('msg',))
        """
        for line in lines:
            if not line or line.isspace():
                continue
            first, self._first = self._first, False
            if first and is_recording(line):
                return Found(Kind.SESSION)
            try:
                value = _ANY.decode(line)
            except (ValueError, RecursionError):
                if first and line.rstrip()[-1:] in (b"[", b"{", b",", b":"):
                    self.whole = True
                    return None
                continue
            if (found := _of_value(value)) is not None:
                return found
        return None


def _of_value(value: object) -> Found | None:
    if (envelope := _envelope(value)) is not None:
        return Found(Kind.SESSION, envelope)
    found = next(documents(value), None)
    if found is None:
        return None
    single = found.shape is Shape.TICKER and isinstance(value, dict) and len(found.records) == 1
    return Found(Kind.TICKERS if single else Kind.DOCUMENTS)


def _envelope(value: object, depth: int = 0) -> tuple[str, ...] | None:
    """Where in a value a frame stands: () where it is one; None where there is none."""
    if isinstance(value, str) and depth and value.startswith("{"):
        try:
            value = _ANY.decode(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict) or depth > _DEEPEST:
        return None
    if shape_of(value) is Shape.FRAME:
        return ()
    for name, part in value.items():
        if (inner := _envelope(part, depth + 1)) is not None:
            return (name, *inner)
    return None


def unwrapped(line: bytes, envelope: Sequence[str]) -> bytes:
    """The frame in a line; the line itself where it is in no such envelope (the session then says what it is).

    >>> unwrapped(b'{"ts": 1, "msg": {"id": 7}}', ["msg"]), unwrapped(b'{"msg": "{}"}', ["msg"])
    (b'{"id": 7}', b'{}')
    """
    part = line
    try:
        for name in envelope:
            inner = bytes(_RAW.decode(part)[name])
            part = _TEXT.decode(inner).encode() if inner.startswith(b'"') else inner
    except (ValueError, KeyError, RecursionError):
        return line
    return part
