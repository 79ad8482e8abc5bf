"""A timm image tower for an open_clip CoCa, which open_clip itself builds on its own vision transformer alone.

pixels -> trunk -> feature map, pooled to a grid ─┬─> norm, linear, position ─> a token for each cell ─┐
                                                  └─> mean -> head -> embedding ─> a token ────────────┴─> tokens
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from ...errors import InputError

GRID = "timm_token_grid"  # of `vision_cfg`: cells of the grid on a side


class TimmTokens(nn.Module):
    """Pixels (B, 3, H, W), or `features` of them (B, grid², C) -> embedding (B, D) and tokens (B, grid² + 1, width).

    tower: open_clip's, of a convolutional trunk; it gives trunk and head.
    """

    def __init__(self, tower: TimmModel, embed_dim: int, width: int, grid: int) -> None:
        super().__init__()
        channels = getattr(tower.trunk, "num_features", 0)
        if not hasattr(tower.trunk, "conv_stem") and not hasattr(tower.trunk, "feature_info"):
            raise InputError(f"{type(tower.trunk).__name__} has no feature map; expected a convolutional timm model")
        self.image_size, self.grid = tower.image_size, grid
        self.trunk, self.head = tower.trunk, tower.head
        self.norm = nn.LayerNorm(channels)
        self.cells = nn.Linear(channels, width)
        self.positions = nn.Parameter(torch.randn(grid * grid + 1, width) * 0.02)
        self.whole = nn.Linear(embed_dim, width)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, grid², C), the part that may be frozen."""
        return pooled_map(self.trunk, pixels, self.grid)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels) if pixels.ndim == 4 else pixels
        embedding = self.head(features.mean(1))
        whole = self.whole(F.normalize(embedding, dim=-1) * embedding.shape[-1] ** 0.5)
        tokens = torch.cat([whole[:, None], self.cells(self.norm(features))], dim=1)
        return embedding, tokens + self.positions


def pooled_map(trunk: Any, pixels: Tensor, grid: int) -> Tensor:
    """(B, 3, H, W) -> (B, grid², C): the trunk's feature map, averaged in the cells of a grid."""
    return grid_means(trunk.forward_features(pixels), grid)


def grid_means(maps: Tensor, grid: int) -> Tensor:
    """(B, C, h, w) -> (B, grid², C): averages in the cells of a grid, row by row."""
    return rearrange(F.adaptive_avg_pool2d(maps, grid), "b c h w -> b (h w) c")
