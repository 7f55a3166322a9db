"""Files of an image: their names, types, and what `image.json` says of them."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from volgrad.data.image.features import Feature
from volgrad.errors import DamagedError, ForeignError

__all__ = ["FILES", "FORMAT", "HEAD", "FileFacts", "Head", "check_bytes", "read_head", "sealed"]

HEAD = "image.json"
FORMAT = 1
#: name of the file -> type of its numbers, little-endian
FILES = {
    "rows.f32": np.dtype("<f4"),
    "first_row.i64": np.dtype("<i8"),
    "start_us.i64": np.dtype("<i8"),
    "known_us.i64": np.dtype("<i8"),
}

_PIECE = 1 << 22


class FileFacts(msgspec.Struct, forbid_unknown_fields=True):
    """Size and hash of a file."""

    bytes: int
    sha256: str


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """What `image.json` holds.

    Attributes:
        format: version of this layout.
        features: the columns.
        clusters, rows: how many.
        equal_rows: rows of every cluster where all have as many, else None.
        files: of every file, its size and hash.
        provenance: what the image was derived from, by the caller's own names.
        digest: SHA-256 of all of the above.
    """

    format: int
    features: list[Feature]
    clusters: int
    rows: int
    equal_rows: int | None
    files: dict[str, FileFacts]
    provenance: dict[str, Any]
    digest: str = ""

    def expected_digest(self) -> str:
        """SHA-256 of everything but the digest itself."""
        content = msgspec.structs.replace(self, digest="")
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def sealed(head: Head) -> bytes:
    """The text of `image.json`, its digest filled in."""
    whole = msgspec.structs.replace(head, digest=head.expected_digest())
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)


def read_head(folder: Path) -> Head:
    """Read `image.json` and check that it is what was sealed, and that files have their sizes.

    Raises:
        ForeignError: no image, or one of a later format.
        DamagedError: a file is cut short or missing, or `image.json` was changed.
    """
    path = folder / HEAD
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ForeignError(f"{folder}: no training image is here ({HEAD} is missing); derive it again.") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}).", file=path) from error
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path}: is no JSON ({error}); derive the image again.", file=path) from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise ForeignError(
            f"{path}: its format is {version!r}, this volgrad reads {FORMAT}; derive the image again.", file=path
        )
    try:
        head = msgspec.convert(found, Head)
    except msgspec.ValidationError as error:
        raise DamagedError(f"{path}: {error}; derive the image again.", file=path) from error
    if head.digest != head.expected_digest():
        raise DamagedError(f"{path}: does not match its own digest; derive the image again.", file=path)
    _check_sizes(folder, head)
    return head


def check_bytes(folder: Path, name: str, head: Head) -> None:
    """Refuse a file whose bytes are not those that were sealed.

    Raises:
        DamagedError: they are not.
    """
    digest = hashlib.sha256()
    with (folder / name).open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != head.files[name].sha256:
        path = folder / name
        raise DamagedError(f"{path}: its bytes are not those that were written; derive the image again.", file=path)


def _check_sizes(folder: Path, head: Head) -> None:
    values = {
        "rows.f32": head.rows * len(head.features),
        "first_row.i64": head.clusters + 1,
        "start_us.i64": head.clusters,
        "known_us.i64": head.clusters,
    }
    for name, numbers in values.items():
        path = folder / name
        wanted = numbers * FILES[name].itemsize
        told = head.files.get(name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise DamagedError(f"{path}: is missing; derive the image again.", file=path) from None
        if told is None or not size == told.bytes == wanted:
            raise DamagedError(f"{path}: holds {size} bytes, not {wanted}; derive the image again.", file=path)
