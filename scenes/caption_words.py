"""The words of scenes' captions: all that De-Diffusion may write (`words:`), since a decoder knows no others.

python -m textlens.scenes.caption_words short descriptive listed loose > scenes/configs/caption-words-short.txt
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Annotated

import typer

from .captions import STYLES, captions
from .scene import scene_at


def caption_words(styles: Iterable[str], number: int = 20_000) -> tuple[str, ...]:
    """The words of so many captions of train scenes in each of these styles, in lower case and alphabetical order."""
    rng = random.Random(0)
    texts = (captions(scene_at(index, "train"), style, rng) for style in styles for index in range(number))
    return tuple(sorted({word for text in texts for word in re.findall(r"\w+", text.lower())}))


def main(styles: Annotated[list[str], typer.Argument(help=f"Caption styles: {', '.join(STYLES)}.")]) -> None:
    """Print the words of captions in these styles, one a line."""
    typer.echo("\n".join(caption_words(styles)))


if __name__ == "__main__":
    typer.run(main)
