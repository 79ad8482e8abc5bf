"""The words of several encoders for many images, each image described once by each: kept in JSON Lines files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from ..encoders.base import Encoder
from ..encoders.fingerprint import fingerprint
from ..progress import progress_bar

_BATCH = 32  # images


class DescriptionCache:
    """Hash of an image -> words of one encoder, in `folder/SPEC-FINGERPRINT.jsonl`.

    Lines are only ever added, and a line that a killed process left unfinished is passed over. The fingerprint is that
    of the encoder's weights and settings: words of others are not taken.
    """

    def __init__(self, folder: Path, spec: str, encoder: Encoder) -> None:
        name = re.sub(r"[^\w@.-]+", "_", spec)[-80:]
        self.path = folder / f"{name}-{fingerprint(encoder)}.jsonl"
        self.texts: dict[str, str] = {}
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n"):  # a cut may be within a character
                try:
                    row = json.loads(line)
                    self.texts[row["image"]] = row["text"]
                except (ValueError, KeyError, TypeError):  # the unfinished line
                    continue

    def add(self, texts: Mapping[str, str]) -> None:
        """Keep the words of further images."""
        self.texts |= texts
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"image": key, "text": text}, ensure_ascii=False) for key, text in texts.items())
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + "\n".join(lines) + "\n")  # first ends an unfinished line


def describe_all(
    number: int, image: Callable[[int], Image], encoders: Mapping[str, Encoder], cache: Path | None = None
) -> dict[str, list[str]]:
    """Spec -> words of images 0 to `number` - 1, in order. image: called once for each number.

    All encoders describe the same batch in turn, so that towers they share may run once. cache: a folder of files that
    are read and added to.
    """
    caches = {spec: DescriptionCache(cache, spec, encoder) for spec, encoder in encoders.items()} if cache else {}
    words: dict[str, list[str]] = {spec: [] for spec in encoders}
    with progress_bar("images") as bar:
        task = bar.add_task("describing", total=number, note="")
        for start in range(0, number, _BATCH):
            images = [image(i) for i in range(start, min(start + _BATCH, number))]
            keys = [image_key(one) for one in images]
            for spec, encoder in encoders.items():
                words[spec] += described(keys, images, encoder, caches.get(spec))
            bar.update(task, advance=len(images))
    return words


def described(
    keys: Sequence[str], images: Sequence[Image], encoder: Encoder, cache: DescriptionCache | None
) -> list[str]:
    known = cache.texts if cache else {}
    new = [i for i, key in enumerate(keys) if key not in known]
    if new:
        batch = images if len(new) == len(images) else [images[i] for i in new]
        texts = {keys[i]: one.text for i, one in zip(new, encoder.describe(batch), strict=True)}
        if cache:
            cache.add(texts)
        known = known | texts
    return [known[key] for key in keys]


def image_key(image: Image) -> str:
    """The same for images with the same pixels, whatever their file format."""
    return hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()
