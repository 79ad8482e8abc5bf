"""What encoders write about train scenes: made once by a command, then read as contexts of prompts.

    python -m textlens.scenes.language_model.encoder_texts scenes:coca decap:FOLDER --number 20000 --out FILE

One JSON object per line: {"scene": 17, "encoder": "decap", "text": "..."}; the scenes are of the train split, seed 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from ...errors import InputError
from ...input_files import read_text
from ...train.engine.settings import explained, settings
from ..rendering import render
from ..scene import scene_at

if TYPE_CHECKING:
    from ...encoders.base import Encoder

EncoderTexts = dict[int, dict[str, str]]
"""Scene number -> encoder's name -> its text."""


@settings
class EncoderText:
    """A line of the file."""

    scene: int
    encoder: str
    text: str


def read_encoder_texts(path: Path) -> EncoderTexts:
    """All texts of a file, in its order. Raises `InputError` for a file or a line that cannot be read."""
    texts: EncoderTexts = {}
    lines = read_text(path).splitlines()
    read = TypeAdapter(EncoderText).validate_json
    for number, line in enumerate(lines, 1):
        try:
            one = read(line, strict=True)
        except ValidationError as error:
            raise InputError(f"{path}, line {number}: {explained(error, EncoderText)}") from None
        texts.setdefault(one.scene, {})[one.encoder] = one.text
    if not texts:
        raise InputError(f"{path} holds no text; expected one JSON object per line")
    return texts


def encoder_texts(
    encoder: Encoder, name: str, indices: Iterable[int], *, size: int = 64, batch_size: int = 64
) -> Iterator[dict[str, Any]]:
    """A line for each scene with these numbers, in order; the pictures have `size` pixels a side."""
    from PIL import Image

    numbers = list(indices)
    for start in range(0, len(numbers), batch_size):
        part = numbers[start : start + batch_size]
        pictures = [Image.fromarray(render(scene_at(index, "train"), size)) for index in part]
        for index, description in zip(part, encoder.describe(pictures), strict=True):
            yield {"scene": index, "encoder": name, "text": description.text}


def main(
    encoder: Annotated[list[str], typer.Argument(help="Encoder specs: scenes:coca, decap:FOLDER, dediffusion:FOLDER.")],
    out: Annotated[Path, typer.Option(help="The file to write, JSON lines.")],
    number: Annotated[int, typer.Option(min=1, help="How many train scenes.")] = 20_000,
    start: Annotated[int, typer.Option(min=0, help="Number of the first scene.")] = 0,
) -> None:
    """Write what each encoder says about train scenes."""
    from ...encoders.registry import load_encoder

    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as lines:
        for spec in encoder:
            name = spec.removeprefix("scenes:").partition(":")[0]
            for row in encoder_texts(load_encoder(spec), name, range(start, start + number)):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
