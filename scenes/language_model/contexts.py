"""Scenes as a prompt shows them: drawn from a pool, described by captions of some styles and texts of some encoders.

A leaf: no torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from ...prompting.templates import Context, context_label
from ..captions import COUNT_WORDS, STYLES, captions
from ..scene import scene_at
from ..world import Scene, phrase
from .encoder_texts import EncoderTexts

BLANK = "blank"
_SORTED = 20_000  # scenes that are sorted into classes, once per process: a second or less

ATTRIBUTES: dict[str, Callable[[Scene], str | None]] = {
    "noun": lambda scene: phrase(scene.objects[0].noun) if len(scene.objects) == 1 else None,
    "colour": lambda scene: scene.objects[0].colour if len(scene.objects) == 1 else None,
    "background": lambda scene: scene.background,
    "count": lambda scene: COUNT_WORDS.get(len(scene.objects), "one"),
}
"""What scenes are classified by; None where a scene has no such class."""

Seen = tuple[Scene, tuple[Context, ...]]
Classes = dict[str, dict[str, list[int]]]
"""Attribute -> class -> numbers of the scenes in it."""


class Pool:
    """The scenes 0 … `scenes` - 1 of a split, and texts of encoders about some of them."""

    def __init__(self, split: str, scenes: int, encoder_texts: EncoderTexts | None = None) -> None:
        self.split, self.scenes, self.encoder_texts = split, scenes, encoder_texts or {}
        self.encoders = frozenset(name for texts in self.encoder_texts.values() for name in texts)
        self.numbers, self.classes = cache(self._numbers), cache(self._classes)

    def _numbers(self, encoders: frozenset[str]) -> Sequence[int]:
        """The scenes of which all these encoders have written."""
        if not encoders:
            return range(self.scenes)
        return [number for number, texts in self.encoder_texts.items() if encoders <= set(texts)]

    def _classes(self, encoders: frozenset[str]) -> Classes:
        """The first of these scenes by class."""
        found: Classes = {attribute: {} for attribute in ATTRIBUTES}
        for number in self.numbers(encoders)[:_SORTED]:
            scene = scene_at(number, self.split)
            for attribute, class_of in ATTRIBUTES.items():
                if value := class_of(scene):
                    found[attribute].setdefault(value, []).append(number)
        return found


@dataclass(frozen=True)
class View:
    """How the scenes of one prompt are described: all by the same `sources` (styles and encoders; none for no context),
    with labels or without."""

    pool: Pool
    sources: Sequence[str]
    labelled: bool
    rng: random.Random = field(repr=False)

    @property
    def _encoders(self) -> frozenset[str]:
        return frozenset(self.sources) - set(STYLES)

    def see(self) -> Seen:
        """Any scene."""
        return self._describe(self.rng.choice(self.pool.numbers(self._encoders)))

    def classes(self, attribute: str) -> list[str]:
        """Classes of which there are scenes to see."""
        return list(self.pool.classes(self._encoders)[attribute])

    def see_class(self, attribute: str, value: str) -> Seen:
        """A scene of one class."""
        return self._describe(self.rng.choice(self.pool.classes(self._encoders)[attribute][value]))

    def _describe(self, number: int) -> Seen:
        scene = scene_at(number, self.pool.split)
        context = []
        for name in self.sources:
            text = captions(scene, name, self.rng) if name in STYLES else self.pool.encoder_texts[number][name]
            label = context_label("coca" if name in STYLES else name) if self.labelled else ""
            context.append(Context(text, label))
        return scene, tuple(context)


def draw_view(pool: Pool, weights: Mapping[str, float], several: float, rng: random.Random) -> View:
    """One to three sources, drawn by `weights` of styles, encoders and "blank"; sources that the pool has no scene for
    are left out. several: the chance of more than one, which then always have labels."""
    known = {name: w for name, w in weights.items() if name == BLANK or name in STYLES or name in pool.encoders}
    count = rng.choice((2, 2, 3)) if rng.random() < several else 1
    sources: list[str] = []
    for name in rng.choices(list(known), list(known.values()), k=count):
        wanted = frozenset([*sources, name]) - {*STYLES, BLANK}
        if name != BLANK and name not in sources and pool.numbers(wanted):
            sources.append(name)
    return View(pool, sources, len(sources) > 1 or rng.random() < 0.25, rng)
