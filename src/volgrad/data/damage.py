"""What reading a damaged file raises, as one kind of error that names the file."""

import lzma
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from volgrad.errors import DamagedError, InputError

__all__ = ["damage"]


@contextmanager
def damage(source: str) -> Iterator[None]:
    """Turns what reading a damaged file raises into a :class:`DamagedError` that names `source`."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check the path.", file=source) from error
    except (pa.ArrowException, lzma.LZMAError, OSError, EOFError, UnicodeDecodeError, MemoryError) as error:
        why = str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
        raise DamagedError(
            f"{source}: damaged or cut short ({why}); fetch it again or leave it out.", file=source
        ) from error
