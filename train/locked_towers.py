"""The towers of an open_clip model: a frozen part, whose features can be computed once, and a head that is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops.layers.torch import Reduce
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from ..encoders.clip.caption_text import unpadded
from ..encoders.clip.timm_tokens import pooled_map

GRID = 3  # cells on a side that a feature map is averaged in


@dataclass(frozen=True)
class Frozen:
    """A frozen function of pixels (B, 3, H, W) or ids (B, L): features (B, ...)."""

    encode: Callable[[Tensor], Tensor]
    part: nn.Module  # what it computes with
    kind: str = ""  # tells it from others of the same weights


@dataclass(frozen=True)
class LockedTower:
    """The frozen part of a tower, and the head that turns its features into embeddings (B, D)."""

    frozen: Frozen
    head: nn.Module  # `Identity` of a tower that is frozen as a whole


def image_tower(model: Any) -> LockedTower:
    """The image tower, frozen from now on but for the head that a timm tower has."""
    visual = model.visual
    if not isinstance(visual, TimmModel):
        visual.requires_grad_(False)
        return LockedTower(Frozen(visual, visual), nn.Identity())
    visual.trunk.requires_grad_(False)
    if _is_mean_of_cells(visual):  # so that other models of this tower find their features computed
        return LockedTower(
            grid_features(visual.trunk, GRID), nn.Sequential(Reduce("b n c -> b c", "mean"), visual.head)
        )
    return LockedTower(Frozen(visual.trunk, visual.trunk), visual.head)


def grid_features(trunk: nn.Module, grid: int) -> Frozen:
    """The trunk's feature map, averaged in the cells of a grid: (B, grid², C)."""
    return Frozen(lambda pixels: pooled_map(trunk, pixels, grid), trunk, f"grid of {grid}")


def _is_mean_of_cells(tower: TimmModel) -> bool:
    """Whether the trunk's output is the mean of its feature map, of a size that the grid's cells share evenly."""
    pool = getattr(tower.trunk, "global_pool", None)
    if getattr(pool, "pool_type", None) != "avg":
        return False
    with torch.no_grad():
        device = next(tower.trunk.parameters()).device
        maps = tower.trunk.forward_features(torch.zeros(1, 3, *tower.image_size, device=device))
    return maps.ndim == 4 and maps.shape[2] % GRID == maps.shape[3] % GRID == 0


def text_tower(model: Any) -> LockedTower:
    """The text tower, frozen from now on but for the projection that a tower of transformers has."""
    text = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        text.transformer.requires_grad_(False)
        return LockedTower(Frozen(lambda ids: _pooled(text, ids), text.transformer), text.proj)
    parts = nn.ModuleDict({name: part for name, part in model.named_children() if name != "visual"})
    for name, parameter in model.named_parameters():
        if not name.startswith("visual.") and name not in ("logit_scale", "logit_bias"):
            parameter.requires_grad_(False)
    return LockedTower(Frozen(model.encode_text, parts), nn.Identity())


def _pooled(text: Any, ids: Tensor) -> Tensor:
    ids = unpadded(ids, text.config.pad_token_id)
    mask = (ids != text.config.pad_token_id).long()
    return text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask)
