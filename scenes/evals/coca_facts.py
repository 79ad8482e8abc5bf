"""A CoCa on the made world: zero-shot nouns, retrieval, facts of its captions.

    python -m textlens.scenes.evals.coca_facts

Every figure is of the test split; scenes with held-out combinations (seen in no training scene) are reported apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ..facts import Score
from ..scene import held_out, scene_at
from ..world import COLOURS, NOUNS, Scene, article, phrase
from .tables import facts_table
from .testbed import (
    DEFAULT_CLIP,
    SEED,
    Keep,
    by_count,
    captions_of,
    first_scenes,
    floor_scores,
    pictures,
    scores_by_subset,
)


@dataclass(frozen=True)
class Accuracy:
    """Share right of `number` scenes, and of those with held-out combinations."""

    all: float
    held_out: float
    number: int


def shows_held_out(scene: Scene) -> bool:
    return held_out(scene, "test")


def zero_shot_nouns(clip: Clip, number: int = 1000) -> Accuracy:
    """Which noun a one-object scene shows, by the nearest class text: the mean over "a COLOUR NOUN" for all colours."""
    scenes = [scene_at(index, "test", SEED, num_objects=1) for index in range(number)]
    prompts = [article(f"{colour} {phrase(noun)}") for noun in NOUNS for colour in COLOURS]
    classes = clip.embed_texts(prompts).view(len(NOUNS), len(COLOURS), -1).mean(1)
    predicted = (clip.embed_images(pictures(scenes)) @ torch.nn.functional.normalize(classes, dim=-1).T).argmax(1)
    right = [NOUNS[int(i)] == scene.objects[0].noun for i, scene in zip(predicted, scenes, strict=True)]
    apart = [hit for hit, scene in zip(right, scenes, strict=True) if shows_held_out(scene)]
    return Accuracy(sum(right) / len(right), sum(apart) / len(apart), number)


def retrieval(clip: Clip, groups: int = 4, size: int = 256, keep: Keep = lambda _: True) -> float:
    """Image-to-text recall at 1 with descriptive captions among `size` scenes, the mean over `groups` such sets."""
    scenes = first_scenes(groups * size, keep=keep)
    images, texts = clip.embed_images(pictures(scenes)).split(size), clip.embed_texts(captions_of(scenes)).split(size)
    hits = [
        (one @ other.T).argmax(1).eq(torch.arange(size, device=one.device))
        for one, other in zip(images, texts, strict=True)
    ]
    return float(torch.cat(hits).float().mean())


def caption_facts(captioner: CocaCaptioner, number: int = 1000) -> dict[str, dict[str, Score]]:
    """Fact scores of captions of test scenes: all, held-out combinations, by number of objects, and the floor."""
    scenes = first_scenes(number)
    texts = [description.text for description in captioner.describe(pictures(scenes))]
    subsets = {"all": lambda _: True, "held-out combinations": shows_held_out, **by_count()}
    return scores_by_subset(texts, scenes, subsets) | {"constant-text floor": floor_scores(scenes)}


def evaluate(spec: str, number: int = 1000) -> dict[str, Any]:
    """All figures of one CoCa: {"zero_shot_nouns", "image_to_text_r1", "image_to_text_r1_held_out", "facts"}."""
    clip = Clip.from_pretrained(spec)
    return {
        "zero_shot_nouns": zero_shot_nouns(clip, number),
        "image_to_text_r1": retrieval(clip),
        "image_to_text_r1_held_out": retrieval(clip, keep=shows_held_out),
        "facts": caption_facts(CocaCaptioner(clip), number),
    }


def main(
    model: Annotated[str, typer.Argument(help="Folder or open_clip model/tag.")] = str(DEFAULT_CLIP),
    number: Annotated[int, typer.Option(min=50, help="Test scenes per figure.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print the figures of a CoCa on the made world's test split."""
    result = evaluate(model, number)
    nouns = result["zero_shot_nouns"]
    if as_json:
        facts = {row: {kind: score.f1 for kind, score in scores.items()} for row, scores in result["facts"].items()}
        typer.echo(json.dumps(result | {"zero_shot_nouns": vars(nouns), "facts": facts}))
        return
    typer.echo(f"zero-shot nouns, {nouns.number} one-object scenes: {nouns.all:.3f} (held-out: {nouns.held_out:.3f})")
    held = result["image_to_text_r1_held_out"]
    typer.echo(f"image-to-text R@1 of 256, descriptive: {result['image_to_text_r1']:.3f} (held-out: {held:.3f})")
    typer.echo(facts_table(result["facts"]))


if __name__ == "__main__":
    typer.run(main)
