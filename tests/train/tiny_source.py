"""A source like real data, in memory: pictures of several sizes, several captions each, some of them unreadable."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from textlens.train.data.base import DataSource, Sample, UnreadableItemError
from textlens.train.data.order import epoch_position

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200), "black": (0, 0, 0)}


@dataclass(frozen=True)
class TinyData:
    """Settings of `TinySource`: `size` training items, of which `bad` cannot be read, and 12 held out."""

    size: int = 40
    bad: Sequence[int] = ()
    max_bad: float = 0.01
    crop_scale: tuple[float, float] | None = None
    source: str = "tiny"

    def open(self, *, image_size: int = 0, texts: bool = True) -> TinySource:
        return TinySource(self)


class TinySource(DataSource):
    def __init__(self, data: TinyData) -> None:
        super().__init__()
        self.size, self.max_bad, self.crop_scale, self.bad = data.size, data.max_bad, data.crop_scale, data.bad
        self.identity = f"tiny {data}"

    def row(self, index: int, seed: int) -> int:
        return epoch_position(index, self.size, seed)

    def read(self, row: int, index: int, seed: int, *, image: bool = True) -> Sample:
        if row in self.bad:
            raise UnreadableItemError(f"tiny/{row:03d}.png: damaged")
        return self._sample(row, random.Random(f"{seed}/{index}"), image)

    def held_out(self, number: int) -> list[Sample]:
        return [self._sample(1000 + row, random.Random(row), True) for row in range(min(number, 12))]

    def captions(self) -> Iterator[str]:
        for row in range(self.size):
            yield from self._texts(row)

    def _texts(self, row: int) -> tuple[str, ...]:
        colour = tuple(COLOURS)[row % 4]
        return (f"a {colour} picture number {row}", f"{colour} number {row}", f"this is {colour}, number {row}")

    def _sample(self, row: int, rng: random.Random, image: bool) -> Sample:
        texts = self._texts(row)
        shown = None
        if image:
            noise = np.random.default_rng(row).integers(0, 40, (40 + row % 7, 50 + row % 11, 3))
            shown = Image.fromarray((noise + np.array(COLOURS[tuple(COLOURS)[row % 4]])).clip(0, 255).astype(np.uint8))
        return Sample(f"tiny/{row:03d}.png", row, shown, rng.choice(texts), texts)
