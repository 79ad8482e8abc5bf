"""Images in memory by id, so that a language model can name them without paths."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image

from ...encoders.images import DEFAULT_LIMITS, ImageLimits, ImageSource, load_image
from ...errors import InputError


class ImageStore:
    """id -> RGB image; thread-safe.

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

    def add(self, source: ImageSource, id: str | None = None, *, allow_network: bool = False) -> str:
        """Add an image and return its id. For trusted callers: any path is read. Arguments: `load_image`.

        Raises `ImageError` if it is not an image, `InputError` if the id is taken.
        """
        image = load_image(source, limits=self._limits, allow_network=allow_network)
        kept = _encoded(source) or image
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
        return None if kept is None else load_image(kept, limits=self._limits)

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


def _encoded(source: ImageSource) -> bytes | None:
    """The bytes of an image file, about a tenth of its pixels' size; None if it is not a file."""
    if isinstance(source, bytes):
        return source
    path = Path(source) if isinstance(source, str | Path) else None
    return path.read_bytes() if path is not None and path.is_file() else None
