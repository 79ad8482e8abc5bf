"""Draws scenes from the DejaVu fonts that matplotlib carries, so that it works offline anywhere."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .world import BACKGROUNDS, COLOURS, PICTURES, Scene, glyph

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Thin glyphs vanish at 18 px; this share of the extent is added around their strokes.
_STROKE = {"atom": 0.02, "cup": 0.03, "envelope": 0.02, "house": 0.02, "keyboard": 0.0, "note": 0.02, "pencil": 0.02,
           "ring": 0.06, "skull": 0.02, "smiley": 0.02, "snowflake": 0.02, "wheel": 0.01, "moon": 0.02}  # fmt: skip
_OVERSAMPLING = 4


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=4096)
def glyph_mask(noun: str, extent: int) -> NDArray[np.uint16]:
    """Opacity of a noun drawn with `extent` pixels on its longer side: (height, width, 1), 0 to 256."""
    from PIL import Image, ImageDraw, ImageFont

    font_file = "DejaVuSans.ttf" if noun in PICTURES else "DejaVuSans-Bold.ttf"
    pixels = extent * _OVERSAMPLING
    font = ImageFont.truetype(str(_font_folder() / font_file), pixels)
    stroke = round(_STROKE.get(noun, 0.0) * pixels)
    canvas = Image.new("L", (3 * pixels, 3 * pixels))
    ImageDraw.Draw(canvas).text((pixels, pixels), glyph(noun), font=font, fill=255, stroke_width=stroke)
    ink = canvas.crop(canvas.getbbox())
    scale = extent / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    opacity = np.asarray(ink.resize(size, Image.Resampling.BOX if extent < 8 else Image.Resampling.LANCZOS), np.uint16)
    return (opacity + (opacity > 127))[:, :, None]


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture of a scene: (size, size, 3) RGB, 0 to 255. The same scene gives the same pixels."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = BACKGROUNDS[scene.background]
    for thing in scene.objects:
        mask = glyph_mask(thing.noun, max(1, round(thing.extent * size)))
        height, width = mask.shape[:2]
        top = min(max(0, round(thing.y * size - height / 2)), max(0, size - height))
        left = min(max(0, round(thing.x * size - width / 2)), max(0, size - width))
        region = image[top : top + height, left : left + width]
        mask = mask[: region.shape[0], : region.shape[1]]
        colour = np.array(COLOURS[thing.colour], np.uint16)
        region[:] = (region * (256 - mask) + colour * mask) >> 8
    return image
