"""How well a CLIP finds captions of photographs, and photographs of captions.

    python -m textlens.evals.clip_retrieval "webdataset:test-*.tar" --clip FOLDER

R@K by the protocol of Flickr and COCO, `metrics.retrieval`; a random order is chance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import torch
import typer

from ..encoders.clip.clip import Clip
from ..metrics.retrieval import RANKS, image_text_recall
from ..train.data.base import Sample
from ..train.evaluators import image_embeddings
from .aligned_table import aligned, number
from .photos import ImageOption, JsonOption, LimitOption, SeedOption, SourceArgument, TextOption, load_photos_of

_WAYS = {"image_to_text": "photo -> caption", "text_to_image": "caption -> photo"}


def evaluate(clip: Clip, samples: Sequence[Sample]) -> dict[str, float]:
    """Recalls both ways in percent, over all captions of the samples."""
    texts = clip.embed_texts([text for sample in samples for text in sample.texts])
    owner = torch.tensor([number for number, sample in enumerate(samples) for _ in sample.texts], device=texts.device)
    return image_text_recall(image_embeddings(clip, samples), texts, owner)


def main(
    source: SourceArgument,
    clip: Annotated[list[str], typer.Option(help="Folder or open_clip model/tag; repeatable.")],
    text: TextOption = "text",
    image: ImageOption = "image",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Print R@1, R@5 and R@10 both ways."""
    samples = load_photos_of(source, text=text, image=image, limit=limit, seed=seed)
    rows = {spec: evaluate(Clip.from_pretrained(spec), samples) for spec in clip}
    captions = sum(len(sample.texts) for sample in samples)
    if as_json:
        typer.echo(json.dumps({"photos": len(samples), "captions": captions, "rows": rows}))
        return
    typer.echo(f"{len(samples)} photographs, {captions} captions; percent")
    head = ["", *(f"{way} R@{k}" for way in _WAYS.values() for k in RANKS)]
    lines = [[spec, *(number(row[f"{way}_r{k}"]) for way in _WAYS for k in RANKS)] for spec, row in rows.items()]
    typer.echo(aligned(head, lines))


if __name__ == "__main__":
    typer.run(main)
