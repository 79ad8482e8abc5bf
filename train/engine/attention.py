"""Which attention kernel to train with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_for_training(device: torch.device) -> AbstractContextManager[None]:
    """A context for the forward pass in which `scaled_dot_product_attention` takes the kernel with the fast *backward*.

    On a CPU in bf16 that is the plain one: at (128, 5, 65, 32) its backward took 10 ms, the fused kernel's 47 ms
    (`python benchmarks/attention.py`, two cores, torch 2.15). Elsewhere, and in fp32, torch chooses.
    """
    slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return sdpa_kernel([SDPBackend.MATH]) if slow else nullcontext()


@dataclass(frozen=True)
class Parts:
    """Batches of several lengths laid out as one row: (rows, tokens) of each, in order. Not a bare list, whose every
    value and length torch.compile would compile a layer for."""

    shapes: Sequence[tuple[int, int]]


@torch.compiler.disable
def causal_attention_in_parts(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    parts: Parts | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention in the form of transformers' `AttentionInterface`, for batches of several lengths laid out as one row.

    query, key, value: (1, H, N, D), N the tokens of all parts; without parts, this is transformers' own `sdpa` on
    (B, H, T, D). Returns (1, N, H, D).

    All else in a layer then runs once over all tokens: with eight lengths in a batch, a step of the small language
    model took 1.1 s in place of 1.9 s on two cores. There, too, the plain products are faster than the fused kernel.
    """
    if parts is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    sizes = [rows * tokens for rows, tokens in parts.shapes]
    flat = [states[0].transpose(0, 1).split(sizes) for states in (query, key, value)]  # (rows * tokens, H, D) each
    out = []
    for (rows, tokens), *states in zip(parts.shapes, *flat, strict=True):
        q, k, v = (one.unflatten(0, (rows, tokens)).transpose(1, 2) for one in states)  # (rows, H, tokens, D)
        if q.device.type == "cpu":  # torch's own plain kernel computes in float32: slower yet, beyond 300 tokens
            later = torch.full((tokens, tokens), -torch.inf, dtype=q.dtype).triu(1)
            weights = ((q * (scaling or q.shape[-1] ** -0.5)) @ k.transpose(-1, -2) + later).softmax(-1, dtype=q.dtype)
            seen = weights @ v
        else:
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        out.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(out)[None], None
