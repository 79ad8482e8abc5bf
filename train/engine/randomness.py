"""Randomness keyed by sample index: the same draw whatever the batch split, the number of processes or the resume
point.

A recipe draws the noise of sample 1234 from `(seed, 1234)` and never from the state of a global generator, so that two
processes train on the very numbers that one would have used. `stream` tells apart several uses for one sample (noise,
timestep, crop).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_seed(seed: int, index: int, stream: int = 0) -> int:
    """A well-mixed 63-bit seed for one use (`stream`) of one sample (`index`) of one run (`seed`)."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_rng(seed: int, index: int, stream: int = 0) -> random.Random:
    """A Python generator for one sample."""
    return random.Random(sample_seed(seed, index, stream))


def sample_generator(seed: int, index: int, stream: int = 0) -> torch.Generator:
    """A torch CPU generator for one sample."""
    return torch.Generator().manual_seed(sample_seed(seed, index, stream))


def sample_noise(shape: Sequence[int], seed: int, indices: Sequence[int], stream: int = 0) -> Tensor:
    """Normal noise, (len(indices), *shape) float32 on the CPU; row i follows from `seed`, `stream`, `indices[i]`."""
    if not len(indices):
        return torch.empty(0, *shape)
    return torch.stack([torch.randn(tuple(shape), generator=sample_generator(seed, i, stream)) for i in indices])


def sample_uniform(shape: Sequence[int], seed: int, indices: Sequence[int], stream: int = 0) -> Tensor:
    """Uniform numbers in [0, 1), (len(indices), *shape) float32 on the CPU, keyed as `sample_noise`."""
    if not len(indices):
        return torch.empty(0, *shape)
    return torch.stack([torch.rand(tuple(shape), generator=sample_generator(seed, i, stream)) for i in indices])


def sample_integers(high: int, seed: int, indices: Sequence[int], stream: int = 0) -> Tensor:
    """Uniform integers in [0, high), such as timesteps: (len(indices),) int64 on the CPU, keyed as `sample_noise`."""
    return torch.tensor([sample_rng(seed, i, stream).randrange(high) for i in indices], dtype=torch.int64)
