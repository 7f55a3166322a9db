"""One writer a folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from volgrad.errors import WorkError

__all__ = ["locked"]


@contextlib.contextmanager
def locked(root: Path, name: str, what: str, doing: str) -> Iterator[None]:
    """Hold a folder's lock; it ends with the block, or with the process however that dies.

    Args:
        root: the folder.
        name: of the file in it that is locked.
        what: the folder is, for the message ("the store").
        doing: what another holder does ("is writing to this store").

    Raises:
        WorkError: another process holds it, or the file cannot be written.
    """
    import fcntl  # not on Windows, where what is written can be read all the same

    try:
        descriptor = os.open(root / name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WorkError(f"{root}: {what} cannot be written ({error.strerror}); see to its permissions.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise WorkError(f"{root}: {who} {doing}; wait until it has finished.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
