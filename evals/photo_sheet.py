"""Photographs with the words of several encoders, on sheets to look at.

    python -m textlens.evals.photo_sheet "webdataset:test-*.tar" --encoder coca --encoder ocr --out runs/sheet

Writes runs/sheet-1.png, runs/sheet-2.png, … Sheets of data that may not be passed on belong into `runs/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw

from ..encoders.redraw.comparison import LINE, font, sheet, wrapped
from ..train.data.base import Sample
from ..train.data.pixels import image_of
from .descriptions import describe_all
from .encoder_variants import load_variants
from .photos import ImageOption, SeedOption, SourceArgument, TextOption, load_photos_of

SIDE, TEXT_WIDTH, MARGIN = 240, 560, 14  # pixels
_COLUMNS = 2
_INK, _HUMAN, _TITLE = (20, 20, 20), (110, 110, 110), (0, 80, 160)


def card(image: Image.Image, title: str, words: Mapping[str, str], captions: Sequence[str] = ()) -> Image.Image:
    """A photograph, and beside it the words of each encoder and the human captions in grey."""
    lines = [(line, _HUMAN) for line in wrapped(title, font(), TEXT_WIDTH)]
    for spec, text in words.items():
        lines.append((spec, _TITLE))
        # Line by line, as `ocr` writes them; words of no length are told.
        parts = [part for row in text.split("\n") for part in wrapped(row, font(), TEXT_WIDTH)]
        lines += [(line, _INK) for line in parts or ["(blank)"]]
    for caption in captions:
        lines += [(line, _HUMAN) for line in wrapped(f"· {caption}", font(), TEXT_WIDTH)]
    photo = image.copy()
    photo.thumbnail((SIDE, SIDE))
    height = max(SIDE, LINE * len(lines)) + 2 * MARGIN
    made = Image.new("RGB", (SIDE + TEXT_WIDTH + 3 * MARGIN, height), "white")
    made.paste(photo, (MARGIN, MARGIN))
    draw = ImageDraw.Draw(made)
    for row, (line, colour) in enumerate(lines):
        draw.text((SIDE + 2 * MARGIN, MARGIN + row * LINE), line, font=font(), fill=colour)
    return made


def sheets(samples: Sequence[Sample], words: Mapping[str, Sequence[str]], per_sheet: int = 8) -> list[Image.Image]:
    """Sheets of `per_sheet` cards, in two columns; words: encoder -> one text for each sample."""
    cards = [
        card(
            image_of(sample),
            Path(sample.key.rpartition(": ")[2]).name,
            {spec: texts[i] for spec, texts in words.items()},
            sample.texts,
        )
        for i, sample in enumerate(samples)
    ]
    return [sheet(cards[i : i + per_sheet], _COLUMNS) for i in range(0, len(cards), per_sheet)]


def main(
    source: SourceArgument,
    encoder: Annotated[list[str], typer.Option(help="Repeatable; decap@nnd is DeCap by nnd.")],
    out: Annotated[Path, typer.Option(help="Sheets are written to OUT-1.png, OUT-2.png, …")] = Path("runs/sheet"),
    text: TextOption = "text",
    image: ImageOption = "image",
    limit: Annotated[int, typer.Option(min=1, help="Photographs, drawn by --seed.")] = 40,
    per_sheet: Annotated[int, typer.Option(min=1)] = 8,
    seed: SeedOption = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of the words written so far.")] = None,
) -> None:
    """Write sheets of photographs with all encoders' words and the human captions."""
    samples = load_photos_of(source, text=text, image=image, limit=limit, seed=seed)
    encoders = load_variants(encoder)
    words = describe_all(len(samples), lambda i: image_of(samples[i]), encoders, cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    for place, made in enumerate(sheets(samples, words, per_sheet), 1):
        path = out.with_name(f"{out.name}-{place}.png")
        made.save(path)
        typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
