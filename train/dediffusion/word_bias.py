"""Lets a trained De-Diffusion encoder prefer common words.

    python -m textlens.train.dediffusion.word_bias FOLDER captions.txt --weight 0.7

Trained by a decoder alone, an encoder has no reason to write "women" and not "females": both restore the image. The
log of how many texts have a word, times a weight, is added to the logits where words are chosen; nothing is trained.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Annotated

import typer

from ...encoders.decap.memory_build import text_lines
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...encoders.saved_models import save_config


def frequency_bias(words: Sequence[str], texts: Iterable[str], weight: float) -> list[float]:
    """`weight` times the log of 1 + the number of texts that have a word, for each of `words`."""
    known = set(words)
    counts = Counter(word for text in texts for word in known.intersection(re.findall(r"\w+", text.lower())))
    return [round(weight * log(1 + counts[word]), 4) for word in words]


def main(
    folder: Annotated[Path, typer.Argument(help="A trained encoder; its config.json is changed.")],
    texts: Annotated[Path, typer.Argument(help="A text file with one caption per line; may be gzipped.")],
    weight: Annotated[float, typer.Option(min=0, help="0 takes the preference away.")] = 0.5,
) -> None:
    """Write `word_bias` into a De-Diffusion encoder's config.json."""
    encoder = Dediffusion.from_pretrained(folder)
    bias = frequency_bias(encoder.vocabulary.words, text_lines(texts), weight) if weight else None
    save_config(replace(encoder.config, word_bias=bias), folder)
    typer.echo(json.dumps({"words": len(encoder.vocabulary), "weight": weight}))


if __name__ == "__main__":
    typer.run(main)
