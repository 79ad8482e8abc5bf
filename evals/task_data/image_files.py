"""Images by name: in a folder, a tar file, or a data source."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from PIL.Image import Image

from ...encoders.images import load_image
from ...errors import InputError
from ...train.data.base import Sample
from ...train.data.pixels import image_of

_SHOWN = 5  # names in an error


class Images(Protocol):
    """Where a task's images are."""

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not there."""
        ...

    def read(self, name: str) -> Image:
        """The image as RGB. Raises `ImageError` for one that cannot be read."""
        ...


def check(images: Images, names: Sequence[str]) -> None:
    """Raises `InputError` that names images which are not there."""
    if missing := images.missing(list(dict.fromkeys(names))):
        raise InputError(f"{images} lacks {len(missing)} images: {', '.join(missing[:_SHOWN])}")


class ImageFiles:
    """Images in a folder, or in a tar file, which may be compressed."""

    def __init__(self, place: Path) -> None:
        self.place, self._tar, self._lock = place, None, Lock()
        if place.is_dir():
            return
        try:
            self._tar = tarfile.open(place)  # noqa: SIM115  open as long as this object
            self._members = {member.name.removeprefix("./"): member for member in self._tar if member.isfile()}
        except (OSError, tarfile.TarError, EOFError) as error:
            raise InputError(f"{place} is no folder and no tar file of images ({error})") from error

    def __str__(self) -> str:
        return str(self.place)

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not self._has(name)]

    def read(self, name: str) -> Image:
        if self._tar is None:
            return load_image(self.place / name)
        with self._lock:  # a tar file has one position
            file = self._tar.extractfile(self._members[name])
            data = (file or io.BytesIO()).read()
        return load_image(data)

    def _has(self, name: str) -> bool:
        return name in self._members if self._tar else (self.place / name).is_file()


class SampleImages:
    """Images of a data source's samples, by their keys."""

    def __init__(self, samples: Sequence[Sample], name: str) -> None:
        self.samples, self.name = {sample.key: sample for sample in samples}, name

    def __str__(self) -> str:
        return self.name

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.samples]

    def read(self, name: str) -> Image:
        return image_of(self.samples[name])


class SeveralImages:
    """Images of several places; a name is looked for in each in turn."""

    def __init__(self, *places: Images) -> None:
        self.places = places

    def __str__(self) -> str:
        return " or ".join(map(str, self.places))

    def missing(self, names: Sequence[str]) -> list[str]:
        left = list(names)
        for place in self.places:
            left = place.missing(left)
        return left

    def read(self, name: str) -> Image:
        for place in self.places:
            if not place.missing([name]):
                return place.read(name)
        raise InputError(f"{self} lacks the image {name}")
