"""Images as the diffusion models take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from PIL.ImageOps import fit
from torch import Tensor


def pixels(images: Sequence[PilImage], size: int) -> Tensor:
    """Images of any size, resized and cut to the centre square -> (B, 3, size, size) float32 in [-1, 1]."""
    squares = [fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC) for image in images]
    values = np.stack([np.asarray(square) for square in squares])  # (B, H, W, 3)
    return torch.from_numpy(values).permute(0, 3, 1, 2).float() / 127.5 - 1
