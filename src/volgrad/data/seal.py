"""A JSON body sealed with its own SHA-256: what does not match its seal is never used.

>>> unseal(seal(b"{}")), unseal(seal(b"{}").replace(b"{}", b"[]"))
(b'{}', None)
"""

import hashlib

__all__ = ["seal", "unseal"]

_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","manifest":', b"}\n"


def seal(body: bytes) -> bytes:
    """The content of a file that holds the JSON text `body`, and is JSON itself."""
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + _TAIL


def unseal(content: bytes) -> bytes | None:
    """The body; None where the content is not what was sealed."""
    start = len(_HEAD) + 64 + len(_MIDDLE)
    digest, body = content[len(_HEAD) : len(_HEAD) + 64], content[start : -len(_TAIL)]
    framed = content.startswith(_HEAD) and content[len(_HEAD) + 64 : start] == _MIDDLE and content.endswith(_TAIL)
    return body if framed and hashlib.sha256(body).hexdigest().encode() == digest else None
