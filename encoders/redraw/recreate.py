"""Around the whole circle: an image or words -> words -> an image drawn from the words alone, all in one picture."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...errors import InputError
from ..base import Encoder
from ..images import FORMATS, expand_images, load_image
from .comparison import comparison

if TYPE_CHECKING:
    from .redrawer import Redrawer  # whose import takes seconds: errors in what was asked for come before it

_URL = re.compile(r"(data|file):|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Recreation:
    """image: what was described; None where the words were given. drawn: what the words alone gave."""

    image: Image.Image | None
    text: str
    drawn: Image.Image

    @property
    def picture(self) -> Image.Image:
        """Image, words and redrawn image side by side."""
        return comparison(self.image, self.text, self.drawn)


def recreate(
    source: Image.Image | str, redrawer: Redrawer, encoder: Encoder | None = None, **settings: Any
) -> Recreation:
    """Redraw an image from the words of `encoder`, or words (a str) as they are; `settings` go to `Redrawer.draw`."""
    if isinstance(source, str):
        image, text = None, source
    elif encoder is None:
        raise InputError("an image was given, but no encoder to describe it; name one, such as 'coca'")
    else:
        image, text = source, encoder.describe([source])[0].text
    return Recreation(image, text, redrawer.draw([text], **settings)[0])


def image_or_text(argument: str, *, allow_network: bool = False) -> Image.Image | str:
    """The image that `argument` names (a file, a glob of one file, a data URL; http(s) where allowed), else itself.

    Raises `InputError` for an image that cannot be read, for several, for a folder, and for what ends like an image
    file but is none: it was hardly meant to be drawn.
    """
    names = expand_images([argument])
    if os.path.isdir(argument) or len(names) > 1:
        raise InputError(f"{argument!r} names a folder or several images; expected one image, or a text")
    if os.path.exists(names[0]) or _URL.match(argument):
        return load_image(names[0], allow_network=allow_network)
    if Image.registered_extensions().get(Path(argument).suffix.lower()) in FORMATS:
        raise InputError(f"no such image: {argument}; check the path, or leave out the ending to have a text drawn")
    return argument


def check_output(path: Path, source: str = "") -> None:
    """Raise `InputError` unless a picture could be saved at `path`, so that nobody finds out after minutes of work.

    source: what is read, and so not to be written over.
    """
    if path.is_file() and os.path.isfile(source) and path.samefile(source):
        raise InputError(f"{path} is the image to describe; expected another file to write")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the file to write, such as {path / 'out.png'}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path} has no ending of an image file that can be written; expected one such as .png")
