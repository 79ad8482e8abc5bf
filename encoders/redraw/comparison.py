"""Figures: image | words | redrawn image side by side, and sheets of several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 256  # minimum side of a shown image, in pixels
TEXT_WIDTH = 320  # pixels
LINE = 23  # pixels
_MARGIN, _FONT_SIZE = 12, 17
_INK, _FAINT, _EDGE, _PAPER = (20, 20, 20), (110, 110, 110), (200, 200, 200), (255, 255, 255)


def comparison(image: Image.Image | None, text: str, drawn: Image.Image, *, original: str | None = None) -> Image.Image:
    """One picture of the image (optional), the wrapped words, and what was drawn from them.

    original: the words before they were upsampled, in a column of their own.

    Images are scaled to the size of the drawn one, at least `SIDE` pixels; by whole factors without interpolation.
    """
    side = max(SIDE, *drawn.size)
    columns = [("image", _fitted(image, side))] if image is not None else []
    texts = [("words", text)] if original is None else [("words", original), ("upsampled", text)]
    columns += [*((title, _text_panel(words)) for title, words in texts), ("redrawn", _fitted(drawn, side))]
    height = max(panel.height for _, panel in columns)
    width = sum(panel.width + _MARGIN for _, panel in columns) + _MARGIN
    picture = Image.new("RGB", (width, height + LINE + 2 * _MARGIN), _PAPER)
    draw, left = ImageDraw.Draw(picture), _MARGIN
    for title, panel in columns:
        top = LINE + _MARGIN + (height - panel.height) // 2
        draw.text((left, _MARGIN // 2), title, font=font(), fill=_FAINT)
        if title not in ("words", "upsampled"):
            draw.rectangle((left - 1, top - 1, left + panel.width, top + panel.height), outline=_EDGE)
        picture.paste(panel, (left, top))
        left += panel.width + _MARGIN
    return picture


def sheet(pictures: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Pictures in rows of `columns`, each row as tall as its tallest."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    widths = [max(picture.width for picture in pictures[column::columns]) for column in range(len(rows[0]))]
    heights = [max(picture.height for picture in row) for row in rows]
    whole = Image.new("RGB", (sum(widths), sum(heights)), _PAPER)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            whole.paste(picture, (sum(widths[:j]), sum(heights[:i])))
    return whole


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """Resize the longer side to `side`. Not `ImageOps.contain`: it rounds the short side of strips to 0 and fails."""
    longest = max(image.size)
    size = (max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest)))
    method = Image.Resampling.BICUBIC if side % longest else Image.Resampling.NEAREST
    return image.convert("RGB").resize(size, method)


def _text_panel(text: str) -> Image.Image:
    lines = wrapped(text, font(), TEXT_WIDTH)
    panel = Image.new("RGB", (TEXT_WIDTH, LINE * max(1, len(lines))), _PAPER)
    draw = ImageDraw.Draw(panel)
    for row, line in enumerate(lines):
        draw.text((0, row * LINE), line, font=font(), fill=_INK)
    return panel


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines at most `width` pixels wide; words wider than that are cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while font.getlength(word) > width:
            fits = max(1, next(n for n in range(len(word)) if font.getlength(word[: n + 1]) > width))
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return lines


@lru_cache(maxsize=1)
def font() -> ImageFont.FreeTypeFont:
    """The font of all figures, of lines `LINE` pixels high."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), _FONT_SIZE)
