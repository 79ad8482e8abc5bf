"""What a CLIP's embeddings let any DeCap read of a scene's nouns. `python -m textlens.scenes.evals.decap_limits --help`

A linear probe (ridge regression on which nouns a scene shows) takes the decoder's place, so that the limits of the
space show apart from those of the decoder. It is trained on train scenes and read on test scenes: of a scene with N
distinct nouns, how many are among the N that the probe finds likeliest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from ...encoders.clip.clip import Clip
from ...encoders.clip.space import space_name
from ...encoders.decap.memory import SupportMemory
from ...encoders.decap.memory_build import embed_texts
from ..facts import facts_of
from ..scene import MAX_OBJECTS, scene_at
from ..world import NOUNS, Scene
from .tables import markdown
from .testbed import DEFAULT_CLIP, captions_of, first_scenes, pictures

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
TEMPERATURES = (1 / 2, 1 / 6, 1 / 15, 1 / 60)
Shares = Mapping[str, float]
"""Share of nouns found, over "all" scenes and by number of objects."""


def nouns_shown(scenes: Sequence[Scene]) -> Tensor:
    """(N, number of nouns): 1 where a scene shows the noun."""
    shown = [facts_of(scene).noun for scene in scenes]
    return torch.tensor([[float(noun in nouns) for noun in NOUNS] for nouns in shown])


def probe(read: Tensor, scenes: Sequence[Scene], asked: Tensor, tested: Sequence[Scene]) -> Shares:
    """read (N, D) of `scenes` to train on, asked (M, D) of `tested`; the best of `PENALTIES`, which is kind to all."""
    mean, spread = read.mean(0), read.std(0).clamp(min=1e-9)
    known, unknown = (F.pad((x - mean) / spread, (0, 1), value=1.0) for x in (read, asked))
    gram, target = known.T @ known, known.T @ nouns_shown(scenes)
    eye = torch.eye(len(gram))
    fitted = [torch.linalg.solve(gram + penalty * eye, target) for penalty in PENALTIES]
    return max((_found(unknown @ weights, tested) for weights in fitted), key=lambda shares: shares["all"])


def _found(scores: Tensor, scenes: Sequence[Scene]) -> Shares:
    shown = nouns_shown(scenes)
    right, total = [0.0] * (MAX_OBJECTS + 1), [0.0] * (MAX_OBJECTS + 1)
    for row, truth, scene in zip(scores, shown, scenes, strict=True):
        number = int(truth.sum())
        right[len(scene.objects)] += float(truth[row.topk(number).indices].sum())
        total[len(scene.objects)] += number
    by_number = {str(n): right[n] / total[n] for n in range(1, MAX_OBJECTS + 1) if total[n]}
    return {"all": sum(right) / sum(total), **by_number}


def limits(clip: Clip, train: Sequence[Scene], test: Sequence[Scene], memory_size: int) -> dict[str, Shares]:
    """By name: what is read from a caption's own embedding, from an image's where the probe has seen images with their
    nouns (which DeCap never does), and from projections onto a memory of the first captions, at several temperatures.
    """
    texts = captions_of(train)
    captioned, images = embed_texts(texts, clip).float(), clip.embed_images(pictures(test)).float()
    rows = {
        "a caption's own embedding": probe(captioned, train, embed_texts(captions_of(test), clip).float(), test),
        "an image's embedding, probe trained on images": probe(
            clip.embed_images(pictures(train)).float(), train, images, test
        ),
        "an image's embedding, probe trained on captions": probe(captioned, train, images, test),
    }
    memory = SupportMemory(captioned[:memory_size], texts[:memory_size], space_name(clip))
    own = torch.arange(len(train)).masked_fill(torch.arange(len(train)) >= memory_size, -1)
    for temperature in TEMPERATURES:
        projected = memory.project(captioned, temperature, exclude=own).embeddings
        seen = memory.project(images, temperature).embeddings
        rows[f"projected, temperature 1/{round(1 / temperature)}"] = probe(projected, train, seen, test)
    return rows


def main(
    clip: Annotated[Path, typer.Option(help="Folder of the CLIP.")] = DEFAULT_CLIP,
    number: Annotated[int, typer.Option(min=10, help="Train scenes.")] = 10_000,
    test: Annotated[int, typer.Option(min=10, help="Test scenes.")] = 600,
    memory: Annotated[int, typer.Option(min=2, help="Captions in the memory.")] = 7000,
) -> None:
    """Print the share of nouns that a linear probe reads from each kind of embedding."""
    train = [scene_at(index, "train") for index in range(number)]
    rows = limits(Clip.from_pretrained(clip), train, first_scenes(test), memory)
    kinds = next(iter(rows.values()))
    lines = ([name, *(f"{share:.3f}" for share in row.values())] for name, row in rows.items())
    typer.echo(markdown(["nouns read from", *kinds], lines))


if __name__ == "__main__":
    typer.run(main)
