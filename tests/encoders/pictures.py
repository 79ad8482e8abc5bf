"""Pictures for the tests, and their bytes and pixels."""

from __future__ import annotations

import io

import torch
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def images(count: int, seed: int = 3, size: tuple[int, int] = (50, 40)) -> list[Image.Image]:
    """Random pixels, each image unlike the others."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (count, size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(array) for array in noise.numpy()]


def encode(image: Image.Image, format: str = "PNG", **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return list(image.get_flattened_data())
