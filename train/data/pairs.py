"""Image-text pairs to train on: the made world, or any image-text data set that Hugging Face `datasets` reads.

A source answers for sample numbers, not for batches, so that what a sample is does not depend on how a run is split.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import InputError
from ...scenes.captions import STYLES, captions
from ...scenes.rendering import render
from ...scenes.scene import scene_at, vary_scene
from ..engine.randomness import sample_rng

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Pair:
    """One image with one text. `style` names the kind of text ("descriptive", ...); "" where a source has no styles."""

    image: Image
    text: str
    style: str = ""


class PairSource(Protocol):
    """Where pairs come from."""

    def pair(self, index: int, seed: int) -> Pair:
        """Sample number `index`, which may exceed the size of the data, of the run with this seed: always the same."""
        ...


@dataclass(frozen=True)
class ScenePairs:
    """Fresh scenes without end, with a caption of a style drawn with the given weights.

    curriculum: {most objects: sample number until which no scene has more}; {} shows 1-4 objects from the start.
    one_object: share of scenes that show a single object, beside the quarter that does by chance.
    near_duplicates: so many samples in a row show one scene, all but the first varied: a contrastive loss tells them
    apart only by looking closely. 1 for none.
    """

    styles: Mapping[str, float]
    split: str = "train"
    size: int = 64
    curriculum: Mapping[int, int] = field(default_factory=dict)
    one_object: float = 0.0
    near_duplicates: int = 1

    def __post_init__(self) -> None:
        if self.near_duplicates < 1:
            raise InputError(f"near_duplicates is {self.near_duplicates}; expected at least 1, which means none")
        unknown = sorted(set(self.styles) - set(STYLES))
        if unknown or sum(self.styles.values()) <= 0:
            raise InputError(
                f"caption styles {unknown or dict(self.styles)}; expected positive weights of {', '.join(STYLES)}"
            )

    def pair(self, index: int, seed: int) -> Pair:
        from PIL import Image

        first = index - index % self.near_duplicates
        rng = sample_rng(seed, first)
        limits = [objects for objects, until in self.curriculum.items() if first < until]
        if self.one_object and rng.random() < self.one_object:
            limits.append(1)
        scene = scene_at(first, self.split, seed, rng.randint(1, min(limits)) if limits else None)
        if index > first:
            rng = sample_rng(seed, index)
            scene = vary_scene(scene, rng, self.split)
        style = rng.choices(tuple(self.styles), tuple(self.styles.values()))[0]
        return Pair(Image.fromarray(render(scene, self.size)), captions(scene, style, rng), style)


@dataclass(frozen=True)
class DatasetPairs:
    """Pairs of a map-style `datasets.Dataset` with an image column and a text column, shuffled anew in each epoch."""

    dataset: Any
    image_column: str = "image"
    text_column: str = "text"

    def __post_init__(self) -> None:
        missing = {self.image_column, self.text_column} - set(self.dataset.column_names)
        if missing or not len(self.dataset):
            raise InputError(
                f"the data set has {len(self.dataset)} rows with {self.dataset.column_names}; expected some with "
                f"{self.image_column!r} and {self.text_column!r}: set image_column and text_column"
            )

    def pair(self, index: int, seed: int) -> Pair:
        epoch, position = divmod(index, len(self.dataset))
        row = self.dataset[_epoch_order(len(self.dataset), seed, epoch)[position]]
        text = row[self.text_column]
        if isinstance(text, list):  # several captions of one image
            text = sample_rng(seed, index).choice(text)
        return Pair(row[self.image_column].convert("RGB"), text)


@lru_cache(maxsize=2)
def _epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed}/{epoch}").sample(range(rows), rows)


def load_pairs(source: str, image_column: str = "image", text_column: str = "text") -> PairSource:
    """The data set of a spec: a folder that `datasets.save_to_disk` wrote, or "builder:path", such as
    "imagefolder:photos/" or "webdataset:shards/*.tar" (columns as that builder names them), or a data set's hub id.
    """
    from datasets import load_dataset, load_from_disk

    builder, _, path = source.partition(":")
    try:
        if Path(source).is_dir():
            dataset = load_from_disk(source)
        elif path and builder == "imagefolder":
            dataset = load_dataset(builder, data_dir=path, split="train")
        elif path:
            dataset = load_dataset(builder, data_files=path, split="train")
        else:
            dataset = load_dataset(source, split="train")
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        raise InputError(
            f"cannot read image-text pairs from {source!r}: {error}; expected scenes, a saved data set's folder, "
            "builder:path, or a hub id"
        ) from error
    return DatasetPairs(dataset, image_column, text_column)
