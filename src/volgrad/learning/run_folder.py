"""The folder of one run: who may write there, and the files beside the checkpoints.

`recipe.toml` (in full) is written first and marks the folder as a run; `versions.json`, `metrics.jsonl`, `checkpoints/`
and at the end `final.json` follow.
"""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import volgrad
from volgrad.data.lock import locked
from volgrad.data.write import replacing
from volgrad.errors import InputError, WorkError

__all__ = ["Metrics", "RunFolder", "run_folder", "versions"]

_LOCK = ".lock"
_LEFTOVER = re.compile(r"\..+\.tmp")
_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "equinox", "safetensors")
_KEYS = ("samples", "step", "loss", "lr", "batch", "rows_per_s", "event")


class RunFolder:
    """The files of a run. Made by `run_folder`, which holds the lock.

    Attributes:
        path: the folder.
        resumed: whether a run was there already.
    """

    def __init__(self, path: Path, resumed: bool) -> None:
        self.path, self.resumed = path, resumed

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    def begin(self, recipe: str, extra: Mapping[str, Any] | None = None) -> None:
        """Write `recipe.toml` and `versions.json`; of a run that is resumed the versions so far are kept as `before`.

        Args:
            recipe: in full, as TOML.
            extra: more to tell in `versions.json`.

        Raises:
            WorkError: the files cannot be written.
        """
        told = versions() | dict(extra or {})
        earlier = _read_json(self.path / "versions.json") if self.resumed else None
        if earlier is not None:
            before = earlier.pop("before", [])
            told["before"] = before if earlier == told else [*before, earlier]
        with replacing(self.path / "recipe.toml") as stream:
            stream.write(recipe.encode())
        _write_json(self.path / "versions.json", told)

    def metrics(self, samples: int, lines: int | None = None) -> "Metrics":
        """The writer of `metrics.jsonl`, going on after what was written up to `samples`, or after so many lines."""
        return Metrics(self.path / "metrics.jsonl", samples, lines)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of JSON; numbers that are not finite become null.

        Raises:
            WorkError: it cannot be written.
        """
        _write_json(self.path / name, value)

    def finish(self, final: Mapping[str, Any]) -> None:
        """Write `final.json`; numbers that are not finite become null.

        Raises:
            WorkError: it cannot be written.
        """
        _write_json(self.path / "final.json", final)


class Metrics:
    """Appends to `metrics.jsonl`, a JSON object a line, each on its way to the disk when `write` returns.

    Args:
        file: the file; what it says of later than `samples`, and a last line that a killed run left torn, are cut off.
        samples: clusters that the run has seen where it goes on; 0 for a new one.
        lines: how many lines to keep at most; None: all up to `samples`.

    Attributes:
        lines: in the file.

    Raises:
        WorkError: it cannot be written.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> with Metrics(file, 0) as metrics:
    ...     metrics.write(samples=64, step=1, loss=float("nan"), lr=1e-3, batch=64)
    >>> print(file.read_text(), end="")
    {"samples": 64, "step": 1, "loss": null, "lr": 0.001, "batch": 64, "rows_per_s": null, "event": null}
    """

    def __init__(self, file: Path, samples: int, lines: int | None = None) -> None:
        self._file, self.lines = file, 0
        try:
            if file.exists():
                length, self.lines = _length_up_to(file, samples, lines)
                os.truncate(file, length)
            self._stream = file.open("a", encoding="utf-8", newline="\n", buffering=1)
        except OSError as error:
            raise _unwritable(file, error) from error

    def write(self, *, samples: int, step: int, **values: Any) -> None:
        """Append one line.

        Args:
            samples: clusters seen; lines ascend in it.
            step: steps taken.
            values: `loss`, `lr`, `batch` (clusters), `rows_per_s`, `event` (text) and any others; those of the first
                five that are not given, and numbers that are not finite, become null.

        Raises:
            WorkError: it cannot be written.
        """
        record = dict.fromkeys(_KEYS) | {"samples": samples, "step": step} | values
        try:
            self._stream.write(json.dumps(_plain(record), allow_nan=False) + "\n")
            self.lines += 1
        except OSError as error:
            raise _unwritable(self._file, error) from error

    def close(self) -> None:
        """No more lines."""
        self._stream.close()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def run_folder(path: str | Path, *, resume: bool = False) -> Iterator[RunFolder]:
    """The folder of a new run, or with `resume` of one that is there; locked until the block ends or the process dies.

    Args:
        path: the folder; made if need be.
        resume: go on with the run that is there.

    Raises:
        InputError: a run is there and `resume` is not given, or the reverse; or the folder holds something else.
        WorkError: another process trains into it, or it cannot be written.
    """
    root = Path(path)
    _check(root, resume)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"{root}: cannot be made ({error.strerror or error}).") from error
    with locked(root, _LOCK, "the run", "is training into this folder"):
        _check(root, resume)  # another process may have been here meanwhile
        for file in [file for file in root.iterdir() if _LEFTOVER.fullmatch(file.name)]:
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
        yield RunFolder(root, resumed=resume)


def versions() -> dict[str, Any]:
    """What a run depends on: versions, platform, kind of processor, threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("PJRT_NPROC") or os.environ.get("NPROC") or ""
    return {
        "volgrad": volgrad.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": int(limit) if limit.isdecimal() else cores,
    }


def _processor() -> str:
    description = Path("/proc/cpuinfo")
    if description.is_file():
        for line in description.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check(root: Path, resume: bool) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: a file is here; name a folder for the run.", file=root)
    there = sorted(file.name for file in root.iterdir()) if root.is_dir() else []
    is_run = "recipe.toml" in there
    if resume and not is_run:
        raise InputError(f"{root}: no run is here to resume; leave out --resume to begin one.", file=root)
    if is_run and not resume:
        raise InputError(f"{root}: a run is here already; add --resume to go on with it, or name another.", file=root)
    # an image is what a run makes first; the recipe may have been mended since
    ours = {_LOCK} | ({"image"} if (root / "image" / "image.json").is_file() else set())
    other = [name for name in there if name not in ours and not _LEFTOVER.fullmatch(name)]
    if other and not is_run:
        raise InputError(
            f"{root}: the folder holds {other[0]!r} and is no run; name an empty or new folder.", file=root
        )


def _length_up_to(file: Path, samples: int, most: int | None) -> tuple[int, int]:
    """Bytes and number of the lines, at most `most`, that are whole and tell of no more than `samples`."""
    length, lines = 0, 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                break
            told = record.get("samples") if isinstance(record, dict) else None
            if not isinstance(told, int) or told > samples or lines == most:
                break
            length, lines = length + len(line), lines + 1
    return length, lines


def _plain(value: Any) -> Any:
    """As JSON knows it: arrays of one number as that number, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    with replacing(file) as stream:
        stream.write((json.dumps(_plain(value), indent=2, allow_nan=False) + "\n").encode())


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _unwritable(file: Path, error: OSError) -> WorkError:
    return WorkError(f"{file}: could not be written ({error.strerror or error}); check free space and permissions.")
