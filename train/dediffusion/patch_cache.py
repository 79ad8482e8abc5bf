"""Patch tokens of a source's images, by a frozen image tower, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from open_clip.timm_model import TimmModel
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.dediffusion.patch_grid import patch_grid
from ..data.base import DataSource
from ..frozen_features import ImageFeatures
from ..locked_towers import Frozen


def cached_patches(source: DataSource, clip: Clip, grid: int | None, folder: Path) -> Callable[[Sequence[int]], Tensor]:
    """A function of B rows of a finite source -> `patch_grid` of their images, (B, P, W) float32, without crops.

    Recipes that ask for the same tower, grid and images share one file in `folder`.
    """
    visual: Any = clip.model.visual
    timm = isinstance(visual, TimmModel) and grid is not None  # whose features other recipes may have kept already
    part, kind = (visual.trunk, f"grid of {grid}") if timm else (visual, f"patches, grid of {grid}")
    frozen = Frozen(lambda pixels: patch_grid(clip, pixels, grid), part, kind)
    return ImageFeatures(source, clip, frozen, 1, folder)
