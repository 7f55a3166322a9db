"""From the bytes of a file that is no table to pieces: lines of frames or documents, or one document."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec

from volgrad.data.formats.build import quotes_table
from volgrad.data.formats.clocks import Clock
from volgrad.data.formats.documents import DocumentDecoder
from volgrad.data.formats.lines import (
    LARGEST,
    LARGEST_DOCUMENT,
    Block,
    blocks,
    frame_of,
    is_recording,
    plain_frame,
)
from volgrad.data.formats.recognition import Kind, Looking, unwrapped
from volgrad.data.formats.session import SessionDecoder
from volgrad.data.formats.ticker_lines import TickerLines
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import DamagedError, EmptyInputError, ForeignError, InputError

__all__ = ["decode"]

_ROWS = 65_536  # of a piece
_ANY = msgspec.json.Decoder()
_TESTNET = b"://test."  # of the exchange's addresses


def decode(head: bytes, stream: BinaryIO, name: str, underlying: str | None = None) -> Iterator[Piece]:
    """Pieces of a file that is no table, told by its content.

    Args:
        head: its first bytes, unpacked.
        stream: the whole of it from the start, unpacked; read once, a block at a time where it has lines.
        name: the source, for messages.
        underlying: of bars and volatility indices, whose answers do not name it.

    Raises:
        ForeignError: it holds none of the formats.
        DamagedError: it breaks off, or a line or document is beyond bounds.
        EmptyInputError: it is sound and holds no quote, trade or index.

    >>> import io
    >>> data = b'{"instrument_name": "BTC-27SEP24-40000-C", "timestamp": 1699593511632, "best_bid_price": 0.2155}'
    >>> [(p.kind.value, p.table["bid"].to_pylist()) for p in decode(data, io.BytesIO(data), "t.jsonl")]
    [('ticker', [0.2155])]
    """
    if not is_recording(head) and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"["):
        start = head[:12]
        raise ForeignError(f"{name}: neither JSON nor a recorded session: it starts with {start!r}.", file=name)
    return _decoded(stream, name, underlying)


def _decoded(stream: BinaryIO, name: str, underlying: str | None) -> Iterator[Piece]:
    parts = blocks(stream)
    held: list[Block] = []
    looking, found, size = Looking(), None, 0
    for block in parts:
        held.append(block)
        found = looking.at(block.lines)
        size += sum(map(len, block.lines))
        if found is not None or looking.whole or size > LARGEST:
            break
    everything = itertools.chain(held, parts)
    del held
    decoder, clock = DocumentDecoder(name, underlying), Clock(name)
    if found is None:
        pieces = _whole(everything, decoder)
    elif found.kind is Kind.SESSION:
        pieces = _session(everything, name, found.envelope)
    elif found.kind is Kind.TICKERS:
        pieces = _tickers(everything, name)
    else:
        pieces = _documents(everything, decoder)
    for piece in pieces:
        yield clock.see(piece)
    clock.finish()


def _session(parts: Iterator[Block], name: str, envelope: Sequence[str]) -> Iterator[Piece]:
    """A recorded session, in its own lines or in plain JSON lines, each frame perhaps in an envelope."""
    session = SessionDecoder(name)
    account = session.account
    yielded = False
    for block in parts:
        account.frames += block.overlong
        account.malformed += block.overlong
        for line in block.lines:
            usual = plain_frame(line)
            if usual is not None:
                session.frame(unwrapped(usual, envelope) if envelope else usual)
                continue
            if not line or line.isspace():
                continue
            what, frame = frame_of(line)
            if what in ("frame", "unreadable"):
                session.frame(frame)
            elif what == "connection":
                session.connected(testnet=_TESTNET in line)
            else:
                account.frames += 1
                account.skipped["requests" if what == "sent" else "answers over HTTP"] += 1
        if session.rows >= _ROWS:
            yielded = True
            yield from session.drain()
    pieces = session.drain()
    if not yielded and not account.used:
        seen = f"{account.frames} frames, of which {account.malformed} cannot be read"
        seen += f"; the exchange answered with an error, {account.fault}" if account.fault else ""
        raise EmptyInputError(f"{name}: a session without a quote, trade or index ({seen}).", file=name)
    yield from _with_notes(pieces, session.notes())


def _tickers(parts: Iterator[Block], name: str) -> Iterator[Piece]:
    tickers = TickerLines(name)
    for block in parts:
        tickers.lines += block.overlong
        tickers.malformed += block.overlong
        for line in block.lines:
            if line and not line.isspace():
                tickers.add(line)
            if tickers.rows >= _ROWS:
                yield from tickers.drain()
    yield from _with_notes(tickers.drain(), tickers.notes())


def _documents(parts: Iterator[Block], decoder: DocumentDecoder) -> Iterator[Piece]:
    """A document a line; lines that are none that is known are counted."""
    malformed, read = 0, 0
    for block in parts:
        malformed += block.overlong
        for line in block.lines:
            if not line or line.isspace():
                continue
            try:
                known = decoder.add(_ANY.decode(line))
            except (ValueError, RecursionError):
                known = False
            malformed += not known
            for piece in decoder.drain(end=False):
                read += 1
                yield piece._replace(malformed=piece.malformed + malformed)
                malformed = 0
    yield from _last(decoder, malformed, read)


def _whole(parts: Iterator[Block], decoder: DocumentDecoder) -> Iterator[Piece]:
    """One document over all lines; else lines that may at least say why they hold nothing."""
    name = decoder.name
    lines: list[bytes] = []
    size = 0
    for block in parts:
        lines += block.lines
        size += sum(map(len, block.lines))
        if size > LARGEST_DOCUMENT or block.overlong:
            raise DamagedError(
                f"{name}: one JSON document of more than {LARGEST_DOCUMENT >> 20} MiB, or lines of which none is of a "
                f"format that is known (a line may have {LARGEST >> 20} MiB); split it.",
                file=name,
            )
    try:
        value = _ANY.decode(b"\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise _no_document(lines, decoder, str(error)) from None
    if not decoder.add(value):
        raise ForeignError(f"{name}: JSON, but of no format of quotes, trades or indices that is known.", file=name)
    yield from _last(decoder, 0, 0)


def _no_document(lines: list[bytes], decoder: DocumentDecoder, why: str) -> InputError:
    """What to say of lines that are no document together, and none of which is a record by itself."""
    name, first = decoder.name, True
    for line in filter(bytes.strip, lines):
        value = _value_of(line)
        if first and value is None:
            return DamagedError(f"{name}: JSON that breaks off or is damaged ({why[:120]}); fetch it again.", file=name)
        first = False
        if value is not None and not decoder.add(value):
            return ForeignError(f"{name}: lines of JSON, but of no format that is known.", file=name)
    return decoder.nothing()


def _value_of(line: bytes) -> Any:
    try:
        return _ANY.decode(line)
    except (ValueError, RecursionError):
        return None


def _last(decoder: DocumentDecoder, malformed: int, read: int) -> Iterator[Piece]:
    """What is left at the end of the documents."""
    pieces = decoder.drain()
    if not read and not any(piece.table.num_rows or piece.malformed for piece in pieces):
        raise decoder.nothing()
    if malformed and not pieces:
        pieces = _nothing()
    for piece in _with_notes(pieces, decoder.notes()):
        yield piece._replace(malformed=piece.malformed + malformed)
        malformed = 0


def _nothing() -> list[Piece]:
    """A piece without a row, to tell something in."""
    return [Piece(Dataset.QUOTES, SourceKind.SESSION, quotes_table([]))]


def _with_notes(pieces: list[Piece], notes: tuple[str, ...]) -> list[Piece]:
    if notes:
        pieces = pieces or _nothing()
        pieces[-1] = pieces[-1]._replace(notes=(*pieces[-1].notes, *notes))
    return pieces
