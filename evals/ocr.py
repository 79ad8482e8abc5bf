"""How well the encoder `ocr` reads random texts drawn onto photographs. `python -m textlens.evals.ocr`

Character error rate (edit distance by length, line breaks and case included), share exactly right, and how often it
reads text from photographs that show none. The floor reads nothing.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw

from ..encoders import Encoder
from ..encoders.images import load_images
from ..encoders.ocr.rapid_ocr import OcrEncoder
from ..metrics.character_error import character_error_rate, edit_distance
from .rendered_text import RenderedText, load_photos, render_texts

TILE = (320, 300)  # of the sheet: the picture and two texts


def evaluate(samples: Sequence[RenderedText], readings: Sequence[str]) -> dict[str, Any]:
    """Figures of all samples and of each kind, with the floor."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample, reading in zip(samples, readings, strict=True):
        for group in ("all", *(f"{kind} {value}" for kind, value in sample.kinds().items())):
            groups[group].append((sample.text, reading))
    figures = {name: _figures(*zip(*groups[name], strict=True)) for name in sorted(groups)}
    figures["floor: blank"] = _figures([sample.text for sample in samples], [""] * len(samples))
    return figures


def _figures(truths: Sequence[str], readings: Sequence[str]) -> dict[str, float]:
    pairs = list(zip(truths, readings, strict=True))
    letters = [["".join(text.split()) for text in texts] for texts in (truths, readings)]
    return {
        "texts": len(pairs),
        "cer": round(character_error_rate(truths, readings), 4),
        "cer_without_spaces": round(character_error_rate(*letters), 4),
        "right": round(sum(truth == reading for truth, reading in pairs) / len(pairs), 3),
        "blank": sum(not reading for reading in readings),
    }


def false_texts(photos: Mapping[str, Image.Image], encoder: Encoder) -> dict[str, str]:
    """Name -> what was read from a photograph that shows no text, of those where anything was."""
    described = encoder.describe(list(photos.values()))
    return {name: one.text for name, one in zip(photos, described, strict=True) if one.text}


def sheet(samples: Sequence[RenderedText], readings: Sequence[str], number: int = 24) -> Image.Image:
    """A contact sheet of the worst readings: what stands in the image in black, what was read in red."""
    errors = [edit_distance(s.text, r) / len(s.text) for s, r in zip(samples, readings, strict=True)]
    worst = sorted(range(len(samples)), key=lambda i: -errors[i])[:number]
    columns = min(4, len(worst))
    made = Image.new("RGB", (TILE[0] * columns, TILE[1] * -(-len(worst) // columns)), "white")
    for place, i in enumerate(worst):
        left, top = place % columns * TILE[0], place // columns * TILE[1]
        picture = samples[i].image.resize((TILE[0] - 4, (TILE[0] - 4) * 3 // 4))
        made.paste(picture, (left, top))
        drawing = ImageDraw.Draw(made)
        for text, colour, y in ((samples[i].text, "black", 242), (readings[i], "red", 268)):
            shown = text.replace("\n", " / ").encode("latin-1", "replace").decode("latin-1")
            drawing.text((left + 2, top + y), f"{shown[:50]}\n{shown[50:100]}", colour)
    return made


def main(
    number: Annotated[int, typer.Option(min=1, help="Texts to draw.")] = 240,
    seed: Annotated[int, typer.Option(help="Of the texts and their places.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="By default as many as torch uses.")] = None,
    min_confidence: Annotated[float, typer.Option(help="Less certain text is left out.")] = 0.5,
    photos: Annotated[list[Path] | None, typer.Option(help="More photographs without text.")] = None,
    sheet_file: Annotated[Path | None, typer.Option("--sheet", help="A PNG file of the worst readings.")] = None,
) -> None:
    """Print character error rates by kind, false text, and images per second."""
    own = load_photos()
    print("photographs:", ", ".join(own) or "none installed (scikit-image, scikit-learn), plain colours instead")
    samples = render_texts(number, list(own.values()), random.Random(seed))
    encoder = OcrEncoder(threads=threads, min_confidence=min_confidence)
    encoder.describe([samples[0].image])  # loads the models
    start = perf_counter()
    readings = [one.text for one in encoder.describe([sample.image for sample in samples])]
    rate = len(samples) / (perf_counter() - start)
    for name, figures in evaluate(samples, readings).items():
        print(f"{name:18}", json.dumps(figures))
    views = {f"{name} {view}": image for name, photo in own.items() for view, image in _views(photo).items()}
    views |= {one.name: one.image for one in load_images(photos or []) if one.image}
    false = false_texts(views, encoder)
    print(f"false text on {len(false)} of {len(views)} pictures without text: {json.dumps(false, ensure_ascii=False)}")
    print(f"{rate:.2f} images/s")
    if sheet_file:
        sheet(samples, readings).save(sheet_file)


def _views(photo: Image.Image) -> dict[str, Image.Image]:
    width, height = photo.size
    return {"whole": photo, "middle": photo.crop((width // 4, height // 4, width * 3 // 4, height * 3 // 4))}


if __name__ == "__main__":
    typer.run(main)
