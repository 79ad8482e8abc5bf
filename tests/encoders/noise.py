"""Images of random pixels, each unlike the others."""

from __future__ import annotations

import torch
from PIL import Image


def images(count: int, seed: int = 3) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (count, 40, 50, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(array) for array in noise.numpy()]
