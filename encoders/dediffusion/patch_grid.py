"""The patch tokens of a frozen image tower, averaged to a small square grid."""

from __future__ import annotations

from math import isqrt

from einops import rearrange
from torch import Tensor

from ...errors import InputError
from ..clip.clip import Clip
from ..clip.timm_tokens import grid_means


def patch_grid(clip: Clip, pixels: Tensor, grid: int | None) -> Tensor:
    """(B, 3, H, W) of `clip.pixels` -> (B, grid * grid, W) averages of normalised patch tokens, row by row.

    grid: None for all tokens as they are. Raises `InputError` where the tokens are no square, or fewer.
    """
    tokens = clip.patch_tokens(pixels, normalize=True)
    if grid is None:
        return tokens
    side = isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1] or grid > side:
        raise InputError(
            f"{clip.name} has {tokens.shape[1]} patch tokens, which cannot be averaged to {grid} x {grid}; expected a "
            "square of at least as many"
        )
    return grid_means(rearrange(tokens, "b (h w) c -> b c h w", h=side), grid)
