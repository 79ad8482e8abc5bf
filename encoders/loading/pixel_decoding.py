"""The bytes of an image file -> 8-bit RGB pixels.

Pillow's global settings (`MAX_IMAGE_PIXELS`, `LOAD_TRUNCATED_IMAGES`, warning filters) are never touched.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, ImageFile, ImageOps

from ...errors import reason
from ..png_chunks import without_long_texts
from ..signatures import formats, heif_kind, unsupported_kind
from .limits import ImageError, ImageLimits

Reserve = Callable[[int], None]
"""Called with the number of pixels before they are decoded; may wait until there is room for them."""

_pillow_images = threading.Lock()  # two threads must not load one lazy Pillow image at once


def decode(data: bytes, limits: ImageLimits, reserve: Reserve | None = None) -> Image.Image:
    """The pixels of an image file. Raises `ImageError`."""
    if not data:
        raise ImageError("the file is empty (zero-sized: 0 bytes)")
    with decoding_errors(), open_image(data) as image:
        _check_size(image.size, limits)
        if reserve:
            reserve(image.width * image.height)
        return _to_rgb(image)


def copied(image: Image.Image, limits: ImageLimits, reserve: Reserve | None = None) -> Image.Image:
    """The pixels of a Pillow image, which stays as it is. Raises `ImageError`."""
    with decoding_errors():
        _check_size(image.size, limits)
        if reserve:
            reserve(image.width * image.height)
        with _pillow_images:
            return _to_rgb(image)


@contextmanager
def decoding_errors() -> Iterator[None]:
    """Whatever Pillow raises becomes an `ImageError`; for damaged data that is almost anything."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"more pixels than Pillow decodes safely ({error})") from error
    except MemoryError as error:
        raise ImageError("there is not enough memory to decode it; shrink the image") from error
    except Exception as error:
        raise ImageError(f"the image data is damaged or cut short ({reason(error)}); save or copy it again") from error


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Read the header of an image file of one of `formats()`; the size is the caller's to check.

    Not `Image.open(formats=...)`: it warns above 89 million pixels and fails above 179 million, before a caller can
    check the size, and nothing but process-wide settings turns that off.
    """
    Image.init()
    data, prefix, readable = without_long_texts(data), data[:16], f"expected one of {', '.join(formats())}"
    heif = heif_kind(data)
    if heif and "HEIF" not in formats():
        raise ImageError(f"{heif} is an unsupported format; {readable}; pip install 'textlens[heif]' reads it")
    for name in ("HEIF",) if heif else formats():  # Pillow's AVIF takes some of them for its own
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(prefix)
        if isinstance(accepted, str):  # this Pillow was built without the format
            raise ImageError(accepted)
        if accepted:
            try:
                return factory(io.BytesIO(data), "")
            except SyntaxError as error:
                raise ImageError(
                    f"starts like {name}, but its header is damaged, cut short or zero-sized ({reason(error)})"
                ) from error
    if kind := unsupported_kind(data):
        raise ImageError(f"{kind} is an unsupported format; {readable}")
    raise ImageError(f"not an image, or of an unsupported format; {readable}")


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if min(size) <= 0:
        raise ImageError(f"the image is zero-sized ({width} x {height} pixels)")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{width} x {height} = {width * height:,} pixels, over the limit of {limits.max_pixels:,}; "
            "shrink the image or raise ImageLimits.max_pixels"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """A new upright RGB image without metadata."""
    image.load()
    rgb = _flatten(image)
    rgb.info = {}
    try:
        rgb.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data says nothing about the pixels
        return rgb
    ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def _flatten(image: Image.Image) -> Image.Image:
    """To 8-bit RGB, transparency on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow converts premultiplied grey to LA alone
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Deep grey (16 or 32 bits, float) to L, by the full scale of its values; `convert("L")` would clip at 255."""
    deep = image.convert("F")
    low, high = (float(value) for value in deep.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError("holds values that are not finite numbers")
    scales = {"I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}.get(image.mode, (65535.0,))
    fitting = [scale for scale in scales if low >= 0 and high <= scale]
    black, white = (0.0, fitting[0]) if fitting else (low, high)
    factor = 255 / (white - black) if white > black else 0.0
    grey = deep.point(lambda value: value * factor + (0.5 - black * factor)).convert("L")  # + 0.5: convert truncates
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode.startswith("I;16"):
        is_transparent = [255 * (value == key) for value in range(65536)]
        grey.paste(255, mask=image.convert("I").point(is_transparent, "L"))
    return grey
