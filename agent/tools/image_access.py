"""Which images a tool opens when a language model names them: by an id, by a path below allowed folders, as data URLs.

What a language model writes may come from anybody whose text it has read. So a name never leads anywhere but to an
image that was put into the store, to a file whose true place is below an allowed folder, or to pixels that the name
itself holds. Nothing is ever fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from ...encoders.images import DEFAULT_LIMITS, ImageError, ImageLimits, display_name, expand_images, load_image
from ...errors import InputError
from .image_store import ImageStore

_ADDRESS = re.compile(r"\s*(file:|[a-z][a-z0-9+.-]*:/)", re.IGNORECASE)
_MOST_NAMES = 20  # listed in an error
_DRAWN_KEPT = 32


class ImageAccess:
    """`open(reference)` for references from a language model.

    roots: folders whose images may be opened, those in their subfolders too, by their path below the folder; where
    several have the same path, the first. store: images by id. data_urls: whether "data:…" is taken.
    limits: of each image. drawn: what the tools drew, kept as "drawn-1", "drawn-2", …
    """

    def __init__(
        self,
        roots: Sequence[str | Path] = (),
        store: ImageStore | None = None,
        *,
        data_urls: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> None:
        if isinstance(roots, str | Path):
            raise InputError(f"roots is a list of folders; got {str(roots)!r} alone")
        self.roots = tuple(Path(root).resolve() for root in roots)
        for root in self.roots:
            if not root.is_dir():
                raise InputError(f"no folder {root} to take images from; make it, or name another")
        self.store = store if store is not None else ImageStore()
        self.drawn = ImageStore("drawn", capacity=_DRAWN_KEPT)
        self.data_urls, self.limits = data_urls, limits

    def open(self, reference: str) -> Image.Image:
        """The image as RGB. Raises `ImageError`, in words for a language model: no path of this machine is in them."""
        for store in (self.store, self.drawn):
            if (image := store.get(reference)) is not None:
                return image
        if reference[:5].lower() == "data:":
            if not self.data_urls:
                raise ImageError(f"{display_name(reference)}: data URLs are refused; {self._expected()}")
            return load_image(reference, limits=self.limits)
        path = self._path(reference)
        try:
            return load_image(path, limits=self.limits)  # a Path, which is never taken for an address
        except ImageError as error:
            reason = str(error).removeprefix(f"{display_name(path)}: ")
            raise ImageError(f"{display_name(reference)}: {reason}") from error

    def names(self) -> list[str]:
        """What can be opened by name: the ids, and the images that lie directly in the roots."""
        files = [Path(name).name for root in self.roots for name in expand_images([str(root)]) if name != str(root)]
        return list(dict.fromkeys([*self.store.ids, *self.drawn.ids, *files]))

    def _path(self, reference: str) -> Path:
        """The true path of an existing file below a root."""
        self._check_relative(reference)
        for root in self.roots:
            try:
                path = (root / reference).resolve()  # all symbolic links followed
                exists = os.path.exists(path)
            except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character, a name too long
                raise self._refused(reference, "is no usable path") from error
            if not path.is_relative_to(root):  # whether it exists is nobody's business
                raise self._refused(reference, "leads out of the allowed folders")
            if exists:
                return path
        raise self._refused(reference, "there is no such image")

    def _check_relative(self, reference: str) -> None:
        """By the rules of both kinds of paths, whatever system this is: a name may be checked here and used there."""
        kinds = (PurePosixPath(reference), PureWindowsPath(reference))
        if any(kind.anchor for kind in kinds):
            raise self._refused(reference, "absolute paths are refused")
        if _ADDRESS.match(reference):
            raise self._refused(reference, "addresses are refused, and nothing is fetched from the network")
        if any(".." in kind.parts for kind in kinds):
            raise self._refused(reference, "paths with .. are refused")
        if not reference.strip(" ./\\"):
            raise self._refused(reference, "names no image")

    def _refused(self, reference: str, reason: str) -> ImageError:
        return ImageError(f"{display_name(reference) or 'an empty name'}: {reason}; {self._expected()}")

    def _expected(self) -> str:
        names = self.names()
        listed = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        kinds = ["an image's id"]
        kinds += ["a path below the allowed folders"] * bool(self.roots) + ["a data URL"] * self.data_urls
        return f"expected {' or '.join(kinds)}" + (f"; known images: {listed}" if names else "")
