"""Checkpoints: the whole state of a run on the disk, whole or not at all, and refused where a bit of it is wrong.

One checkpoint is two files, `000007-1234567.safetensors` (the arrays) and `000007-1234567.json` (the manifest, written
last: without it the arrays are none). 000007 counts the checkpoints of the run, 1234567 the samples it had seen.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from volgrad.data.store.disk import Disk
from volgrad.errors import DamagedError, ForeignError, InputError, WorkError
from volgrad.learning.training.leaves import Leaf, assemble, named_leaves, state_sha256, strong
from volgrad.learning.training.sealed import Manifest, check_plain, sealed, unsealed

__all__ = ["Checkpoint", "Checkpoints", "Loaded", "read_checkpoint", "state_sha256", "strong"]

_NAME = re.compile(r"(\d{6,})-(\d+)")
_ARRAYS, _MANIFEST = ".safetensors", ".json"
_LEFTOVER = re.compile(r"\.\d{6,}-\d+\.(safetensors|json)\.tmp")
_MAX_MANIFEST_BYTES = 1 << 26
_BFLOAT16 = "bfloat16"  # stored as the 16 bits that it is: numpy has no such type of its own


class Checkpoint(NamedTuple):
    """A checkpoint as it was read, without a template for its state.

    Attributes:
        name: of its files, without the ending.
        samples: clusters that the run had seen.
        leaves: the state's leaves by path (`.variables['w']`).
        host, identity: as they were saved.
    """

    name: str
    samples: int
    leaves: dict[str, Leaf]
    host: dict[str, Any]
    identity: dict[str, Any]

    def part(self, path: str, like: PyTree) -> PyTree:
        """A part of the state: `part(".variables", task.init(key)[0])`.

        Raises:
            ForeignError: the part is of another structure, type or shape than `like`.
        """
        below = {name.removeprefix(path): leaf for name, leaf in self.leaves.items() if _is_below(name, path)}
        return assemble(like, below, f"{path} of checkpoint {self.name}")


class Loaded(NamedTuple):
    """A run's state as it was saved.

    Attributes:
        state: the pytree, of the structure that was asked for.
        host: what the host side carried.
        samples: clusters that the run had seen.
        name: of the checkpoint.
    """

    state: PyTree
    host: dict[str, Any]
    samples: int
    name: str


class Checkpoints:
    """The checkpoints of one run, whose lock the caller holds: to open them removes what a killed writer left.

    Attributes:
        notes: sentences on checkpoints that were found damaged.

    Args:
        folder: where they lie; made if need be.
        keep: how many to keep, 1 or more.
        disk: how files are written (tests let it fail).

    Raises:
        InputError: `keep` below 1, or a file lies where the folder should.
        WorkError: the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(Path(folder))
    ...     _ = checkpoints.save(512, {"w": np.ones(2)}, {"best": 0.5}, {"seed": 1})
    ...     loaded = checkpoints.load({"w": np.zeros(2)}, {"seed": 1})
    >>> loaded.samples, loaded.state, loaded.host
    (512, {'w': array([1., 1.])}, {'best': 0.5})
    """

    def __init__(self, folder: str | Path, keep: int = 3, disk: Disk | None = None) -> None:
        if keep < 1:
            raise InputError(f"keep must be 1 checkpoint or more, not {keep}")
        self.folder, self.keep = Path(folder), keep
        self.notes: list[str] = []
        self._disk = disk or Disk()
        self._damaged: set[str] = set()
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: a file is here, where the folder of checkpoints should be.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
        except OSError as error:
            raise WorkError(f"{self.folder}: cannot be written ({error.strerror or error}).") from error

    def save(self, samples: int, state: PyTree, host: dict[str, Any], identity: dict[str, Any]) -> Path:
        """Store a state; it is on the disk for good when this returns. Then all but the last `keep` are removed.

        Args:
            samples: clusters seen, for the name.
            state: any pytree of arrays, random keys and numbers (see `named_leaves`).
            host: plain values (None, bool, int, float, str, list, dict), inf and NaN among them.
            identity: key -> plain value: what the run was configured with.

        Returns:
            The manifest's path.

        Raises:
            ValueError: something that cannot be stored, named.
            WorkError: the disk refuses it; what was there before is still there.
        """
        check_plain(host, "host")
        check_plain(identity, "identity")
        leaves = named_leaves(state)
        numbers = [int(_NAME.fullmatch(name)[1]) for name in self._names(_MANIFEST)]  # type: ignore[index]
        name = f"{max(numbers, default=0) + 1:06d}-{samples}"
        content = save_arrays({path: _storable(leaf.value) for path, leaf in leaves.items()})
        manifest = Manifest(
            name=name,
            samples=samples,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            kinds={path: leaf.kind for path, leaf in leaves.items()},
            types={path: str(leaf.value.dtype) for path, leaf in leaves.items()},
            host=host,
            identity=identity,
        )
        arrays, file = self.folder / f"{name}{_ARRAYS}", self.folder / f"{name}{_MANIFEST}"
        try:
            self._disk.put(arrays, content)
            self._disk.sync([arrays], self.folder)
            self._disk.put(file, sealed(manifest), durable=True)
            self._disk.sync([file], self.folder.parent)
            self._prune()
        except OSError as error:
            raise WorkError(
                f"{file}: the checkpoint could not be written ({error.strerror or error}); check free space and "
                "permissions, then resume."
            ) from error
        return file

    def load(self, like: PyTree, identity: dict[str, Any]) -> Loaded | None:
        """The newest sound checkpoint; None where there is none at all. `notes` tells of damaged ones passed over.

        Args:
            like: a state of the same structure, types and shapes (`jax.eval_shape` of one will do).
            identity: what the run is configured with now.

        Raises:
            DamagedError: there are checkpoints, and none is sound.
            ForeignError: it was made by another configuration, model or optimizer; the keys or leaves are named.
        """
        names = self._names(_MANIFEST)
        for name, found in _newest(self.folder, names):
            if isinstance(found, str):
                self._damaged.add(name)
                self._note(name, found, names)
                continue
            _check_identity(found, identity, self.folder)
            state = assemble(like, found.leaves, f"{self.folder / found.name}: the checkpoint")
            return Loaded(state, found.host, found.samples, found.name)
        if names:
            raise _none_sound(self.folder, names)
        return None

    def _note(self, name: str, why: str, names: list[str]) -> None:
        older = names[: names.index(name)]
        then = f"falls back to {older[-1]}" if older else "there is none before it"
        self.notes.append(f"{self.folder / name}: the checkpoint is damaged ({why}): {then}.")

    def _names(self, ending: str) -> list[str]:
        return _names(self.folder, ending)

    def _prune(self) -> None:
        """Manifests go before their arrays, so that no checkpoint is ever seen in part."""
        names = self._names(_MANIFEST)
        kept = [name for name in names if name not in self._damaged][-self.keep :]
        for name in names:
            if name not in kept:
                self._disk.remove(self.folder / f"{name}{_MANIFEST}")
                self._disk.remove(self.folder / f"{name}{_ARRAYS}")
                self._damaged.discard(name)

    def _tidy(self) -> None:
        for file in [file for file in self.folder.iterdir() if _LEFTOVER.fullmatch(file.name)]:
            self._disk.remove(file)
        for name in set(self._names(_ARRAYS)) - set(self._names(_MANIFEST)):
            self._disk.remove(self.folder / f"{name}{_ARRAYS}")


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """The newest sound checkpoint of a folder, whatever made it, without changing anything there.

    Args:
        folder: where checkpoints lie, or a RUN folder with `checkpoints` in it.

    Raises:
        InputError: there is none.
        DamagedError: none is sound.
    """
    root = Path(folder)
    if not _names(root, _MANIFEST) and (root / "checkpoints").is_dir():
        root = root / "checkpoints"
    names = _names(root, _MANIFEST)
    if not names:
        raise InputError(f"{folder}: no checkpoint is here; name the folder that `volgrad train --out` wrote.")
    for _, found in _newest(root, names):
        if isinstance(found, Checkpoint):
            return found
    raise _none_sound(root, names)


def _none_sound(folder: Path, names: list[str]) -> DamagedError:
    return DamagedError(
        f"{folder}: no checkpoint is sound (damaged: {', '.join(reversed(names))}); bring the files back from a "
        "copy, or train anew into another folder.",
        file=folder,
    )


def _names(folder: Path, ending: str) -> list[str]:
    """Names of checkpoints in a folder, the newest last."""
    if not folder.is_dir():
        return []
    found = [match for file in folder.iterdir() if file.suffix == ending and (match := _NAME.fullmatch(file.stem))]
    return [match[0] for match in sorted(found, key=lambda match: (int(match[1]), int(match[2])))]


def _newest(folder: Path, names: list[str]) -> Iterator[tuple[str, Checkpoint | str]]:
    """Each checkpoint from the newest on, or what is wrong with it."""
    for name in reversed(names):
        yield name, _read(folder, name)


def _read(folder: Path, name: str) -> Checkpoint | str:
    file, arrays = folder / f"{name}{_MANIFEST}", folder / f"{name}{_ARRAYS}"
    try:
        if file.stat().st_size > _MAX_MANIFEST_BYTES:
            return f"{file.name} is larger than any manifest"
        manifest = unsealed(file.read_bytes())
        if manifest is None or manifest.name != name:
            return f"{file.name} is not what was written"
        if (size := arrays.stat().st_size) != manifest.bytes:
            return f"{arrays.name} has {size} bytes, {manifest.bytes} were written"
        content = arrays.read_bytes()
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        return f"the SHA-256 of {arrays.name} is not the manifest's"
    try:
        values = load_arrays(content)
    except (SafetensorError, KeyError, ValueError) as error:
        return f"{arrays.name}: {error}"
    if values.keys() != manifest.kinds.keys():
        return f"{arrays.name} holds other leaves than the manifest says"
    leaves = {
        path: Leaf(_restored(values[path], manifest.types[path]), manifest.kinds[path]) for path in manifest.kinds
    }
    return Checkpoint(name, manifest.samples, leaves, manifest.host, manifest.identity)


def _storable(value: np.ndarray) -> np.ndarray:
    return value.view(np.uint16) if str(value.dtype) == _BFLOAT16 else value


def _restored(value: np.ndarray, kind: str) -> np.ndarray:
    return value.view(_BFLOAT16) if kind == _BFLOAT16 else value


def _is_below(name: str, path: str) -> bool:
    return name.startswith(path) and name[len(path) : len(path) + 1] in ("", ".", "[")


def _check_identity(found: Checkpoint, identity: dict[str, Any], folder: Path) -> None:
    nothing = object()
    differing = [
        f"{key} = {_shown(found.identity, key)}, the recipe says {_shown(identity, key)}"
        for key in sorted(found.identity.keys() | identity.keys())
        if repr(found.identity.get(key, nothing)) != repr(identity.get(key, nothing))
    ]
    if differing:
        raise ForeignError(
            f"{folder / found.name}: the checkpoint was made with {'; with '.join(differing)}: set it back to resume "
            "this run (the recipe.toml in its folder says what it was begun with), or start a new one elsewhere."
        )


def _shown(identity: dict[str, Any], key: str) -> str:
    return repr(identity[key]) if key in identity else "nothing"
