"""CLIP's contrastive loss (Radford et al. 2021, arXiv 2103.00020) over a whole batch of several parts and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .engine.distributed import gather_with_grad

MAX_LOG_SCALE = math.log(100)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy; image, text (B, D) L2-normalised."""
    logits = scale * image @ text.T  # (B, B)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def batch_contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, features: Sequence[tuple[Tensor, Tensor]] = (), part: int = 0
) -> Tensor:
    """The loss of the whole batch, of which image, text (b, D) are part number `part`, with gradients for that part.

    features: images and texts of all parts, without gradients, as open_clip's --accum-freq keeps them; () for one part.
    """
    others = [[one.float() for one in column] for column in zip(*features, strict=True)] or [[image], [text]]
    others[0][part], others[1][part] = image.float(), text.float()
    number = max(1, len(features))  # each part sees the whole loss: its own rows must count in full, the scale once
    images, texts = (gather_with_grad(torch.cat(column)) for column in others)  # of all parts and processes
    return _scale_gradient(contrastive_loss(images, texts, _scale_gradient(scale, 1 / number)), number)


def _scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The same value, with `factor` times its gradient."""
    return value if factor == 1 else value * factor - (value * (factor - 1)).detach()
