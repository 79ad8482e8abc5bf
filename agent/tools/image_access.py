"""Opens images that a language model names: by id, by path below allowed folders, or as data URLs.

Its names are untrusted: they may come from any text it has read. A name opens an image of the store, a file whose
resolved path is below an allowed folder, or a data URL, and nothing else. Nothing is fetched from the network.
Images are opened through no link and decoded as untrusted ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from ...encoders.image_sources import DEFAULT_LIMITS, ImageError, ImageLimits, display_name
from ...encoders.images import decoded, expand_images, load_image, named_errors
from ...encoders.loading.opened_files import read_below
from ...errors import InputError
from ...prompting.sanitize import clean
from .image_store import ImageStore

_ADDRESS = re.compile(r"\s*(file:|[a-z][a-z0-9+.-]*:/)", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "<": ">"}
_MAX_NAMES = 20  # listed in an error
_MAX_DRAWN = 32  # drawings kept


class ImageAccess:
    """`open(reference)` for references from a language model.

    roots: folders whose images, subfolders included, may be opened by their relative path; the first match counts.
    store: images by id. data_urls: whether they are allowed. drawn: the tools' drawings, "drawn-1", "drawn-2", …
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
        self.store = store if store is not None else ImageStore(limits=limits)
        self.drawn = ImageStore("drawn", capacity=_MAX_DRAWN)
        self.data_urls, self.limits = data_urls, limits

    def open(self, reference: str) -> Image.Image:
        """The image as RGB. Raises `ImageError`, written for the language model, without paths of this machine.

        Names as messages show them, in quotes, in blanks or after file:// are forgiven, where no image is called so.
        """
        try:
            return self._open(reference)
        except ImageError:
            plain = next((name for name in self.names() if clean(name) == clean(reference)), _plain(reference))
            if plain == reference or not self.allows(plain):
                raise
            return self._open(plain)

    def _open(self, reference: str) -> Image.Image:
        for store in (self.store, self.drawn):
            if (image := store.get(reference)) is not None:
                return image
        if reference[:5].lower() == "data:":
            if not self.data_urls:
                raise ImageError(f"{display_name(reference)}: data URLs are refused; {self._expected()}")
            return load_image(reference, limits=self.limits, trusted=False)
        root, path = self._path(reference)
        with named_errors(reference):
            return decoded(read_below(root, path, self.limits), self.limits, trusted=False)

    def names(self) -> list[str]:
        """Names that can be opened: the ids, and the images directly in the roots."""
        files = [Path(name).name for root in self.roots for name in expand_images([str(root)]) if name != str(root)]
        return list(dict.fromkeys([*self.store.ids, *self.drawn.ids, *files]))

    def allows(self, name: str) -> bool:
        """Whether a name is an id, leads to an existing file below a root, or is a data URL where those are allowed."""
        if name in self.store.ids or name in self.drawn.ids:
            return True
        if name[:5].lower() == "data:":
            return self.data_urls
        try:
            self._path(name)
        except ImageError:
            return False
        return True

    def _path(self, reference: str) -> tuple[Path, Path]:
        """A root, and the resolved path of an existing file below it."""
        self._check_relative(reference)
        for root in self.roots:
            try:
                path = (root / reference).resolve()  # follows all symbolic links
                exists = os.path.exists(path)
            except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character, a name too long
                raise self._refused(reference, "is no usable path") from error
            if not path.is_relative_to(root):  # checked first: does not reveal whether the file exists
                raise self._refused(reference, "leads out of the allowed folders")
            if exists:
                return root, path
        raise self._refused(reference, "there is no such image")

    def _check_relative(self, reference: str) -> None:
        """By the path rules of POSIX and Windows, whatever system this is."""
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
        listed = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        kinds = ["an image's id"]
        kinds += ["a path below the allowed folders"] * bool(self.roots) + ["a data URL"] * self.data_urls
        return f"expected {' or '.join(kinds)}" + (f"; known images: {listed}" if names else "")


def _plain(reference: str) -> str:
    """A name without the blanks, the quotes and the file:// that language models put around it."""
    name = reference.strip()
    while len(name) > 1 and name[-1] == _QUOTES.get(name[0]):
        name = name[1:-1].strip()
    return re.sub(r"\Afile:(//)?(?=[^/])", "", name, flags=re.IGNORECASE)
