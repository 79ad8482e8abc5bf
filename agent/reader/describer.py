"""Images to the words of several encoders, each image described once: the words are kept by the image's content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from ...encoders.base import Description, Encoder
from ...encoders.images import ImageLimits, ImageSource, LoadedImage, load_images
from ...encoders.pipeline import describe_stream
from ...errors import InputError
from ...prompting.templates import Context, context_label


@dataclass(frozen=True)
class Described:
    """One image in words: `descriptions`, one per encoder in their order, or `error`."""

    name: str
    descriptions: tuple[Description, ...]
    error: str | None = None

    def context(self, specs: Sequence[str]) -> tuple[Context, ...]:
        """The words as a prompt holds them. With several encoders each is labelled by its kind."""
        several = len(specs) > 1
        return tuple(
            Context(description.text, context_label(spec) if several else "")
            for spec, description in zip(specs, self.descriptions, strict=True)
        )


class Describer:
    """`describe(images)` by all of `encoders` (spec -> encoder).

    cache_size: images whose words are kept, the ones used longest ago forgotten first. Other arguments:
    `describe_stream`.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        *,
        batch_size: int = 32,
        cache_size: int = 4096,
        limits: ImageLimits | None = None,
        allow_network: bool = False,
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

    @property
    def specs(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def describe(self, images: Sequence[ImageSource]) -> list[Described]:
        """The words for each image, in order. A bad image has its error and loses no other."""
        loading = load_images(images, limits=self._limits, allow_network=self._allow_network, ahead=self.batch_size)
        return list(self._batches(loading))

    def _batches(self, loading: Iterator[LoadedImage]) -> Iterator[Described]:
        while batch := list(islice(loading, self.batch_size)):
            keys = [_content(one.image) if one.image else "" for one in batch]
            known = {key: self._cache[key] for key in keys if key in self._cache}
            new = {key: one.image for key, one in zip(keys, batch, strict=True) if one.image and key not in known}
            errors = self._describe_new(new, known)
            for key, one in zip(keys, batch, strict=True):
                error = one.error or errors.get(key)
                yield Described(one.name, () if error else known[key], error)
            for key in keys:
                if key in known:
                    self._keep(key, known[key])

    def _describe_new(
        self, images: Mapping[str, Image.Image], known: dict[str, tuple[Description, ...]]
    ) -> dict[str, str]:
        """Put the words of `images` (content -> image) into `known`; returned are the errors of the others."""
        rows = describe_stream(list(images.values()), self.encoders, batch_size=self.batch_size) if images else iter(())
        errors: dict[str, str] = {}
        for key in images:
            results = list(islice(rows, len(self.encoders)))
            wrong = [row.error for row in results if row.error]
            if wrong:
                errors[key] = "; ".join(wrong)
            else:
                known[key] = tuple(row.description for row in results if row.description)
        return errors

    def _keep(self, key: str, descriptions: tuple[Description, ...]) -> None:
        self._cache[key] = descriptions
        self._cache.move_to_end(key)
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)


def _content(image: Image.Image) -> str:
    """The same for images of the same pixels, whatever file or format they came from."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
