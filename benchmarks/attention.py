"""Attention kernels in training (train/engine/attention.py), forward and backward: `python benchmarks/attention.py`"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def measure(kernel: SDPBackend, dtype: torch.dtype, shape: tuple[int, ...], repeats: int) -> tuple[float, float]:
    """Best seconds of `repeats` for the forward and the backward pass of one attention layer."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats):
        query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
        start = time.perf_counter()
        with sdpa_kernel([kernel]):
            out = F.scaled_dot_product_attention(query, key, value)
        middle = time.perf_counter()
        out.sum().backward()
        best = [min(best[0], middle - start), min(best[1], time.perf_counter() - middle)]
    return best[0], best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=4, default=(128, 5, 65, 32), help="batch, heads, tokens, head size")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"shape {tuple(options.shape)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16):
        for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
            forward, backward = measure(kernel, dtype, tuple(options.shape), options.repeats)
            print(f"{dtype!s:15s} {kernel.name:16s} forward {1e3 * forward:6.1f} ms  backward {1e3 * backward:6.1f} ms")


if __name__ == "__main__":
    main()
