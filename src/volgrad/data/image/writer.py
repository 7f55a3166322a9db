"""Writing a training image: in pieces, and whole or not at all."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32, Int64

from volgrad.data.image.features import Feature
from volgrad.data.image.image import Image, check_clusters, check_features
from volgrad.data.image.layout import FILES, FORMAT, HEAD, FileFacts, Head, sealed
from volgrad.errors import EmptyInputError, ForeignError, InputError, WorkError

__all__ = ["ImageWriter"]


class ImageWriter:
    """Writes the files of an image into a temporary folder beside the target, which `seal` puts in its place.

    What was not sealed when the block is left is removed.

    Args:
        folder: where the image is to lie; an image that is there already is replaced, anything else refused.
        features: the columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, ImageWriter(f"{place}/image", [Feature("price", "usd")]) as writer:
    ...     writer.append(np.ones((3, 1), np.float32), [2, 1], [10, 20], [11, 21])
    ...     image = writer.seal({"from": "an example"})
    ...     print(image.clusters, image.n_rows)
    2 3
    """

    def __init__(self, folder: str | Path, features: Sequence[Feature]) -> None:
        self._folder, self._features = Path(folder), tuple(features)
        check_features(features, len(features), self._folder)
        self._refuse_other_things()
        self._temporary = self._folder.with_name(f".{self._folder.name}.{os.getpid()}.tmp")
        _remove_leftovers(self._folder)
        self._clusters = self._rows = 0
        self._equal: int | None = None
        self._last_start = np.iinfo(np.int64).min
        self._streams: dict[str, BinaryIO] = {}
        self._hashes = {name: hashlib.sha256() for name in FILES}
        self._sizes = dict.fromkeys(FILES, 0)
        try:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(parents=True)
            for name in FILES:
                self._streams[name] = (self._temporary / name).open("wb")
        except OSError as error:
            raise self._failed(error) from error
        self._put("first_row.i64", np.zeros(1, np.int64))

    def __enter__(self) -> "ImageWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(
        self,
        rows: Float32[np.ndarray, "rows features"],
        counts: Sequence[int] | Int64[np.ndarray, " clusters"],
        start_us: Sequence[int] | Int64[np.ndarray, " clusters"],
        known_us: Sequence[int] | Int64[np.ndarray, " clusters"],
    ) -> None:
        """Add clusters that follow those added before in time.

        Args:
            rows: of all these clusters, one after the other.
            counts: rows of each cluster.
            start_us, known_us: see :class:`Image`.

        Raises:
            InputError: a value that is not finite, or clusters that contradict each other or go back in time.
            WorkError: the files cannot be written.
        """
        rows = np.ascontiguousarray(rows, FILES["rows.f32"])
        if rows.ndim != 2 or rows.shape[1] != len(self._features):
            raise InputError(f"{self._folder}: rows of shape {rows.shape} for {len(self._features)} features")
        counted, start, known = (np.asarray(values, np.int64) for values in (counts, start_us, known_us))
        check_clusters(counted, start, known, len(rows))
        if not len(counted):
            return
        if start[0] < self._last_start:
            raise InputError(f"{self._folder}: {start[0]} us comes after {self._last_start} us: sort clusters by time")
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise InputError(
                f"{self._folder}: {self._features[column].name} is {rows[row, column]} in row {self._rows + row}; "
                "leave such rows out"
            )
        if not self._clusters:
            self._equal = int(counted[0])
        if (counted != self._equal).any():
            self._equal = None
        self._put("rows.f32", rows)
        self._put("first_row.i64", self._rows + np.cumsum(counted))
        self._put("start_us.i64", start)
        self._put("known_us.i64", known)
        self._rows, self._clusters, self._last_start = self._rows + len(rows), self._clusters + len(counted), start[-1]

    def seal(self, provenance: dict[str, Any]) -> Image:
        """Finish the image and put it in its place: on the disk for good when this returns.

        Args:
            provenance: what it was derived from, in numbers, text, lists and tables of these.

        Raises:
            EmptyInputError: no cluster was added.
            WorkError: the files cannot be written.
        """
        if not self._clusters:
            raise EmptyInputError(f"{self._folder}: no cluster was added to the image; nothing to train on.")
        files = {name: FileFacts(self._sizes[name], digest.hexdigest()) for name, digest in self._hashes.items()}
        head = Head(FORMAT, list(self._features), self._clusters, self._rows, self._equal, files, provenance)
        try:
            for stream in self._streams.values():
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()
            with (self._temporary / HEAD).open("wb") as stream:
                stream.write(sealed(head))
                stream.flush()
                os.fsync(stream.fileno())
            _sync_folder(self._temporary)
            self._put_in_place()
        except OSError as error:
            raise self._failed(error) from error
        return Image.open(self._folder)

    def close(self) -> None:
        """Remove what was not sealed."""
        for stream in self._streams.values():
            with contextlib.suppress(OSError):
                stream.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _put(self, name: str, values: np.ndarray) -> None:
        content = np.ascontiguousarray(values, FILES[name]).reshape(-1).view(np.uint8).data
        try:
            self._streams[name].write(content)
        except OSError as error:
            raise self._failed(error) from error
        self._hashes[name].update(content)
        self._sizes[name] += len(content)

    def _put_in_place(self) -> None:
        """A folder cannot be replaced by a rename: the old one steps aside first, and is restored by nobody else."""
        old = self._temporary.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(old)
        self._temporary.rename(self._folder)
        _sync_folder(self._folder.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _refuse_other_things(self) -> None:
        if not self._folder.exists():
            return
        inside = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else {self._folder.name}
        if inside - {HEAD, *FILES}:
            raise ForeignError(
                f"{self._folder}: holds {min(inside - {HEAD, *FILES})!r} and is no image; name an empty or new folder.",
                file=self._folder,
            )

    def _failed(self, error: OSError) -> WorkError:
        return WorkError(
            f"{self._folder}: could not be written ({error.strerror or error}); check free space and permissions."
        )


def _remove_leftovers(folder: Path) -> None:
    """Remove what writers of this image left that were killed."""
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return
    for path in folder.parent.glob(f".{folder.name}.*"):
        pid = path.name.removeprefix(f".{folder.name}.").partition(".")[0]
        if not pid.isdecimal() or path.suffix not in (".tmp", ".old"):
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (PermissionError, OverflowError):  # it runs, or never did
            continue


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
