"""Which score of an encoder tells photographs that are unlike its training data, and from where its words get a note.

    python -m textlens.evals.unlike_training --encoder coca "webdataset:val-*.tar" imagefolder:others/

The threshold is the score below which 5 % (`--noted`) of the known images lie; AUROC is the chance that a known image
scores higher than another one (0.5: the score tells nothing). The threshold goes into the encoder's `note_below`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer

from ..encoders.registry import load_encoder
from ..errors import InputError
from ..train.data.pixels import image_of
from .aligned_table import number
from .photos import LimitOption, SeedOption, SourceArgument, open_all

_BATCH = 32


def scores_of(spec: str, score: str, source: str, *, limit: int | None = None, seed: int = 0) -> np.ndarray:
    """(N,) scores of the encoder's descriptions. Raises `InputError` for a score that it does not give."""
    encoder, images = load_encoder(spec), open_all(source, texts=False)
    if images.size is None:
        raise InputError(f"{source!r} has no end; expected a source of a fixed number of images")
    rows = random.Random(seed).sample(range(images.size), min(limit or images.size, images.size))
    found: list[float] = []
    for start in range(0, len(rows), _BATCH):
        samples = (images.sample(row, seed) for row in rows[start : start + _BATCH])
        for one in encoder.describe([image_of(sample) for sample in samples]):
            if score not in one.scores:
                raise InputError(f"{spec} gives no score {score!r}; expected one of {', '.join(one.scores) or 'none'}")
            found.append(one.scores[score])
    return np.array(found)


def auroc(known: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """The chance that a known score is above another one; ties count half."""
    above = np.subtract.outer(np.asarray(known), np.asarray(other))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def main(
    known: SourceArgument,
    other: SourceArgument,
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Encoder spec.")] = "coca",
    score: Annotated[str, typer.Option(help="One of the encoder's scores.")] = "confidence",
    noted: Annotated[float, typer.Option(min=0.001, max=0.5, help="Share of the known images that get a note.")] = 0.05,
    limit: LimitOption = None,
    seed: SeedOption = 0,
) -> None:
    """Compare a score on known images and on others."""
    seen, unseen = (scores_of(encoder, score, source, limit=limit, seed=seed) for source in (known, other))
    threshold = float(np.quantile(seen, noted))
    typer.echo(f"known: {len(seen)} images, mean {score} {number(float(seen.mean()), 3)}")
    typer.echo(f"other: {len(unseen)} images, mean {score} {number(float(unseen.mean()), 3)}")
    typer.echo(f"AUROC {auroc(seen, unseen):.3f}; note below {threshold:.4f}: {noted:.0%} of the known images,")
    typer.echo(f"{float((unseen < threshold).mean()):.1%} of the others")


if __name__ == "__main__":
    typer.run(main)
