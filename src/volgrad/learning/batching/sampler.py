"""The order in which data are drawn: epochs of keyed pseudo-random permutations.

Nothing but (n, seed) goes in, and nothing is kept: a run that was killed asks again from the position where it was, and
workers ask for the positions that are theirs.
"""

import operator

import numpy as np
from jaxtyping import Int64

from volgrad.errors import InputError
from volgrad.learning.batching.permutation import LONGEST, Permutation

__all__ = ["Sampler", "epoch_permutation"]


def epoch_permutation(n: int, seed: int, epoch: int) -> Permutation:
    """The order of `n` things in one epoch; its key is hashed from (seed, epoch), and is not their sum."""
    return Permutation.of(n, "epoch", seed, epoch)


class Sampler:
    """`n` things (rows, clusters) in a new random order each epoch, for ever.

    Position p is the `p % n`-th thing of epoch `p // n`. The key of an epoch is hashed from (seed, epoch).

    Args:
        n: how many things, 1 to 2**60.
        seed: of the order; any whole number.

    >>> sampler = Sampler(5, seed=1)
    >>> first = sampler.indices(0, 5)
    >>> sorted(first.tolist()), (sampler.indices(3, 4)[:2] == first[3:]).all().item()
    ([0, 1, 2, 3, 4], True)
    """

    def __init__(self, n: int, seed: int) -> None:
        try:
            self.n, self.seed = operator.index(n), operator.index(seed)
        except TypeError:
            raise InputError(f"Sampler: n is {n!r} and seed {seed!r}: give whole numbers") from None
        if not 1 <= self.n <= LONGEST:
            raise InputError(f"Sampler: n is {n}: give the number of things to draw from, 1 to 2**60")

    def indices(self, start: int, count: int) -> Int64[np.ndarray, " count"]:
        """The things at positions `start` to `start + count - 1`; they may run over the ends of epochs.

        Raises:
            InputError: a position below 0, or a negative count.
        """
        try:
            start, count = operator.index(start), operator.index(count)
        except TypeError:
            raise InputError(f"Sampler: start is {start!r} and count {count!r}: give whole numbers") from None
        if start < 0 or count < 0:
            raise InputError(f"Sampler: start is {start} and count {count}: neither may be below 0")
        pieces = []
        while count:
            epoch, place = divmod(start, self.n)
            taken = min(count, self.n - place)
            pieces.append(epoch_permutation(self.n, self.seed, epoch).at(np.arange(place, place + taken)))
            start, count = start + taken, count - taken
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
