"""The order of an epoch as a function: no list of rows, so that memory does not grow with the data."""

from __future__ import annotations

from ..engine.randomness import sample_seed

_ROUNDS = 4
_ORDER = 102  # stream of random numbers


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
