"""Latents to train a diffusion model on: of a fixed set of scenes made once and mapped, or of any images at once.

Encoding costs more than a training step of a small U-Net, so the scenes of a set come round again; their captions are
drawn anew each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import InputError
from ...progress import progress_bar
from ...scenes.captions import STYLES, captions
from ...scenes.rendering import render
from ...scenes.scene import MAX_OBJECTS, scene_at
from ...scenes.world import Scene
from ..engine.randomness import sample_rng
from .pixels import pixels

_OBJECTS = 1  # stream of random numbers
_SAME_LATENT = 0.02  # fp16 and another machine's kernels make less; another autoencoder or another drawing far more


@torch.no_grad()
def encode(vae: Any, images: Tensor) -> Tensor:
    """images (B, 3, H, W) in [-1, 1], by an `AutoencoderKL` -> (B, C, h, w) float32: the mean times the scaling factor,
    of variance 1 or so."""
    mean = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mean
    return mean.float() * vae.config["scaling_factor"]


@dataclass(frozen=True)
class SceneSet:
    """The scenes number 0 to `number` - 1 of a split, the same for every run; the run's seed draws order and captions.

    styles: caption styles, each with its weight. size: of the image in pixels. one_object: share of scenes that show
    one object, beside the quarter that does by chance.
    curriculum: {most objects: sample number until which no scene has more}; {} shows 1-4 objects from the start.
    """

    number: int
    styles: Mapping[str, float]
    split: str = "train"
    size: int = 64
    one_object: float = 0.0
    curriculum: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.styles) - set(STYLES))
        if unknown or sum(self.styles.values()) <= 0:
            raise InputError(
                f"caption styles {unknown or dict(self.styles)}; expected positive weights of {', '.join(STYLES)}"
            )
        if self.number < 1 or not 0 <= self.one_object <= 1:
            raise InputError(
                f"got {self.number} scenes, {self.one_object} of them with one object; expected at least 1, and a "
                "share from 0 to 1"
            )
        if any(not 1 <= most <= MAX_OBJECTS or not self._with_at_most(most).size for most in self.curriculum):
            raise InputError(
                f"the curriculum is {dict(self.curriculum)} over {self.number} scenes; expected numbers of objects "
                f"from 1 to {MAX_OBJECTS}, and more scenes"
            )

    def scene(self, row: int) -> Scene:
        """The scene number `row`."""
        return scene_at(row, self.split, num_objects=int(self._objects[row]))

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(render(self.scene(row), self.size))

    def row(self, index: int, seed: int) -> int:
        """Which scene sample number `index` of the run with this seed shows; each epoch has an order of its own."""
        limits = [most for most, until in self.curriculum.items() if index < until]
        if not limits:
            return _epoch_order(self.number, seed, index // self.number)[index % self.number]
        allowed = self._with_at_most(min(limits))
        return int(allowed[_epoch_order(len(allowed), seed, index // len(allowed))[index % len(allowed)]])

    def caption(self, row: int, index: int, seed: int) -> str:
        """A caption of scene number `row`, drawn for sample number `index`."""
        rng = sample_rng(seed, index)
        style = rng.choices(tuple(self.styles), tuple(self.styles.values()))[0]
        return captions(self.scene(row), style, rng)

    @cached_property
    def _objects(self) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        """(N,) how many objects each scene shows."""
        return np.array([self._draw_number(sample_rng(0, row, _OBJECTS)) for row in range(self.number)], np.int8)

    def _draw_number(self, rng: random.Random) -> int:
        return 1 if rng.random() < self.one_object else rng.randint(1, MAX_OBJECTS)

    def _with_at_most(self, objects: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.flatnonzero(self._objects <= objects)


class LatentScenes:
    """A `SceneSet` with its latents, kept as fp16 in a file of `folder` that is made if it is not there yet.

    The file's name follows from the autoencoder's weights and from which scenes there are; one that was made with
    another drawing of the scenes is made again.
    """

    def __init__(self, scenes: SceneSet, vae: Any, folder: Path) -> None:
        self.scenes = scenes
        self.path = folder / f"{_fingerprint(scenes, vae)}.npy"
        if not self._is_current(vae):
            self._write(vae)
        self._rows = np.load(self.path, mmap_mode="r")

    def latents(self, rows: Sequence[int]) -> Tensor:
        """(B, C, h, w) float32 of these scenes."""
        return torch.from_numpy(self._rows[np.asarray(rows, dtype=np.int64)].astype(np.float32))

    def _encoded(self, vae: Any, rows: Sequence[int]) -> Tensor:
        return encode(vae, pixels([self.scenes.image(row) for row in rows], self.scenes.size)).cpu()

    def _is_current(self, vae: Any) -> bool:
        if not self.path.exists():
            return False
        self._rows = np.load(self.path, mmap_mode="r")
        rows = range(min(4, self.scenes.number))
        return bool(torch.allclose(self.latents(rows), self._encoded(vae, rows), rtol=0, atol=_SAME_LATENT))

    def _write(self, vae: Any, batch_size: int = 64) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{os.getpid()}-{self.path.name}")  # several processes may be at it at once
        number = self.scenes.number
        shape = (number, *self._encoded(vae, [0]).shape[1:])
        kept = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        with progress_bar("scenes") as bar:
            task = bar.add_task("encoding scenes", total=number, note="")
            for start in range(0, number, batch_size):
                rows = range(start, min(start + batch_size, number))
                kept[start : rows.stop] = self._encoded(vae, rows).numpy()
                bar.update(task, advance=len(rows))
        kept.flush()
        os.replace(temporary, self.path)


def _fingerprint(scenes: SceneSet, vae: Any) -> str:
    """16 hexadecimal digits of the autoencoder, and of all that decides which scenes there are."""
    drawn: dict[str, Any] = {name: asdict(scenes)[name] for name in ("number", "split", "size", "one_object")}
    digest = hashlib.sha256(json.dumps([drawn, vae.config["scaling_factor"]]).encode())
    for name, weight in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def _epoch_order(number: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed}/{epoch}/{number}").sample(range(number), number)


class LatentCache:
    """Stand-in until the branch `t2i` brings its own: same signature, kept in memory."""

    def __init__(self, source: Any, vae: Any, image_size: int, folder: Path) -> None:
        images = [source.read(row, row, 0).image for row in range(source.size)]
        self._rows = encode(vae, pixels(images, image_size)).cpu()

    def latents(self, rows: Sequence[int]) -> Tensor:
        """(B, C, h, w) float32 of these items."""
        return self._rows[list(rows)]
