"""The full circle: image -> words -> an image drawn from the words alone, side by side in one picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...errors import InputError
from ..base import Encoder
from ..image_sources import Network, url_scheme
from ..images import expand_images, load_image
from ..signatures import has_image_suffix
from .comparison import comparison

if TYPE_CHECKING:
    from .redrawer import Redrawer  # takes seconds to import


@dataclass(frozen=True)
class Recreation:
    """An image, its words, and the image drawn from them."""

    image: Image.Image | None  # None if the words were given
    text: str
    drawn: Image.Image
    original: str | None = None  # the words before they were upsampled, where they were

    @property
    def picture(self) -> Image.Image:
        """Image, words (before and after upsampling) and redrawn image side by side."""
        return comparison(self.image, self.text, self.drawn, original=self.original)


def recreate(
    source: Image.Image | str,
    redrawer: Redrawer,
    encoder: Encoder | None = None,
    *,
    rewrite: Callable[[str], str] | None = None,
    **settings: Any,
) -> Recreation:
    """Draw words (a str), or the words that `encoder` writes for an image; `settings` go to `Redrawer.draw`.

    rewrite: what makes of the words those to draw, such as prompt upsampling.
    """
    if isinstance(source, str):
        image, text = None, source
    elif encoder is None:
        raise InputError("an image was given, but no encoder to describe it; name one, such as 'coca'")
    else:
        image, text = source, encoder.describe([source])[0].text
    drawn_text = rewrite(text) if rewrite else text
    drawn = redrawer.draw([drawn_text], **settings)[0]
    return Recreation(image, drawn_text, drawn, text if rewrite else None)


def image_or_text(argument: str, *, allow_network: Network = False) -> Image.Image | str:
    """The image that `argument` names (a file, a glob of one file, a data URL, http(s) if allowed), else the text.

    Raises `InputError` for unreadable or several images, for a folder, and for a missing file with an image suffix.
    """
    names = expand_images([argument])
    if os.path.isdir(argument) or len(names) > 1:
        raise InputError(f"{argument!r} names a folder or several images; expected one image, or a text")
    if os.path.exists(names[0]) or url_scheme(argument):
        return load_image(names[0], allow_network=allow_network)
    if has_image_suffix(Path(argument)):
        raise InputError(f"no such image: {argument}; check the path, or leave out the ending to have a text drawn")
    return argument


def check_output(path: Path, source: str = "") -> None:
    """Raise `InputError` unless an image can be saved at `path`; called before minutes of work.

    source: the input, which must not be overwritten.
    """
    if path.is_file() and os.path.isfile(source) and path.samefile(source):
        raise InputError(f"{path} is the image to describe; expected another file to write")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the file to write, such as {path / 'out.png'}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path} has no ending of an image file that can be written; expected one such as .png")
