"""Images a second of a timm image trunk on this CPU, in the ways that it can run.

`encoders/clip/frozen_trunk.py` takes the fastest that the CPU has instructions for.

    python benchmarks/trunk.py [--model tf_efficientnet_lite2] [--size 260] [--batch 32]
"""

from __future__ import annotations

import argparse
import time

import timm
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=260)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    trunk = timm.create_model(given.model, pretrained=False).eval()
    pixels = torch.randn(given.batch, 3, given.size, given.size)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for layout in (torch.contiguous_format, torch.channels_last):
        for bf16 in (False, True):
            trunk.to(memory_format=layout)
            rate = measure(trunk, pixels.contiguous(memory_format=layout), bf16, given.repeats)
            print(f"{str(layout).removeprefix('torch.'):<18} {'bf16' if bf16 else 'fp32'}  {rate:6.1f} images/s")


@torch.inference_mode()
def measure(trunk: torch.nn.Module, pixels: torch.Tensor, bf16: bool, repeats: int) -> float:
    """Images a second, after one run to warm up."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        trunk.forward_features(pixels)
        began = time.perf_counter()
        for _ in range(repeats):
            trunk.forward_features(pixels)
    return repeats * len(pixels) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
