"""What a frozen tower gives for every image or caption of a source, computed once and kept on disk.

A frozen tower says the same in every epoch, and is far dearer than the head that is trained on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from open_clip.transform import AugmentationCfg, image_transform_v2
from torch import Tensor

from ..encoders.clip.clip import Clip
from ..encoders.clip.open_clip_files import preprocess_of
from ..encoders.clip.space import space_name
from ..encoders.saved_models import write_text
from ..errors import InputError
from ..progress import progress_bar
from .data.base import DataSource, UnreadableItemError
from .data.mapped_array import new_array
from .data.pixels import image_of
from .engine.randomness import sample_seed
from .locked_towers import Frozen

_BATCH = 64
_CHECKED = 4  # rows of a cache that is found again
_TOLERANCE = 0.05  # of the rows' norm: fp16, bf16 and another machine's kernels differ by less, other weights by more


class FeatureRows:
    """Rows of fp16 in a file that is made once: whole or not at all, by one process while others wait.

    encode: numbers of rows -> (B, ...) of a frozen model. fingerprint: names the file, so it must say what the rows
    are; when a file is found again a few of its rows are checked, and it is made again if they differ.
    Raises `InputError` where the disk has no room.
    """

    def __init__(
        self, size: int, encode: Callable[[Sequence[int]], Tensor], fingerprint: str, folder: Path, title: str
    ) -> None:
        self.path = folder / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.npy"
        self._size, self._encode, self._title = size, encode, title
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if not self._found():
                self._write()
        self._rows = np.load(self.path, mmap_mode="r")

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """(B, ...) float32."""
        return torch.from_numpy(self._rows[np.asarray(rows, dtype=np.int64)].astype(np.float32))

    def _found(self) -> bool:
        try:
            self._rows = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return False
        if len(self._rows) != self._size:
            return False
        spread = sorted({(self._size - 1) * part // (_CHECKED - 1) for part in range(_CHECKED)})
        expected = self._encode(spread).float().cpu()
        return float((self[spread] - expected).norm()) <= _TOLERANCE * float(expected.norm())

    def _write(self) -> None:
        shape = (self._size, *self._encode([0]).shape[1:])
        needed, free = 2 * math.prod(shape), shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise InputError(
                f"the features of {self._size} rows take {needed / 1e9:.1f} GB, but {self.path.parent} has "
                f"{free / 1e9:.1f} GB left; make room, or ask for fewer views"
            )
        with new_array(self.path, shape) as kept, progress_bar(self._title) as bar:
            task = bar.add_task(f"encoding {self._title}", total=self._size, note="")
            for start in range(0, self._size, _BATCH):
                rows = range(start, min(start + _BATCH, self._size))
                kept[start : rows.stop] = self._encode(rows).float().cpu().numpy()
                bar.update(task, advance=len(rows))


class ImageFeatures:
    """Features of every item of a finite source, in several views: the first is what `Clip.pixels` sees, the others are
    random crops (`source.crop_scale`), every second one mirrored.

    frozen: takes pixels (B, 3, H, W). Unreadable items have rows of zeros and go into `source.unreadable`.
    """

    def __init__(self, source: DataSource, clip: Clip, frozen: Frozen, views: int, folder: Path) -> None:
        if source.size is None:
            raise InputError("features can be kept of a fixed number of images alone; this source has no end")
        self.source, self.clip, self.views = source, clip, views
        self._forward = frozen.encode
        preprocess = preprocess_of(clip.model)
        augmentation = AugmentationCfg(scale=source.crop_scale or (1.0, 1.0))
        self._crop = image_transform_v2(preprocess, is_train=True, aug_cfg=augmentation)
        about = [source.identity, source.size, views, source.crop_scale, asdict(preprocess), _digest(frozen)]
        self._rows = FeatureRows(source.size * views, self._encode, json.dumps(about), folder, "images")
        listed = self._rows.path.with_suffix(".unreadable.json")
        if not listed.exists():
            write_text(json.dumps(source.unreadable), listed)
        source.unreadable |= {int(row): reason for row, reason in json.loads(listed.read_text("utf-8")).items()}

    def __call__(self, rows: Sequence[int], views: Sequence[int]) -> Tensor:
        """Features (B, ...) float32 of these items in these views."""
        return self._rows[[row * self.views + view for row, view in zip(rows, views, strict=True)]]

    @torch.no_grad()
    def _encode(self, numbers: Sequence[int]) -> Tensor:
        found = [self._pixels(*divmod(number, self.views)) for number in numbers]
        blank = torch.zeros(3, *self.clip.image_size)
        features = self._forward(torch.stack([blank if one is None else one for one in found]).to(self.clip.device))
        features[[place for place, one in enumerate(found) if one is None]] = 0
        return features

    def _pixels(self, row: int, view: int) -> Tensor | None:
        """(3, H, W) of one item; None if it cannot be read."""
        try:
            image = image_of(self.source.read(row, row, 0))
        except UnreadableItemError as error:
            self.source.unreadable[row] = str(error)
            self.source.check_unreadable(len(self.source.unreadable), list(self.source.unreadable.values()))
            return None
        if not view:
            return self.clip.pixels([image], device="cpu")[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_seed(0, row, view))
            pixels: Tensor = self._crop(image)
        return pixels.flip(-1) if view % 2 else pixels


class TextFeatures:
    """Features of distinct texts, as `clip` tokenises them. frozen: takes ids (B, L)."""

    def __init__(self, texts: Iterable[str], clip: Clip, frozen: Frozen, folder: Path) -> None:
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # of one length together: less padding
        self._place = {text: number for number, text in enumerate(distinct)}

        @torch.no_grad()
        def encode(numbers: Sequence[int]) -> Tensor:
            return frozen.encode(clip.tokenize([distinct[number] for number in numbers]).to(clip.device))

        named = hashlib.sha256("\n".join(distinct).encode("utf-8", "surrogatepass")).hexdigest()
        about = json.dumps([named, space_name(clip), clip.weights_from, _digest(frozen)])
        self._rows = FeatureRows(len(distinct), encode, about, folder, "captions")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features (B, D) float32 of texts that were there from the start."""
        return self._rows[[self._place[text] for text in texts]]


def _digest(frozen: Frozen) -> str:
    digest = hashlib.sha256(frozen.kind.encode())
    for name, weight in sorted(frozen.part.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
