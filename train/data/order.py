"""The order of an epoch as a function: no list of rows, so that memory does not grow with the data."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..engine.randomness import sample_seed

_ROUNDS = 4
_ORDER, _WINDOW = 102, 103  # streams of random numbers


def epoch_position(index: int, size: int, seed: int) -> int:
    """The row that sample number `index` shows: each of `size` rows once in an epoch, in an order of its own."""
    epoch, position = divmod(index, size)
    return permuted(position, size, sample_seed(seed, epoch, _ORDER))


def permuted(position: int, size: int, key: int) -> int:
    """A permutation of range(size), chosen by `key` (63 bits): a Feistel network, walked until it lands within.

    Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains". Takes constant memory and at most a few rounds.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)  # bits of one half
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for round_number in range(_ROUNDS):
            left, right = right, left ^ (_mixed(right, key + round_number) & mask)
        position = left << half | right
        if position < size:
            return position


def _mixed(value: int, key: int) -> int:
    """64 bits, every one of which depends on all of `value` and `key` (the finaliser of splitmix64)."""
    mixed = (value * 0x9E3779B97F4A7C15 + key * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 31


class ShardOrder:
    """The order of an epoch of shards: shards in an order of their own, then samples mixed within a window of the
    sequence that they make, so that only a few shards are read from at a time.

    The windows' borders differ from epoch to epoch. Memory: a few bytes a shard.
    """

    def __init__(self, starts: NDArray[np.int64], window: int) -> None:
        """starts (S + 1,): the first row of each shard, then the number of rows."""
        self._starts, self._window, self._size = starts, window, int(starts[-1])
        self._sequence = lru_cache(maxsize=4)(self._shuffled)

    def __call__(self, index: int, seed: int) -> int:
        """The row that sample number `index` shows: each once in an epoch."""
        epoch, position = divmod(index, self._size)
        key = sample_seed(seed, epoch, _ORDER)
        shift = key % self._window
        window = (position + shift) // self._window
        first = max(0, window * self._window - shift)
        stop = min(self._size, (window + 1) * self._window - shift)
        position = first + permuted(position - first, stop - first, sample_seed(key, window, _WINDOW))
        shards, begins = self._sequence(key)
        place = int(np.searchsorted(begins, position, side="right")) - 1
        return int(self._starts[shards[place]] + position - begins[place])

    def _shuffled(self, key: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(S,) the shards in order, and (S,) where each begins in the sequence."""
        number = len(self._starts) - 1
        shards = np.array([permuted(place, number, key) for place in range(number)], np.int64)
        lengths = np.diff(self._starts)[shards]
        return shards, np.cumsum(lengths) - lengths
