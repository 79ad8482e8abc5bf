"""What a frozen model makes of a source's images, kept on disk: encoding costs more than a training step."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn

from ...errors import InputError
from ...progress import progress_bar
from .base import DataSource, UnreadableItemError
from .mapped_array import new_array
from .pixels import image_of, pixels

_SAME = 0.05  # of the norm: fp16, bf16 and another machine's kernels differ by less; other images by far more
_CHECKED = 4  # rows of a cache that is found again
_BATCH = 64


@torch.no_grad()
def encode(vae: Any, images: Tensor) -> Tensor:
    """images (B, 3, H, W) in [-1, 1], by an `AutoencoderKL` -> (B, C, h, w) float32: the mean times the scaling factor,
    of about unit variance."""
    mean = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mean
    return mean.float() * vae.config["scaling_factor"]


class ImageCache:
    """`encode` of the images of all items of a finite source, as fp16 in a memory-mapped file of `folder`.

    encode: RGB images of any size and their rows -> (B, ...), by `model`. The file is named after the model's weights,
    `settings` (what else `encode` depends on) and `source.identity`, and made once: whole or not at all, by one process
    while others wait. A few rows of a file that is found are checked, and it is made again if they differ. Unreadable
    items go into `source.unreadable` and a JSON file beside the array; delete both files to try them again.
    """

    def __init__(
        self,
        source: DataSource,
        encode: Callable[[Sequence[Image.Image], Sequence[int]], Tensor],
        model: nn.Module,
        folder: Path,
        settings: Sequence[Any] = (),
    ) -> None:
        if source.size is None:
            raise InputError("latents can be kept of a fixed number of items alone; this source has no end")
        self.source, self.encode, self.size = source, encode, source.size
        self.path = folder / f"{self._fingerprint(model, settings)}.npy"
        self._list = self.path.with_suffix(".unreadable.json")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")), _on_accelerator(model), torch.no_grad():
            if not self._load():
                self._write()
        self._rows = np.load(self.path, mmap_mode="r")
        source.unreadable |= {int(row): reason for row, reason in json.loads(self._list.read_text("utf-8")).items()}

    def latents(self, rows: Sequence[int]) -> Tensor:
        """(B, ...) float32 of these items."""
        return torch.from_numpy(self._rows[np.asarray(rows, dtype=np.int64)].astype(np.float32))

    def _load(self) -> bool:
        """Whether the files are there, whole, and hold what this model makes of these items."""
        try:
            self._rows = np.load(self.path, mmap_mode="r")
            unreadable = json.loads(self._list.read_text("utf-8"))
        except (OSError, ValueError, EOFError):
            return False
        if len(self._rows) != self.size:
            return False
        spread = sorted({(self.size - 1) * part // (_CHECKED - 1) for part in range(_CHECKED)})
        rows, expected = self._encoded([row for row in spread if str(row) not in unreadable], {})
        return float((self.latents(rows) - expected).norm()) <= _SAME * float(expected.norm())

    def _write(self) -> None:
        unreadable: dict[int, str] = {}
        shape = (self.size, *self._latent_shape())
        self._check_space(2 * math.prod(shape))
        with new_array(self.path, shape) as kept, progress_bar("images") as bar:
            task = bar.add_task("encoding images", total=self.size, note="")
            for start in range(0, self.size, _BATCH):
                rows, latents = self._encoded(range(start, min(start + _BATCH, self.size)), unreadable)
                kept[rows] = latents.numpy()
                self.source.check_unreadable(len(unreadable), list(unreadable.values()))
                bar.update(task, advance=_BATCH)
            self._list.write_text(json.dumps(unreadable, indent=1) + "\n", encoding="utf-8")

    def _encoded(self, rows: Sequence[int], unreadable: dict[int, str]) -> tuple[list[int], Tensor]:
        """The rows that can be read, and what `encode` makes of them; the others are added to `unreadable`."""
        images = {}
        for row in rows:
            try:
                images[row] = image_of(self.source.read(row, row, 0))
            except UnreadableItemError as error:
                unreadable[row] = str(error)
        if not images:
            return [], torch.empty(0, *self._latent_shape())
        return list(images), self.encode(list(images.values()), list(images)).float().cpu()

    def _latent_shape(self) -> torch.Size:
        return self.encode([Image.new("RGB", (64, 64))], [0]).shape[1:]

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise InputError(
                f"the latents of {self.size} items take {needed / 1e9:.1f} GB, but {self.path.parent} has "
                f"{free / 1e9:.1f} GB left; make room, or set cache_latents to false"
            )

    def _fingerprint(self, model: nn.Module, settings: Sequence[Any]) -> str:
        """16 hexadecimal digits of the model and the items."""
        return weights_digest(model, json.dumps([self.source.identity, self.size, *settings]))[:16]


class LatentCache(ImageCache):
    """Latents (C, h, w) by an autoencoder. Images are encoded as `pixels` cuts them, without random crops."""

    def __init__(self, source: DataSource, vae: Any, image_size: int, folder: Path) -> None:
        settings = [image_size, vae.config["scaling_factor"]]
        super().__init__(source, lambda images, _: encode(vae, pixels(images, image_size)), vae, folder, settings)


def weights_digest(model: nn.Module, about: str) -> str:
    """64 hexadecimal digits of a text and all weights."""
    digest = hashlib.sha256(about.encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _on_accelerator(module: nn.Module) -> Iterator[None]:
    """On this process's GPU if there is one; back where it was afterwards."""
    before = next(module.parameters()).device
    if torch.cuda.is_available():
        module.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
    yield
    module.to(before)
