"""Weights of the surface network: those of a run, and those that come with the package."""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from volgrad.errors import DamagedError, InputError
from volgrad.learning.training.checkpoint import read_checkpoint
from volgrad.models.surface_net import SurfaceNetwork
from volgrad.tasks.surface_net.features import FEATURES

__all__ = ["Weights", "load_weights", "of_run", "packed", "shipped", "silent"]

_SHIPPED = "surface-net.safetensors"
_VERSION = 1  # of the features' meaning


class Weights(NamedTuple):
    """A network and what it has learned.

    network: its description.
    variables, statistics: float32.
    told: how it was trained, in words and numbers.
    """

    network: SurfaceNetwork
    variables: PyTree
    statistics: PyTree
    told: dict[str, Any]


def silent(width: int = 64, depth: int = 2, norm: str = "ghost") -> Weights:
    """Weights that say nothing: the surface is that of local-vol."""
    network = SurfaceNetwork.of(len(FEATURES), width, depth, norm)
    made = jax.jit(network.init)(jax.random.key(0))
    variables, statistics = jax.tree.map(np.asarray, made)
    return Weights(network, variables, statistics, {"width": width, "depth": depth, "norm": norm})


def packed(weights: Weights) -> bytes:
    """As a safetensors file."""
    arrays = {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float32)
        for path, leaf in jax.tree_util.tree_leaves_with_path((weights.variables, weights.statistics))
    }
    head = {"surface-net": json.dumps({"version": _VERSION, **weights.told}, sort_keys=True)}
    return save(arrays, head)


def load_weights(path: Path) -> Weights:
    """Weights from a file, or the best of a run's folder.

    Raises:
        InputError: no such file, or one that does not fit this version.
        DamagedError: it cannot be read.
    """
    if path.is_dir():
        return of_run(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights: give the file, or the folder of a run of surface-net", file=path)
    try:
        with safe_open(str(path), framework="numpy") as file:
            told = json.loads((file.metadata() or {}).get("surface-net", "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read as weights ({error}): train again", file=path) from None
    if not isinstance(told, dict) or told.get("version") != _VERSION:
        raise InputError(f"{path}: these are no weights of surface-net, version {_VERSION}", file=path)
    blank = silent(int(told["width"]), int(told["depth"]), str(told["norm"]))
    tree = (blank.variables, blank.statistics)
    wanted = jax.tree_util.tree_leaves_with_path(tree)
    leaves = []
    for key, leaf in wanted:
        found = arrays.get(jax.tree_util.keystr(key))
        if found is None or found.shape != leaf.shape or not np.isfinite(found).all():
            raise InputError(
                f"{path}: {jax.tree_util.keystr(key)} is missing, not finite or of another shape", file=path
            )
        leaves.append(found)
    variables, statistics = jax.tree.unflatten(jax.tree.structure(tree), leaves)
    return Weights(blank.network, variables, statistics, told)


def of_run(run: Path) -> Weights:
    """The best weights of a run of the study `surface-net`, by its validation loss.

    Raises:
        InputError: no run of that study.
        DamagedError: none of its checkpoints is sound.
    """
    found = read_checkpoint(run / "best" if (run / "best").is_dir() else run)
    recipe = found.identity
    if recipe.get("task.use") != "surface-net":
        raise InputError(f"{run}: a run of {recipe.get('task.use')}, not of surface-net: give another folder", file=run)
    blank = silent(int(recipe["model.width"]), int(recipe["model.depth"]), str(recipe["model.norm"]))
    variables, statistics = (
        jax.tree.map(np.asarray, found.part(name, part))
        for name, part in ((".variables", blank.variables), (".statistics", blank.statistics))
    )
    own_shape = bool(recipe.get("model.own_shape", True))
    told = {**blank.told, "own_shape": own_shape, "samples": found.samples, "recipe": recipe}
    return Weights(blank.network, variables, statistics, told)


@cache
def shipped() -> Weights:
    """The weights that come with the package, trained on simulated markets only."""
    place = resources.files("volgrad.tasks.surface_net") / _SHIPPED
    with resources.as_file(place) as path:
        return load_weights(path)


@eqx.filter_jit
def forward(network: SurfaceNetwork, variables: PyTree, statistics: PyTree, x: Any, mask: Any) -> Any:
    """Outputs of one chain as it serves. Shapes: (expiries, features), (expiries,)."""
    return network(variables, statistics, x[None], mask[None], False)[0][0]
