"""Compressed files as streams of their content, with bounds on how far they may swell.

What a file is compressed with is told by its first bytes (RFC 1952 for gzip, RFC 8878 for Zstandard, the formats'
own texts for bzip2 and xz).
"""

import bz2
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from volgrad.errors import DamagedError

__all__ = ["LARGEST_LINE", "LARGEST_RATIO", "UNBOUNDED", "packing", "unpacked"]

# A compressed file may give this much without question, and beyond it so many times its own size. Measured: Tardis
# files swell 8 to 12 times, JSON lines 20 times; deflate cannot exceed 1,032, so that 300 is near nothing but zeros.
UNBOUNDED = 64 << 20
LARGEST_RATIO = 300
# No format has a line of this size; reading it whole would be all that a bomb wants
LARGEST_LINE = 64 << 20
_XZ_MEMORY = 512 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip"}


def packing(head: bytes) -> str | None:
    """What a file that starts with `head` is compressed with.

    >>> packing(b"\\x1f\\x8b\\x08"), packing(b"ts,ccy")
    ('gzip', None)
    """
    return next((how for magic, how in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(path: Path, how: str | None) -> BinaryIO:
    """The content of a file as a buffered stream that can be peeked into; `how` as :func:`packing` said.

    Reading raises OSError, EOFError, lzma.LZMAError or pyarrow.ArrowException where the file is damaged, and
    DamagedError where it swells beyond bounds.
    """
    if how is None:
        return path.open("rb", buffering=1 << 16)
    return io.BufferedReader(_Bounded(path, how), 1 << 16)


class _Bounded(io.RawIOBase):
    """A decompressing stream that counts what goes in and what comes out."""

    def __init__(self, path: Path, how: str) -> None:
        self._path, self._given = path, 0
        self._file = path.open("rb", buffering=0)
        if how == "xz":
            self._fill = _Members(self._file, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)).readinto
        elif how == "bzip2":
            self._fill = _Members(self._file, bz2.BZ2Decompressor).readinto
        else:
            self._fill = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), how).readinto

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next bytes of the content."""
        given = self._fill(buffer)
        self._given += given
        if self._given > UNBOUNDED + LARGEST_RATIO * self._file.tell():
            raise DamagedError(
                f"{self._path}: swells to more than {self._given >> 20} MiB out of {self._file.tell():,} bytes when "
                f"unpacked, {LARGEST_RATIO} times its size: no file of quotes does; leave it out or fetch it again.",
                file=self._path,
            )
        return given

    def close(self) -> None:
        """Closes the file, too."""
        if not self.closed:
            self._file.close()
        super().close()


class _Decoder(Protocol):
    """What bz2 and lzma decompressors are."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Members:
    """Compressed members one after the other, as bzip2 and xz files hold them. Whatever follows a member must be
    one, too: the library's own readers drop a damaged second member silently.
    """

    def __init__(self, file: io.RawIOBase, fresh: Callable[[], _Decoder]) -> None:
        self._file, self._fresh, self._decoder = file, fresh, fresh()

    def readinto(self, buffer: memoryview) -> int:
        """The next bytes of the content; none at the end."""
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _next(self, size: int) -> bytes:
        while True:
            decoder, raw = self._decoder, b""
            if decoder.eof:
                raw = decoder.unused_data.lstrip(b"\0") or (self._file.read(1 << 16) or b"")
                if not raw:
                    return b""
                raw = raw.lstrip(b"\0")  # xz pads between members
                self._decoder = decoder = self._fresh() if raw else decoder
                if not raw:
                    continue
            elif decoder.needs_input:
                raw = self._file.read(1 << 16) or b""
                if not raw:
                    raise EOFError("the compressed stream ends too early")
            if content := decoder.decompress(raw, size):
                return content
