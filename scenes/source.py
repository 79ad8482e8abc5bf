"""Scenes as a source to train on: endless fresh ones, or a fixed number that come round again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..errors import InputError
from ..train.data.base import DataSource, Sample
from ..train.data.order import epoch_position
from ..train.engine.randomness import sample_rng
from ..train.engine.settings import settings
from .captions import STYLES, captions
from .facts import score_texts
from .rendering import render
from .scene import MAX_OBJECTS, scene_at, scene_rng, vary_scene
from .world import Scene

_OBJECTS = 1  # stream of random numbers
FACTS = ("noun", "colour", "place", "background", "pair")  # whose F1 is reported
Objects = Annotated[int, Field(ge=1, le=MAX_OBJECTS)]
Number = Annotated[int, Field(ge=1)]


@settings
class SceneData:
    """Settings of the source "scenes": scenes of the train split; those of "val" are held out."""

    source: Literal["scenes"] = "scenes"
    styles: Mapping[str, Annotated[float, Field(ge=0)]] = field(default_factory=lambda: {"descriptive": 1.0})
    number: Annotated[int, Field(ge=0)] = 0  # of scenes that come round again; 0: fresh scenes without end
    seed: int = 0  # which captions a list of them has
    one_object: Annotated[float, Field(ge=0, le=1)] = 0.0  # share with one object, beside the quarter by chance
    # {most objects: sample number until which no scene has more}; {} shows 1-4 objects from the start
    curriculum: Mapping[Objects, Number] = field(default_factory=dict)
    # N consecutive samples show one scene, all but the first slightly varied: hard negatives
    near_duplicates: Number = 1
    held_out_objects: Objects = MAX_OBJECTS  # at most, in held-out scenes
    held_out_style: str = "descriptive"  # of their captions

    def __post_init__(self) -> None:
        if set(self.styles) - set(STYLES) or sum(self.styles.values()) <= 0:
            raise InputError(f"styles is {dict(self.styles)}; expected positive weights of {', '.join(STYLES)}")
        if self.held_out_style not in STYLES:
            raise InputError(f"held_out_style is {self.held_out_style!r}; expected one of {', '.join(STYLES)}")
        if self.number and self.near_duplicates > 1:
            raise InputError(
                f"near_duplicates is {self.near_duplicates} with {self.number} scenes; expected number 0: fresh scenes"
            )

    def open(self, *, image_size: int = 0, texts: bool = True) -> SceneSource:
        """The source; scenes are drawn with `image_size` pixels a side."""
        return SceneSource(self, image_size)


class SceneSource(DataSource):
    """Train scenes with a caption each; held out are scenes of the split "val"."""

    def __init__(self, data: SceneData, image_size: int = 0) -> None:
        super().__init__()
        self.data, self.image_size = data, image_size
        self.size = data.number or None
        self.evaluators = (SceneFacts(self),)

    @property
    def identity(self) -> str:  # type: ignore[override]
        return f"scenes {self.data.number} {self.data.one_object} {self.image_size}"

    def row(self, index: int, seed: int) -> int:
        if self.size is None:
            return index
        limits = [most for most, until in self.data.curriculum.items() if index < until]
        if not limits:
            return epoch_position(index, self.size, seed)
        allowed = self._with_at_most[min(limits)]  # never empty: scene 0 has one object
        return int(allowed[epoch_position(index, len(allowed), seed)])

    def read(self, row: int, index: int, seed: int, *, image: bool = True) -> Sample:
        rng = sample_rng(seed, index)
        scene = self._endless(row, seed, rng) if self.size is None else self.scene(row)
        style = rng.choices(tuple(self.data.styles), tuple(self.data.styles.values()))[0]
        return self._sample(f"scene {row}", row, scene, captions(scene, style, rng), style, image)

    def scene(self, row: int) -> Scene:
        """Scene number `row` of those that come round again."""
        return scene_at(row, num_objects=int(self._objects[row]))

    def held_out(self, number: int) -> list[Sample]:
        """Scenes of the split "val" with captions of `held_out_style`."""
        style = self.data.held_out_style
        return [
            self._sample(f"held-out scene {row}", row, scene, captions(scene, style, sample_rng(0, row)))
            for row, scene in enumerate(map(self.held_out_scene, range(number)))
        ]

    def held_out_scene(self, row: int) -> Scene:
        """With a limit on objects each number up to it comes equally often."""
        most = self.data.held_out_objects
        return scene_at(row, "val", num_objects=1 + row % most if most < MAX_OBJECTS else None)

    def captions(self) -> Iterator[str]:
        """One caption of each of `number` scenes, its style drawn with the weights."""
        if not self.size:
            raise InputError("data.number is 0; expected how many scenes to caption")
        for row in range(self.size):
            rng = scene_rng("train", self.data.seed, row, "captions")
            (style,) = rng.choices(list(self.data.styles), weights=list(self.data.styles.values()))
            yield captions(scene_at(row, seed=self.data.seed), style, rng)

    def _endless(self, index: int, seed: int, rng: random.Random) -> Scene:
        """`rng` is that of sample `index`: it draws the number of objects, then goes on to the caption."""
        data = self.data
        first = index - index % data.near_duplicates
        own = rng if index == first else sample_rng(seed, first)
        limits = [objects for objects, until in data.curriculum.items() if first < until]
        if data.one_object and own.random() < data.one_object:
            limits.append(1)
        scene = scene_at(first, "train", seed, own.randint(1, min(limits)) if limits else None)
        return scene if index == first else vary_scene(scene, rng)

    def _sample(self, key: str, row: int, scene: Scene, text: str, style: str = "", image: bool = True) -> Sample:
        from PIL import Image

        shown = Image.fromarray(render(scene, self.image_size or 64)) if image else None
        return Sample(key, row, shown, text, (text,), style)

    @cached_property
    def _objects(self) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        """(N,) how many objects each scene shows."""
        draws = (sample_rng(0, row, _OBJECTS) for row in range(self.data.number))
        one = self.data.one_object
        return np.array([1 if rng.random() < one else rng.randint(1, MAX_OBJECTS) for rng in draws], np.int8)

    @cached_property
    def _with_at_most(self) -> dict[int, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Number of objects -> the scenes with no more."""
        return {most: np.flatnonzero(self._objects <= most) for most in self.data.curriculum}


class SceneFacts:
    """F1 of the facts that texts state about held-out scenes."""

    def __init__(self, source: SceneSource) -> None:
        self.source = source

    def score_texts(self, texts: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
        """ "noun_f1", "colour_f1", ... of the kinds in `FACTS`."""
        scores = score_texts(texts, [self.source.held_out_scene(sample.row) for sample in samples])
        return {f"{kind}_f1": scores[kind].f1 for kind in FACTS}
