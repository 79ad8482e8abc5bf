"""Images kept in memory under ids, so that a language model can name them without any path."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image

from ...encoders.images import DEFAULT_LIMITS, ImageLimits, ImageSource, load_image
from ...errors import InputError


class ImageStore:
    """id -> RGB image; safe for threads.

    prefix: of the ids that are made here, "image-1", "image-2", …
    capacity: images that are kept, the ones added first forgotten first; None keeps all.
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
        """Keep an image; returns its id. Arguments: `load_image`. For callers one trusts: any path is read.

        Raises `ImageError` for what is no image, `InputError` for an id that is taken.
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
        """The image of an id; None where there is none."""
        with self._lock:
            kept = self._images.get(id)
        return None if kept is None else load_image(kept, limits=self._limits)

    def remove(self, id: str) -> None:
        """Forget an image; nothing happens where there is none."""
        with self._lock:
            self._images.pop(id, None)

    @property
    def ids(self) -> list[str]:
        with self._lock:
            return list(self._images)

    def _next_id(self) -> str:
        """One that no image has or, made here, ever had: an old answer must not come to speak of a new image."""
        while True:
            self._made += 1
            if (name := f"{self._prefix}-{self._made}") not in self._images:
                return name


def _encoded(source: ImageSource) -> bytes | None:
    """The bytes of an image file, a tenth of its pixels' size or less; None for what is no file."""
    if isinstance(source, bytes):
        return source
    path = Path(source) if isinstance(source, str | Path) else None
    return path.read_bytes() if path is not None and path.is_file() else None
