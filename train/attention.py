"""Which attention kernel to train with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_for_training(device: torch.device) -> AbstractContextManager[None]:
    """A context for the forward pass in which `scaled_dot_product_attention` takes the kernel with the fast *backward*.

    On a CPU that is the plain one: at (128, 5, 65, 32) its backward took 15 ms in bf16 and 25 ms in fp32, the fused
    kernel's 48 ms and 100 ms (`python benchmarks/attention.py`, two cores, torch 2.15). Elsewhere torch chooses.
    """
    return sdpa_kernel([SDPBackend.MATH]) if device.type == "cpu" else nullcontext()
