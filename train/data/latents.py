"""Latents of a source's images, encoded once and kept on disk: encoding costs more than a step of a small U-Net."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ...errors import InputError
from ...progress import progress_bar
from .base import DataSource, UnreadableItemError
from .mapped_array import new_array
from .pixels import image_of, pixels

_SAME_LATENT = 0.02  # fp16 and another machine's kernels differ by less; other images and autoencoders by far more
_CHECKED = 4  # rows of a cache that is found again
_BATCH = 64


@torch.no_grad()
def encode(vae: Any, images: Tensor) -> Tensor:
    """images (B, 3, H, W) in [-1, 1], by an `AutoencoderKL` -> (B, C, h, w) float32: the mean times the scaling factor,
    of about unit variance."""
    mean = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mean
    return mean.float() * vae.config["scaling_factor"]


class LatentCache:
    """Latents of all items of a finite source, as fp16 in a memory-mapped file of `folder`.

    The file is named after the autoencoder's weights and `source.identity`, and made once: whole or not at all, by one
    process while others wait. When it is found again a few rows are checked, and it is rebuilt if they differ.
    Images are encoded as `pixels` cuts them, without random crops. Unreadable items go into `source.unreadable` and a
    JSON file beside the latents; delete both files to try them again.
    """

    def __init__(self, source: DataSource, vae: Any, image_size: int, folder: Path) -> None:
        if source.size is None:
            raise InputError("latents can be kept of a fixed number of items alone; this source has no end")
        self.source, self.vae, self.image_size, self.size = source, vae, image_size, source.size
        self.path = folder / f"{self._fingerprint()}.npy"
        self._list = self.path.with_suffix(".unreadable.json")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")), _on_accelerator(vae):
            if not self._load():
                self._write()
        self._rows = np.load(self.path, mmap_mode="r")
        source.unreadable |= {int(row): reason for row, reason in json.loads(self._list.read_text("utf-8")).items()}

    def latents(self, rows: Sequence[int]) -> Tensor:
        """(B, C, h, w) float32 of these items."""
        return torch.from_numpy(self._rows[np.asarray(rows, dtype=np.int64)].astype(np.float32))

    def _load(self) -> bool:
        """Whether the files are there, whole, and hold this autoencoder's latents of these items."""
        try:
            self._rows = np.load(self.path, mmap_mode="r")
            unreadable = json.loads(self._list.read_text("utf-8"))
        except (OSError, ValueError, EOFError):
            return False
        if len(self._rows) != self.size:
            return False
        spread = sorted({(self.size - 1) * part // (_CHECKED - 1) for part in range(_CHECKED)})
        rows, expected = self._encoded([row for row in spread if str(row) not in unreadable], {})
        return torch.allclose(self.latents(rows), expected, rtol=0, atol=_SAME_LATENT)

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
        """The rows that can be read, and their latents (B, C, h, w); the others are added to `unreadable`."""
        images = {}
        for row in rows:
            try:
                images[row] = image_of(self.source.read(row, row, 0))
            except UnreadableItemError as error:
                unreadable[row] = str(error)
        if not images:
            return [], torch.empty(0, *self._latent_shape())
        return list(images), encode(self.vae, pixels(list(images.values()), self.image_size)).cpu()

    def _latent_shape(self) -> torch.Size:
        return encode(self.vae, torch.zeros(1, 3, self.image_size, self.image_size)).shape[1:]

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise InputError(
                f"the latents of {self.size} items take {needed / 1e9:.1f} GB, but {self.path.parent} has "
                f"{free / 1e9:.1f} GB left; make room, or set cache_latents to false"
            )

    def _fingerprint(self) -> str:
        """16 hexadecimal digits of the autoencoder and the items."""
        items = [self.source.identity, self.size, self.image_size, self.vae.config["scaling_factor"]]
        digest = hashlib.sha256(json.dumps(items).encode())
        for name, weight in sorted(self.vae.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@contextmanager
def _on_accelerator(module: Any) -> Iterator[None]:
    """On this process's GPU if there is one; back where it was afterwards."""
    before = module.device
    if torch.cuda.is_available():
        module.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
    yield
    module.to(before)
