"""What a frozen tower gives for every image or caption of a source, computed once and kept on disk.

A frozen tower says the same in every epoch, and is far dearer than the head that is trained on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from open_clip.transform import AugmentationCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor

from ..encoders.clip.clip import Clip
from ..encoders.clip.open_clip_files import preprocess_of
from ..encoders.clip.space import space_name
from .data.base import DataSource
from .data.latents import ImageCache, weights_digest
from .data.text_embeddings import cached_embeddings
from .engine.randomness import sample_seed
from .locked_towers import Frozen


class ImageFeatures:
    """Features of every item of a finite source, in several views: the first is what `Clip.pixels` sees, the others are
    random crops (`source.crop_scale`), every second one mirrored. Each view has a file of its own (`ImageCache`).

    frozen: takes pixels (B, 3, H, W) of `clip`.
    """

    def __init__(self, source: DataSource, clip: Clip, frozen: Frozen, views: int, folder: Path) -> None:
        preprocess = preprocess_of(clip.model)
        crop = image_transform_v2(
            preprocess, is_train=True, aug_cfg=AugmentationCfg(scale=source.crop_scale or (1.0, 1.0))
        )

        def encode(images: Sequence[Image], rows: Sequence[int], view: int) -> Tensor:
            pixels = _augmented(images, rows, view, crop) if view else clip.pixels(images)
            return frozen.encode(pixels.to(next(frozen.part.parameters()).device))

        self._views = []
        for view in range(views):
            about = [frozen.kind, asdict(preprocess), *([view, source.crop_scale] if view else [])]
            self._views.append(ImageCache(source, partial(encode, view=view), frozen.part, folder, about))

    def __call__(self, rows: Sequence[int], views: Sequence[int] | None = None) -> Tensor:
        """Features (B, ...) float32 of these items in these views, by default the first."""
        features = self._views[0].latents(rows)
        for view in set(views or ()) - {0}:
            places = [place for place, one in enumerate(views or ()) if one == view]
            features[places] = self._views[view].latents([rows[place] for place in places])
        return features


def _augmented(images: Sequence[Image], rows: Sequence[int], view: int, crop: Callable[[Image], Tensor]) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        found = []
        for image, row in zip(images, rows, strict=True):
            torch.manual_seed(sample_seed(0, row, view))
            found.append(crop(image))
    pixels = torch.stack(found)
    return pixels.flip(-1) if view % 2 else pixels


class TextFeatures:
    """Features of distinct texts, as `clip` tokenises them, in a file that is made once. frozen: takes ids (B, L)."""

    def __init__(self, texts: Iterable[str], clip: Clip, frozen: Frozen, folder: Path) -> None:
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # of one length together: less padding
        self._place = {text: number for number, text in enumerate(distinct)}
        self._rows = cached_embeddings(distinct, _FrozenTexts(clip, frozen), folder)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features (B, D) float32 of texts that were there from the start."""
        return torch.from_numpy(self._rows[[self._place[text] for text in texts]].astype(np.float32))


class _FrozenTexts:
    """What a frozen text tower gives, as a space of its own."""

    def __init__(self, clip: Clip, frozen: Frozen) -> None:
        self._clip, self._frozen = clip, frozen
        self.embed_dim = self.embed_texts(["a"]).shape[1]
        self.name = (
            f"{space_name(clip)} {sorted(clip.weights_from.values())} {weights_digest(frozen.part, frozen.kind)}"
        )

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self._frozen.encode(self._clip.tokenize(texts).to(self._clip.device)).float()
