"""Describes images by several encoders, each image once: descriptions are cached by the image's pixels."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from ...encoders.base import Description, Encoder
from ...encoders.image_sources import ImageLimits, ImageSource, Network
from ...encoders.images import LoadedImage, batches, load_images
from ...encoders.pipeline import describe_batch
from ...errors import InputError
from ...prompting.templates import Context, context_label


@dataclass(frozen=True)
class Described:
    """One image in words: `descriptions`, one per encoder in order, or `error`."""

    name: str
    descriptions: tuple[Description, ...]
    error: str | None = None

    def context(self, specs: Sequence[str]) -> tuple[Context, ...]:
        """The descriptions as a prompt holds them, labelled by encoder if there are several."""
        several = len(specs) > 1
        return tuple(
            Context(description.text, context_label(spec) if several else "")
            for spec, description in zip(specs, self.descriptions, strict=True)
        )


class Describer:
    """`describe(images)` by all `encoders` (spec -> encoder); thread-safe. Others: `pipeline.describe_stream`."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        *,
        batch_size: int = 32,
        cache_size: int = 4096,  # images; the least recently used is evicted
        limits: ImageLimits | None = None,
        allow_network: Network = False,
    ) -> None:
        if not encoders:
            raise InputError("no encoder was given; name at least one, such as 'coca'")
        if batch_size < 1 or cache_size < 0:
            raise InputError(
                f"got batch_size={batch_size}, cache_size={cache_size}; expected at least 1 and at least 0"
            )
        self.encoders, self.batch_size, self.cache_size = dict(encoders), batch_size, cache_size
        self._limits, self._allow_network = limits or ImageLimits(), allow_network
        self._cache: OrderedDict[str, tuple[Description, ...]] = OrderedDict()
        self._lock = Lock()

    @property
    def specs(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def describe(self, images: Sequence[ImageSource]) -> list[Described]:
        """The descriptions of each image, in order. A bad image has its error and loses no other."""
        with self._lock:
            return self._describe(images)

    def _describe(self, images: Sequence[ImageSource]) -> list[Described]:
        loading = load_images(images, limits=self._limits, allow_network=self._allow_network, ahead=self.batch_size)
        described: list[Described] = []
        for batch in batches(loading, self.batch_size):
            described += self._describe_batch(batch)
        return described

    def _describe_batch(self, batch: list[LoadedImage]) -> Iterator[Described]:
        keys = [_key(one.image) if one.image else "" for one in batch]
        known = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: one for key, one in zip(keys, batch, strict=True) if one.image and key not in known}
        errors: dict[str, str] = {}
        columns = [describe_batch(list(new.values()), spec, encoder) for spec, encoder in self.encoders.items()]
        for key, *results in zip(new, *columns, strict=True):
            if messages := [row.error for row in results if row.error]:
                errors[key] = "; ".join(messages)
            else:
                known[key] = tuple(row.description for row in results if row.description)
        for key, one in zip(keys, batch, strict=True):
            if key in known:
                self._keep(key, known[key])
            error = one.error or errors.get(key)
            yield Described(one.name, () if error else known[key], error)

    def _keep(self, key: str, descriptions: tuple[Description, ...]) -> None:
        self._cache[key] = descriptions
        self._cache.move_to_end(key)
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)


def _key(image: Image.Image) -> str:
    """The same for images with the same pixels, whatever their file format."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
