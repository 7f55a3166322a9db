"""Keyed pseudo-random permutations of 0 .. n - 1 in a memory that does not grow with n.

A number below `low * high >= n` is written as two digits of these bases, and in each round a hash of one digit is added
to the other: Black and Rogaway (2002), "Ciphers with arbitrary finite domains", the generalised Feistel network
[paper]. Results of n or more are sent round again (cycle walking, ibid.): the bases are about `sqrt(n)`, so that this
is rare. The hash is not a cipher: the order is well mixed (see the tests), not secret.

>>> order = Permutation.of(10, "seed", 7)
>>> sorted(order.at(np.arange(10)).tolist()) == list(range(10))
True
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt32, UInt64

__all__ = ["LONGEST", "Permutation", "digest_key", "mixed_key", "permute_each", "spread_keys"]

#: The longest order: its digits' sums must fit 32 bits.
LONGEST = 1 << 60

_BLOCK = 32_768  # numbers a block: its scratch stays in the cache (17.9 ns a number; 66 at 4,096 [measured])
_ROUNDS, _ROUNDS_OF_SMALL = 6, 16  # few digits mix slowly: of 3 numbers all 6 orders are within 1 % [measured]
_SMALL = 1 << 12
_NARROW = 1 << 14  # bases up to which 16 bits of the hash are as good as even (each value within 25 %)
# the mixing constants of C. Wellons' lowbias32 (github.com/skeeto/hash-prospector), found by search there
_FIRST, _SECOND = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_HALF, _FULL = np.uint32(16), np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def digest_key(*words: int | str) -> int:
    """A key of 64 bits from words: a hash of all of them, so that (1, 0) and (0, 1) have nothing in common.

    >>> digest_key(1, 0) == digest_key(0, 1), digest_key("1") == digest_key(1)
    (False, False)
    """
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def mixed_key(key: int, *words: Int64[np.ndarray, " keys"]) -> UInt64[np.ndarray, " keys"]:
    """Keys of 64 bits from one key and words that differ between them; each word is mixed in by itself.

    >>> len(set(mixed_key(5, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])).tolist()))
    4
    """
    mixed = np.full(len(words[0]), key, np.uint64)
    for word in words:
        mixed = _stirred((mixed ^ word.astype(np.uint64)) + _GOLDEN)
    return mixed


def spread_keys(key: UInt64[np.ndarray, " keys"], rounds: int) -> UInt32[np.ndarray, "keys rounds"]:
    """Keys of rounds from keys of 64 bits (splitmix64: Steele, Lea and Flood 2014 [paper])."""
    steps = _GOLDEN * np.arange(1, rounds + 1, dtype=np.uint64)
    return (_stirred(key[:, None] + steps[None, :]) >> _FULL).astype(np.uint32)


def _stirred(words: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: a bijection of 64 bits in which every bit depends on all."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class Permutation(NamedTuple):
    """One permutation of 0 .. n - 1.

    n: its length.
    low, high: bases of the two digits; `low * high >= n`. `low` is even: with two odd bases a round is an even
        permutation, and half of all orders could not be reached.
    keys: one a round.
    """

    n: int
    low: int
    high: int
    keys: UInt32[np.ndarray, " rounds"]

    @classmethod
    def of(cls, n: int, *words: int | str) -> "Permutation":
        """The permutation of `n` numbers that belongs to some words, such as a seed and an epoch.

        Raises:
            ValueError: n is below 1 or above `LONGEST`.
        """
        if not 1 <= n <= LONGEST:
            raise ValueError(f"a permutation of {n} numbers: give 1 to 2**60")
        low = max(2, 2 * round(math.isqrt(n) / 2))
        rounds = _ROUNDS_OF_SMALL if n < _SMALL else _ROUNDS
        key = np.array([digest_key(n, *words)], np.uint64)
        return cls(n, low, -(-n // low), spread_keys(key, rounds)[0])

    def at(self, places: Int[np.ndarray, " places"]) -> Int64[np.ndarray, " places"]:
        """What stands at some places of the order; places are 0 .. n - 1, in any order."""
        found = np.empty(len(places), np.int64)
        scratch = np.empty((2, min(len(places), _BLOCK)), np.uint32)
        for start in range(0, len(places), _BLOCK):
            self._fill(found[start : start + _BLOCK], places[start : start + _BLOCK], scratch)
        return found

    def _fill(self, found: np.ndarray, places: np.ndarray, scratch: np.ndarray) -> None:
        low, high = np.uint32(self.low), np.uint32(self.high)
        if self.n < 1 << 32:
            places = places.astype(np.uint32)
            upper = places // low
            lower = places - upper * low
        else:
            whole = places // self.low
            upper, lower = whole.astype(np.uint32), (places - whole * self.low).astype(np.uint32)
        _mix(lower, upper, (low, high), self.keys, scratch[:, : len(places)])
        np.multiply(upper, self.low, out=found, dtype=np.int64)
        np.add(found, lower, out=found)
        if (beyond := np.flatnonzero(found >= self.n)).size:
            again = np.empty(len(beyond), np.int64)
            self._fill(again, found[beyond], scratch)
            found[beyond] = again


def permute_each(
    places: Int64[np.ndarray, "orders places"], n: Int64[np.ndarray, " orders"], key: UInt64[np.ndarray, " orders"]
) -> Int64[np.ndarray, "orders places"]:
    """What stands at some places of many short orders, each of its own length and key.

    >>> found = permute_each(np.arange(3)[None, :].repeat(2, 0), np.array([3, 3]), np.array([1, 2], np.uint64))
    >>> np.sort(found, axis=1).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    low = np.maximum(2, 2 * np.rint(np.sqrt(n) / 2.0).astype(np.int64))
    bases = np.stack([low, -(-n // low)]).astype(np.uint32)
    keys = spread_keys(key, _ROUNDS_OF_SMALL).T
    found = np.empty(places.shape, np.int64)
    lines = max(1, _BLOCK // max(1, places.shape[1]))
    for start in range(0, len(n), lines):  # in pieces whose scratch stays in the cache
        own = slice(start, start + lines)
        found[own] = _once(places[own], bases[:, own, None], keys[:, own, None])
    beyond = np.nonzero(found >= n[:, None])
    while beyond[0].size:
        order = beyond[0]
        found[beyond] = _once(found[beyond], bases[:, order], keys[:, order])
        again = found[beyond] >= n[order]
        beyond = beyond[0][again], beyond[1][again]
    return found


def _once(places: np.ndarray, bases: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """All rounds of orders shorter than 2^32; bases and keys are broadcast against places."""
    lower = places.astype(np.uint32)
    upper = lower // bases[0]
    lower -= upper * bases[0]
    _mix(lower, upper, (bases[0], bases[1]), keys, np.empty((2, *places.shape), np.uint32))
    return (upper * bases[0] + lower).astype(np.int64)


def _mix(lower: np.ndarray, upper: np.ndarray, bases: tuple, keys: np.ndarray, scratch: np.ndarray) -> None:
    """All rounds, in place: a hash of one digit is added to the other, in turn."""
    narrow = max(np.max(base) for base in bases) <= _NARROW
    for number, key in enumerate(keys):
        digit, other, base = (lower, upper, bases[0]) if number % 2 == 0 else (upper, lower, bases[1])
        hashed, spare = scratch
        np.bitwise_xor(other, key, out=hashed)
        np.multiply(hashed, _FIRST, out=hashed)
        np.right_shift(hashed, _HALF - np.uint32(1), out=spare)
        np.bitwise_xor(hashed, spare, out=hashed)
        np.multiply(hashed, _SECOND, out=hashed)
        if narrow:
            np.right_shift(hashed, _HALF, out=hashed)
            np.multiply(hashed, base, out=hashed)
            np.right_shift(hashed, _HALF, out=hashed)
        else:
            product = hashed.astype(np.uint64) * np.uint64(base)
            hashed[:] = product >> _FULL
        np.add(digit, hashed, out=digit)
        np.subtract(digit, base, out=spare)  # wraps round where the sum is below the base
        np.minimum(digit, spare, out=digit)
