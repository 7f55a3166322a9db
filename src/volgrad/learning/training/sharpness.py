"""How sharp the minimum is that a run has reached: the largest curvature there, and what a small shove costs.

Measured is the loss of training, `mean_loss` of `Task.loss`, on one batch with one key. A model with batch
normalisation thus shows the surface that descent on batches of this size sees: the statistics are those of the batch,
and the derivatives run through them. To compare runs, give all of them the same batch and key, as large a batch as
fits.

Curvature depends on how a model is written (Dinh et al. 2017, arXiv 1703.04933) [paper]: behind batch normalisation,
weights of twice the length have a quarter of it and serve the same. `neighbourhood` moves each leaf of the variables in
proportion to its length and is free of that.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from volgrad.errors import InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.training.state import mean_loss
from volgrad.learning.training.task import Task

__all__ = ["Sharpness", "leading_eigenvalue", "sharpness"]

#: Of a flat vector of the variables, the same kind of vector.
Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]

_NOTHING = 32.0  # units of rounding, of the largest number seen, under which a new direction is nothing but rounding


class Sharpness(NamedTuple):
    """Of one minimum, in units of the loss. NaN where the loss or its curvature is not finite.

    eigenvalue: the largest of the Hessian of the mean loss, curvature along one unit of the raveled variables. The
        largest with its sign: negative only where every direction falls.
    residual: an eigenvalue of the Hessian lies no further from `eigenvalue` than this; large means that more
        iterations are due.
    loss: mean loss at the variables.
    neighbourhood: mean increase of the loss over random directions of relative length `radius`.
    worst: the largest increase among them, a lower bound of the sharpness of Keskar et al. (2017).
    radius: of each leaf's move, as a share of the leaf's own length.
    """

    eigenvalue: Float[Array, ""]
    residual: Float[Array, ""]
    loss: Float[Array, ""]
    neighbourhood: Float[Array, ""]
    worst: Float[Array, ""]
    radius: Float[Array, ""]


def leading_eigenvalue(
    product: Product, start: Float[Array, " n"], iterations: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The largest eigenvalue of a symmetric matrix that is known by its products, and the residual that bounds it.

    Lanczos iteration (Lanczos 1950, J. Res. NBS 45) [paper] with every new direction made orthogonal to all others
    twice, which is enough (Giraud et al. 2005, Numer. Math. 101) [paper]. The residual `|A y - theta y|` of the unit
    Ritz vector is computed rather than read off the recurrence, so that it holds rounding too: some eigenvalue lies
    within it (Parlett 1998, theorem 4.5.1) [paper]. That this is the largest one is as sure as the start is general.

    Args:
        product: `v -> A v`.
        start: any vector but 0, with some of every eigenvector in it.
        iterations: products, at most; no more than `n` are made, and one for the residual.

    >>> matrix = jnp.diag(jnp.array([3.0, 1.0, -5.0]))
    >>> value, residual = leading_eigenvalue(lambda v: matrix @ v, jnp.ones(3), 3)
    >>> round(float(value), 5), bool(residual < 1e-5)
    (3.0, True)
    """
    count, dtype = min(iterations, start.size), start.dtype
    rounding = _NOTHING * jnp.finfo(dtype).eps
    first = start / jnp.linalg.norm(start)
    basis = jnp.zeros((count + 1, start.size), dtype).at[0].set(first)

    def one(step: Int[Array, ""], carry: tuple[Array, Array, Array, Array]):
        basis, diagonal, beside, largest = carry
        bent = product(basis[step])
        along = basis[step] @ bent
        size = jnp.linalg.norm(bent)
        for _ in range(2):
            bent = bent - basis.T @ (basis @ bent)
        norm = jnp.linalg.norm(bent)
        largest = jnp.maximum(largest, size)
        # `~(<=)`, so that NaN goes on and is seen in the answer
        alive = ~(norm <= rounding * largest)
        following = jnp.where(alive, bent / jnp.where(alive, norm, 1.0), 0.0)
        ended = (basis[step] == 0.0).all()
        # past the end the first quotient stands in: no larger than the largest Ritz value
        diagonal = diagonal.at[step].set(jnp.where(ended, diagonal[0], along))
        beside = beside.at[step].set(jnp.where(alive, norm, 0.0))
        return basis.at[step + 1].set(following), diagonal, beside, largest

    zeros = jnp.zeros(count, dtype)
    basis, diagonal, beside, _ = jax.lax.fori_loop(0, count, one, (basis, zeros, zeros, jnp.zeros((), dtype)))
    small = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    values, vectors = jnp.linalg.eigh(small)
    ritz = basis[:count].T @ vectors[:, -1]
    length = jnp.linalg.norm(ritz)
    # a tie with a place past the end may leave no vector: then the first direction is an eigenvector as good
    ritz = jnp.where(length > 0.5, ritz / jnp.maximum(length, 0.5), first)
    return values[-1], jnp.linalg.norm(product(ritz) - values[-1] * ritz)


def sharpness(
    task: Task,
    variables: PyTree,
    statistics: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    iterations: int = 20,
    directions: int = 8,
    radius: float = 0.05,
) -> Sharpness:
    """Largest curvature and loss nearby of the mean loss of `batch` at `variables`. One compiled call.

    The neighbourhood is in the spirit of Keskar et al. (2017), arXiv 1609.04836, metric 2.1, which takes the worst of a
    box; here the mean over random directions is told beside the worst found (assumption: a run meets chance rather than
    the worst). Each direction is used with both signs, so that the slope left at an unfinished minimum cancels.
    In float32 an increase under some 1e-6 of the loss is rounding.

    Args:
        task: whose training loss is looked at; what is random in it is drawn once, from `key`.
        variables: at which; differentiated as one vector.
        statistics: that the model carries; held.
        batch: for the mean; masked clusters do not count.
        key: of the start of the iteration and of the directions as well.
        iterations: Hessian-vector products; 20 to 30 settle the first digits of a network (assumption; see `residual`).
        directions: random ones, each walked both ways.
        radius: share of each leaf's length by which it moves. A leaf of zeros stays.

    Raises:
        InputError: no iteration or no direction.
    """
    if iterations < 1 or directions < 1:
        raise InputError(
            f"sharpness with {iterations} iterations and {directions} directions: give at least one of each"
        )
    return _measured(task, variables, statistics, batch, key, iterations, directions, jnp.float32(radius))


@eqx.filter_jit
def _measured(
    task: Task,
    variables: PyTree,
    statistics: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    iterations: int,
    directions: int,
    radius: Float[Array, ""],
) -> Sharpness:
    flat, restore = ravel_pytree(variables)
    noise, begin, around = jax.random.split(key, 3)

    def loss(at: Float[Array, " n"]) -> Float[Array, ""]:
        return mean_loss(task.loss(restore(at), statistics, batch, noise)[0], batch)

    def product(direction: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.jvp(jax.grad(loss), (flat,), (direction,))[1]  # Pearlmutter (1994) [paper]

    value, residual = leading_eigenvalue(product, jax.random.normal(begin, flat.shape, flat.dtype), iterations)
    here = loss(flat)

    def increases(one: PRNGKeyArray) -> Float[Array, " 2"]:
        move = radius.astype(flat.dtype) * _direction(variables, one, flat.dtype)
        return jnp.stack([loss(flat + move), loss(flat - move)]) - here

    found = jax.lax.map(increases, jax.random.split(around, directions))  # one after the other: the memory of one
    return Sharpness(value, residual, here, found.mean(), found.max(), radius)


def _direction(variables: PyTree, key: PRNGKeyArray, dtype: jnp.dtype) -> Float[Array, " n"]:
    """A random direction in which each leaf has its own length (Li et al. 2018, arXiv 1712.09913, by leaf) [paper]."""
    leaves, tree = jax.tree.flatten(variables)
    moved = []
    for leaf, own in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        drawn = jax.random.normal(own, jnp.shape(leaf), dtype)
        moved.append(drawn * (jnp.linalg.norm(jnp.ravel(leaf)) / jnp.linalg.norm(drawn.ravel())))
    return ravel_pytree(jax.tree.unflatten(tree, moved))[0].astype(dtype)
