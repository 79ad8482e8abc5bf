"""The test scenes that all evaluations read, their pictures and captions, and scores by kinds of scenes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice
from typing import TypeVar

import torch
from PIL import Image

from ..captions import captions
from ..facts import Score, constant_text_floor, facts_of, score_texts
from ..included import FOLDER
from ..rendering import render
from ..scene import MAX_OBJECTS, scene_at
from ..world import Scene

SEED = 1  # training uses the train split of seed 0
DEFAULT_CLIP = FOLDER / "coca"
Keep = Callable[[Scene], bool]
Item = TypeVar("Item")


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def first_scenes(number: int, most_objects: int = MAX_OBJECTS, keep: Keep = lambda _: True) -> list[Scene]:
    """The first `number` scenes of the test split with at most so many objects for which `keep` holds."""
    scenes = (scene_at(index, "test", SEED) for index in count())
    return list(islice((scene for scene in scenes if len(scene.objects) <= most_objects and keep(scene)), number))


def pictures(scenes: Sequence[Scene], size: int = 64) -> list[Image.Image]:
    """The scenes drawn, as PIL images."""
    return [Image.fromarray(render(scene, size)) for scene in scenes]


def captions_of(scenes: Sequence[Scene], style: str = "descriptive") -> list[str]:
    """A caption of each scene, the same each time."""
    rng = random.Random(SEED)
    return [captions(scene, style, rng) for scene in scenes]


def mismatched(items: Sequence[Item]) -> list[Item]:
    """Each item moved to the one before: texts of other images, a floor."""
    return [*items[1:], *items[:1]]


def by_count() -> dict[str, Keep]:
    """ "1 object", "2 objects", ...: scenes with so many."""

    def has(number: int) -> Keep:
        return lambda scene: len(scene.objects) == number

    return {f"{number} object{'s' * (number > 1)}": has(number) for number in range(1, MAX_OBJECTS + 1)}


def scores_by_subset(
    texts: Sequence[str], scenes: Sequence[Scene], subsets: Mapping[str, Keep]
) -> dict[str, dict[str, Score]]:
    """The facts of texts scored over the scenes of each subset."""
    found = {}
    for name, keep in subsets.items():
        kept = [(text, scene) for text, scene in zip(texts, scenes, strict=True) if keep(scene)]
        found[name] = score_texts([text for text, _ in kept], [scene for _, scene in kept])
    return found


def floor_scores(scenes: Sequence[Scene]) -> dict[str, Score]:
    """Of the best single text for all scenes."""
    return constant_text_floor([facts_of(scene) for scene in scenes])
