"""Pixels of training images for an open_clip model: cropped at random where the source says so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transform import AugmentationCfg, image_transform_v2
from torch import Tensor

from ..encoders.clip.clip import Clip
from ..encoders.clip.open_clip_files import preprocess_of
from .data.base import DataSource, Sample
from .data.pixels import image_of
from .engine.randomness import sample_seed

_CROP = 1  # stream of random numbers


def augmented_pixels(
    clip: Clip, source: DataSource, samples: Sequence[Sample], indices: Sequence[int], seed: int
) -> Tensor:
    """(B, 3, H, W) float32 on the CPU: open_clip's own random crops, drawn for sample numbers `indices`, or, without
    `source.crop_scale`, what `Clip.pixels` gives."""
    images = [image_of(sample) for sample in samples]
    if source.crop_scale is None:
        return clip.pixels(images, device="cpu")  # a forked worker may use no GPU
    augmentation = AugmentationCfg(scale=source.crop_scale)
    transform = image_transform_v2(preprocess_of(clip.model), is_train=True, aug_cfg=augmentation)
    rows = []
    with torch.random.fork_rng(devices=[]):
        for image, index in zip(images, indices, strict=True):
            torch.manual_seed(sample_seed(seed, index, _CROP))
            rows.append(transform(image))
    return torch.stack(rows)
