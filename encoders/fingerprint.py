"""Which weights and settings an encoder has: for caches and manifests of what it wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .base import Encoder


def fingerprint(encoder: Encoder | nn.Module) -> str:
    """Of a model's weights and settings: all tensors within it, and its `config` or `search`."""
    digest = hashlib.blake2b(digest_size=6)
    for name in ("config", "search"):
        digest.update(repr(getattr(encoder, name, None)).encode())
    for tensor in _tensors(encoder, depth=3):
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, nn.Module):
        yield from (tensor for tensor in value.state_dict().values() if tensor.ndim)
    elif isinstance(value, Tensor) and value.ndim:
        yield value
    elif depth and hasattr(value, "__dict__"):
        for part in vars(value).values():
            yield from _tensors(part, depth - 1)
