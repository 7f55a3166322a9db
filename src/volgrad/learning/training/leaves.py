"""The leaves of a pytree as named arrays: what a checkpoint stores, and what a state's digest is taken of."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from volgrad import runtime
from volgrad.errors import ForeignError

__all__ = ["Leaf", "assemble", "named_leaves", "state_sha256", "strong"]

_SCALARS = {"bool": bool, "int": int, "float": float}
_WORDS = 8  # leaves that an error names at most


class Leaf(NamedTuple):
    """One leaf of a pytree.

    Attributes:
        value: its numbers, in C order and the machine's byte order; the words of a random key. Shape: any.
        kind: "array", "key:IMPLEMENTATION" for random keys, "bool", "int" or "float" for Python's own.
    """

    value: np.ndarray
    kind: str

    @property
    def form(self) -> str:
        """What it is in words: `float32 (3, 2)`."""
        return _form(self.kind, self.value.dtype, self.value.shape)


def named_leaves(tree: PyTree) -> dict[str, Leaf]:
    """Every leaf by its path, which stays the same as long as the structure does. None is no leaf.

    Args:
        tree: of JAX and numpy arrays, random keys, and Python's numbers.

    Raises:
        ValueError: a leaf is something else, or weakly typed (see `strong`), or two leaves have one path.

    >>> {name: leaf.form for name, leaf in named_leaves({"w": np.ones((2, 3), np.float32), "b": [None, 1]}).items()}
    {"['b'][1]": 'int one number', "['w']": 'float32 2x3'}
    """
    found: dict[str, Leaf] = {}
    for path, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if name in found:
            raise ValueError(f"two leaves of the state are both at {name}: give its nodes distinct keys")
        found[name] = _leaf(name, value)
    return found


def _leaf(name: str, value: Any) -> Leaf:
    if (kind := type(value).__name__) in _SCALARS and type(value) is _SCALARS[kind]:
        try:
            return Leaf(np.asarray(value, _SCALARS[kind]), kind)
        except OverflowError:
            raise ValueError(f"the state holds {value} at {name}, which is beyond 64 bits") from None
    if _is_key(value):
        return Leaf(np.asarray(jax.random.key_data(value)), f"key:{jax.random.key_impl(value)}")
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise ValueError(f"the state holds a {type(value).__name__} at {name}: only arrays and numbers can be stored")
    if getattr(value, "weak_type", False):
        raise ValueError(f"the state is weakly typed at {name}, which no file keeps: pass it through `strong` first")
    plain = np.asarray(value, order="C")
    if plain.dtype.kind not in "biufV" or (plain.dtype.kind == "V" and plain.dtype != jnp.bfloat16):
        raise ValueError(f"the state holds {plain.dtype} at {name}, which cannot be stored")
    return Leaf(plain.astype(plain.dtype.newbyteorder("="), copy=False), "array")


def strong(tree: PyTree) -> PyTree:
    """The tree with every weakly typed leaf (`jnp.asarray(1.0)`) given the type it has.

    A file keeps no weakness, and a weak leaf promotes otherwise: a run that was resumed would differ from one that was
    not.

    >>> strong(jnp.asarray(1.0)).weak_type
    False
    """
    return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype) if getattr(leaf, "weak_type", False) else leaf, tree)


def state_sha256(state: PyTree) -> str:
    """Digest of a state's names, kinds, types, shapes and bytes; the same wherever and however it is stored.

    Raises:
        ValueError: as `named_leaves`.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(state).items()):
        little = leaf.value.astype(leaf.value.dtype.newbyteorder("<"), copy=False)
        for part in (name, leaf.kind, str(leaf.value.dtype), str(leaf.value.shape)):
            word = part.encode()
            digest.update(len(word).to_bytes(8, "little") + word)
        digest.update(little.tobytes())
    return digest.hexdigest()


def assemble(like: PyTree, leaves: dict[str, Leaf], source: str) -> PyTree:
    """The pytree of the structure of `like` with the numbers of `leaves`.

    Args:
        like: a pytree of the same structure, types and shapes; its values are not read. Where it has a numpy array or a
            Python number, so has the result; elsewhere it has JAX arrays, of float64 too whatever the process uses.
        leaves: by path, as from `named_leaves`.
        source: what the leaves come from, for the error.

    Raises:
        ForeignError: a leaf is missing, left over, or of another type or shape.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    wrong = [f"has no {name}" for name in wanted if name not in leaves]
    wrong += [f"has {name}, which is unknown here" for name in leaves if name not in wanted]
    for name in wanted.keys() & leaves.keys():
        if (have := leaves[name].form) != (want := _form_of(name, wanted[name])):
            wrong.append(f"has {have} at {name}, where {want} is due")
    if wrong:
        more = f" and {len(wrong) - _WORDS} more" if len(wrong) > _WORDS else ""
        raise ForeignError(
            f"{source} is of another model or optimizer: it {', '.join(sorted(wrong)[:_WORDS])}{more}; "
            "use the recipe and the version of volgrad that made it, or start a new run."
        )
    with runtime.double_precision():
        return jax.tree.unflatten(structure, [_like(leaves[name], leaf) for name, leaf in wanted.items()])


def _is_key(value: object) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _form(kind: str, dtype: np.dtype, shape: tuple[int, ...]) -> str:
    words = "x".join(map(str, shape)) or "one number"
    return f"{dtype} {words}" if kind == "array" else f"{kind} {words}"


def _form_of(name: str, template: object) -> str:
    """As `Leaf.form`, of a leaf of a template: one whose values may be unknown, and weak."""
    if not isinstance(template, jax.ShapeDtypeStruct):
        return _leaf(name, strong(template)).form
    if not _is_key(template):
        return _form("array", template.dtype, template.shape)
    words = jax.eval_shape(jax.random.key_data, template)
    return _form(f"key:{_implementation(template)}", words.dtype, words.shape)


def _implementation(key: jax.ShapeDtypeStruct) -> str:
    """The implementation of random keys whose values are unknown; JAX tells it of traced ones."""
    names: list[str] = []
    jax.eval_shape(lambda traced: names.append(str(jax.random.key_impl(traced))), key)
    return names[0]


def _like(leaf: Leaf, template: object) -> object:
    if leaf.kind in _SCALARS:
        return _SCALARS[leaf.kind](leaf.value[()])
    if leaf.kind.startswith("key:"):
        return jax.random.wrap_key_data(jnp.array(leaf.value), impl=leaf.kind.removeprefix("key:"))
    if isinstance(template, np.generic):
        return leaf.value[()]
    # a copy: JAX may keep the memory of the file's content, and a donated buffer would be written over
    return leaf.value.copy() if isinstance(template, np.ndarray) else jnp.array(leaf.value)
