"""Patch tokens of a source's images, by a frozen image tower, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL.Image import Image
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.clip.open_clip_files import preprocess_of
from ...encoders.dediffusion.patch_grid import patch_grid
from ..data.base import DataSource
from ..data.latents import ImageCache


def cached_patches(source: DataSource, clip: Clip, grid: int | None, folder: Path) -> Callable[[Sequence[int]], Tensor]:
    """A function of B rows of a finite source -> `patch_grid` of their images, (B, P, W) float32, without crops.

    Recipes that ask for the same tower, grid and images share one file in `folder`.
    """
    visual = clip.model.visual

    def encode(images: Sequence[Image]) -> Tensor:
        return patch_grid(clip, clip.pixels(images, device=next(visual.parameters()).device), grid)

    return ImageCache(source, encode, visual, folder, ["patches", grid, asdict(preprocess_of(clip.model))]).latents
