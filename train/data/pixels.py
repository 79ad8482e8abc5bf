"""Images as the diffusion models take them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from PIL.ImageOps import fit
from torch import Tensor

from ...errors import InputError
from ..engine.randomness import sample_rng
from .base import Sample

_CROP = 103  # stream of random numbers


def pixels(images: Sequence[PilImage], size: int) -> Tensor:
    """Images of any size, resized and cut to the centre square -> (B, 3, size, size) float32 in [-1, 1]."""
    squares = [fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC) for image in images]
    values = np.stack([np.asarray(square) for square in squares])  # (B, H, W, 3)
    return torch.from_numpy(values).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_pixels(
    samples: Sequence[Sample], size: int, crop_scale: tuple[float, float] | None, indices: Sequence[int], seed: int
) -> Tensor:
    """`pixels` of samples, of random squares where `crop_scale` says how much of the largest square they cover; drawn
    for the sample numbers `indices` of the run with this seed."""
    return pixels(cropped([image_of(sample) for sample in samples], crop_scale, indices, seed), size)


def cropped(
    images: Sequence[PilImage], scale: tuple[float, float] | None, indices: Sequence[int], seed: int
) -> list[PilImage]:
    """A `random_square` of each image, drawn for its sample number; the images as they are with no scale."""
    if scale is None:
        return list(images)
    rngs = (sample_rng(seed, index, _CROP) for index in indices)
    return [random_square(image, scale, rng) for image, rng in zip(images, rngs, strict=True)]


def random_square(image: PilImage, scale: tuple[float, float], rng: random.Random) -> PilImage:
    """A square anywhere in the image; its area is a share, from `scale`, of the largest square's."""
    side = max(1, round(min(image.size) * rng.uniform(*scale) ** 0.5))
    left, top = (rng.randint(0, length - side) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def image_of(sample: Sample) -> PilImage:
    """The sample's image. Raises `InputError` where it has none."""
    image = sample.image  # held-out photographs are decoded whenever they are read
    if image is None:
        raise InputError(f"{sample.key} has no image; expected a source of images")
    return image
