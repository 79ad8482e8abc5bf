"""Images in memory by id, so that a language model can name them without paths."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from PIL import Image

from ...encoders.image_sources import DEFAULT_LIMITS, ImageLimits, ImageSource, Network, read_source
from ...encoders.images import decoded, load_image, named_errors
from ...encoders.loading.pixel_decoding import copied
from ...errors import InputError


class ImageStore:
    """id -> RGB image; thread-safe. Images may come from anybody: they are decoded as untrusted ones.

    prefix: of generated ids, "image-1", "image-2", … capacity: images kept, the oldest dropped first; None keeps all.
    """

    def __init__(
        self, prefix: str = "image", *, capacity: int | None = None, limits: ImageLimits = DEFAULT_LIMITS
    ) -> None:
        if capacity is not None and capacity < 1:
            raise InputError(f"capacity is {capacity}; expected 1 or more, or None for no limit")
        self._prefix, self._capacity, self._limits = prefix, capacity, limits
        self._images: OrderedDict[str, bytes | Image.Image] = OrderedDict()
        self._made, self._lock = 0, Lock()

    def add(self, source: ImageSource, id: str | None = None, *, allow_network: Network = False) -> str:
        """Add an image and return its id. For trusted callers: any path is read. Arguments: `load_image`.

        Raises `ImageError` if it is not an image, `InputError` if the id is taken.
        """
        kept: bytes | Image.Image
        with named_errors(source):
            if isinstance(source, Image.Image):
                kept = copied(source, self._limits)
            else:  # the bytes of the file, about a tenth of its pixels' size
                kept = read_source(source, self._limits, allow_network)
                decoded(kept, self._limits, trusted=False)
        with self._lock:
            if id in self._images:
                raise InputError(f"there is an image {id!r} already; take another id, or remove that one first")
            name = id if id is not None else self._next_id()
            self._images[name] = kept
            if self._capacity is not None and len(self._images) > self._capacity:
                self._images.popitem(last=False)
        return name

    def get(self, id: str) -> Image.Image | None:
        """The image of an id; None if there is none."""
        with self._lock:
            kept = self._images.get(id)
        return None if kept is None else load_image(kept, limits=self._limits, trusted=False)

    def remove(self, id: str) -> None:
        """Remove an image, if it is there."""
        with self._lock:
            self._images.pop(id, None)

    @property
    def ids(self) -> list[str]:
        with self._lock:
            return list(self._images)

    def _next_id(self) -> str:
        """A new id, never used before: old answers must not refer to a new image."""
        while True:
            self._made += 1
            if (name := f"{self._prefix}-{self._made}") not in self._images:
                return name
