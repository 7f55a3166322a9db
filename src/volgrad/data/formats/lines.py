"""Lines of a stream, a block at a time, and the frame that a line of a recording holds.

A recording has one message a line, in one of these forms (seen in a recorded session; `t` is the recorder's clock):

======================  =====================================
``wss://host <-> t``    a connection was opened
``wss://host <- t: {}`` a request that was sent
``http... -> t: {}``    a request over HTTP and its answer
``t: {}``               a message that was received
``{}``                  the same in plain JSON lines
======================  =====================================
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["LARGEST", "LARGEST_DOCUMENT", "Block", "Line", "blocks", "frame_of", "is_recording", "plain_frame"]

BLOCK = 1 << 22
#: Of a line among others. A frame of a whole chain's marks is 89 kB and a chain in one document about 1 MB (both of the
#: exchange's own figures), so that anything near this is no quote data; it bounds the memory that one line can take.
LARGEST = 1 << 26
#: Of a whole document, which may also stand in one line: some hundred chains, gathered in an array.
LARGEST_DOCUMENT = 1 << 28

_RECORDED = re.compile(rb"(?:wss?|https?)://\S+ (?:<->|<-|->) \d|\d{9,}(?:\.\d+)?: ?[{\[]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_CLOCK = 40
_OPEN_BRACE, _OPEN_BRACKET = b"{["


class Block(NamedTuple):
    """Whole lines, and how many beside them were longer than `LARGEST` and dropped."""

    lines: list[bytes]
    overlong: int


class Line(NamedTuple):
    """One line of a recording: `what` is "frame", "sent", "connection", "http" or "unreadable"."""

    what: str
    frame: bytes


def blocks(stream: BinaryIO, size: int = BLOCK) -> Iterator[Block]:
    """Lines without their ends; the memory held is a block, or one line where that is longer.

    The first line may be a whole document.

    >>> import io
    >>> [b.lines for b in blocks(io.BytesIO(b"one\\ntwo\\nthree"), 5)]
    [[b'one'], [b'two'], [], [b'three']]
    """
    rest: list[bytes] = []  # parts of a line that goes on
    held, bound, dropping = 0, LARGEST_DOCUMENT, False
    first = True
    while read := stream.read(size):
        if first:
            read, first = read.removeprefix(_BYTE_ORDER_MARK), False
        head, broken, tail = read.partition(b"\n")
        overlong = 0
        if not dropping:
            rest.append(head)
            held += len(head)
            if held > bound:
                rest, held, dropping, overlong = [], 0, True, 1
        lines: list[bytes] = []
        if broken:
            if not dropping:
                lines.append(b"".join(rest))
            whole = tail.split(b"\n")
            last = whole.pop()
            dropping, bound = False, LARGEST
            lines += whole
            rest, held = [last], len(last)
            if size > LARGEST:
                kept = [line for line in lines if len(line) <= LARGEST]
                overlong, lines = overlong + len(lines) - len(kept), kept
        yield Block(lines, overlong)
    if held:
        yield Block([b"".join(rest)], 0)


def is_recording(head: bytes) -> bool:
    """Whether the bytes begin like a recorded session rather than like JSON.

    >>> is_recording(b'1626993723.8: {"jsonrpc"'), is_recording(b'{"jsonrpc"')
    (True, False)
    """
    return _RECORDED.match(head.removeprefix(_BYTE_ORDER_MARK).lstrip()) is not None


def plain_frame(line: bytes) -> bytes | None:
    """The frame in a line of one of the two usual forms, fast; None for all others: see `frame_of`.

    >>> plain_frame(b'1626993723.8: {"id": 1}'), plain_frame(b"wss://host/ws <-> 1626993723.4")
    (b'{"id": 1}', None)
    """
    if line.startswith(b"{"):
        return line
    cut = line.find(b": {", 0, _LONGEST_CLOCK)
    return line[cut + 2 :] if cut > 0 and line[:cut].replace(b".", b"").isdigit() else None


def frame_of(line: bytes) -> Line:
    """The frame in a line that is not blank.

    >>> frame_of(b'1626993723.8: {"id": 1}').frame
    b'{"id": 1}'
    >>> frame_of(b"wss://host/ws <-> 1626993723.4").what
    'connection'
    """
    if line[0] in (_OPEN_BRACE, _OPEN_BRACKET):
        return Line("frame", line)
    head, _, frame = line.partition(b": ")
    if head.replace(b".", b"").isdigit():
        return Line("frame", frame)
    if line.startswith((b"ws://", b"wss://")):
        return Line("connection" if b" <-> " in head else "sent", b"")
    if line.startswith((b"http://", b"https://")):
        return Line("http", b"")
    stripped = line.lstrip()
    return Line("frame", stripped) if stripped[:1] in (b"{", b"[") else Line("unreadable", b"")
