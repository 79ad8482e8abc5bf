"""Which attention kernel to train with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_for_training(device: torch.device) -> AbstractContextManager[None]:
    """A context for the forward pass in which `scaled_dot_product_attention` takes the kernel with the fast *backward*.

    On a CPU in bf16 that is the plain one: at (128, 5, 65, 32) its backward took 10 ms, the fused kernel's 47 ms
    (`python benchmarks/attention.py`, two cores, torch 2.15). Elsewhere, and in fp32, torch chooses.
    """
    slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return sdpa_kernel([SDPBackend.MATH]) if slow else nullcontext()
