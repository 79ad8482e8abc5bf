"""A CoCa on the made world: zero-shot nouns, retrieval, facts of its captions.

    python -m textlens.scenes.evals.coca_facts

Every figure is of the test split; scenes with held-out combinations (seen in no training scene) are reported apart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.registry import WEIGHTS
from ..captions import captions
from ..facts import Score, constant_text_floor, facts_of, facts_table, score_texts
from ..rendering import render
from ..scene import held_out, scene_at
from ..world import COLOURS, NOUNS, Scene, article, phrase

SEED = 1  # training uses the train split of seed 0


@dataclass(frozen=True)
class Accuracy:
    """right of total, over all scenes and over those with held-out combinations."""

    all: float
    held_out: float
    number: int


def pictures(scenes: Sequence[Scene], size: int = 64) -> list[Image.Image]:
    """The scenes drawn, as PIL images."""
    return [Image.fromarray(render(scene, size)) for scene in scenes]


def zero_shot_nouns(clip: Clip, number: int = 1000) -> Accuracy:
    """Which noun a one-object scene shows, by the nearest class text: the mean over "a COLOUR NOUN" for all colours."""
    scenes = [scene_at(index, "test", SEED, num_objects=1) for index in range(number)]
    prompts = [article(f"{colour} {phrase(noun)}") for noun in NOUNS for colour in COLOURS]
    classes = clip.embed_texts(prompts).view(len(NOUNS), len(COLOURS), -1).mean(1)
    predicted = (clip.embed_images(pictures(scenes)) @ torch.nn.functional.normalize(classes, dim=-1).T).argmax(1)
    right = [NOUNS[int(i)] == scene.objects[0].noun for i, scene in zip(predicted, scenes, strict=True)]
    apart = [hit for hit, scene in zip(right, scenes, strict=True) if held_out(scene, "test")]
    return Accuracy(sum(right) / len(right), sum(apart) / len(apart), number)


def retrieval(clip: Clip, groups: int = 4, size: int = 256, only: Callable[[Scene], bool] = lambda _: True) -> float:
    """Image-to-text recall at 1 with descriptive captions among `size` scenes, the mean over `groups` such sets."""
    found = (scene_at(index, "test", SEED) for index in range(100 * groups * size))
    scenes = [scene for scene, _ in zip(filter(only, found), range(groups * size), strict=False)]
    texts = clip.embed_texts([captions(scene, "descriptive", random.Random(0)) for scene in scenes])
    images = clip.embed_images(pictures(scenes))
    same = torch.arange(size, device=images.device)
    hits = [
        (images[i : i + size] @ texts[i : i + size].T).argmax(1).eq(same).float().mean()
        for i in range(0, groups * size, size)
    ]
    return float(torch.stack(hits).mean())


def caption_facts(captioner: CocaCaptioner, number: int = 1000) -> dict[str, dict[str, Score]]:
    """Fact scores of captions of test scenes: all, held-out combinations, by number of objects, and the floor."""
    scenes = [scene_at(index, "test", SEED) for index in range(number)]
    texts = [description.text for description in captioner.describe(pictures(scenes))]
    pairs = list(zip(texts, scenes, strict=True))
    rows = {"all": score_texts(texts, scenes)}
    subsets: dict[str, Callable[[Scene], bool]] = {"held-out combinations": lambda scene: held_out(scene, "test")}
    for count in range(1, 5):
        subsets[f"{count} object{'s' * (count > 1)}"] = lambda scene, count=count: len(scene.objects) == count  # type: ignore[misc]
    for name, keep in subsets.items():
        kept = [(text, scene) for text, scene in pairs if keep(scene)]
        rows[name] = score_texts([text for text, _ in kept], [scene for _, scene in kept])
    return rows | {"constant-text floor": constant_text_floor([facts_of(scene) for scene in scenes])}


def evaluate(spec: str, number: int = 1000) -> dict[str, Any]:
    """All figures of one CoCa: {"zero_shot_nouns", "image_to_text_r1", "image_to_text_r1_held_out", "facts"}."""
    clip = Clip.from_pretrained(spec)
    return {
        "zero_shot_nouns": zero_shot_nouns(clip, number),
        "image_to_text_r1": retrieval(clip),
        "image_to_text_r1_held_out": retrieval(clip, only=lambda scene: held_out(scene, "test")),
        "facts": caption_facts(CocaCaptioner(clip), number),
    }


def main(
    model: Annotated[str, typer.Argument(help="Folder or open_clip model/tag.")] = str(WEIGHTS / "coca"),
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
