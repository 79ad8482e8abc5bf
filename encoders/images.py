"""Safe image loading: any source -> 8-bit RGB pixels, or one clear error. For training and for describing.

Pillow's global settings (`MAX_IMAGE_PIXELS`, `LOAD_TRUNCATED_IMAGES`, warning filters) are never touched.
"""

from __future__ import annotations

import glob
import io
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image, ImageFile, ImageOps

from ..errors import InputError
from .image_sources import (
    DEFAULT_LIMITS,
    ImageError,
    ImageLimits,
    ImageSource,
    display_name,
    read_source,
    reason,
    url_scheme,
)
from .png_chunks import without_long_texts
from .signatures import formats, heif_kind, is_picture, unsupported_kind

Source = TypeVar("Source")
Loaded = TypeVar("Loaded")

_pillow_images = threading.Lock()  # two threads must not load one lazy Pillow image at once


@dataclass(frozen=True)
class LoadedImage:
    """One image of a batch; either `image` or `error` is set."""

    name: str  # `display_name` of the source
    image: Image.Image | None  # RGB
    error: str | None


def load_image(
    source: ImageSource, *, limits: ImageLimits = DEFAULT_LIMITS, allow_network: bool = False
) -> Image.Image:
    """Load one image as 8-bit RGB at its own size: EXIF orientation applied, transparency on white.

    source: a path, the bytes of a file, a Pillow image (left unchanged, its current frame), a data URL, or an http(s)
    URL if `allow_network`. All of them give the same pixels. Of animations and many-page files the first frame is
    taken. 16-bit grey is divided by 257; 32-bit and float grey by the first full scale that fits (float 1, 255, 65535),
    else it is stretched from its least to its greatest value.
    Raises `ImageError` for anything but a whole image within `limits`; nothing else.
    """
    try:
        if isinstance(source, Image.Image):
            _check_size(source.size, limits)
            with _pillow_images:
                return _to_rgb(source)
        with open_image(read_source(source, limits, allow_network)) as image:
            _check_size(image.size, limits)
            return _to_rgb(image)
    except ImageError as error:
        raise ImageError(f"{display_name(source)}: {error}") from error.__cause__
    except Image.DecompressionBombError as error:
        raise ImageError(f"{display_name(source)}: more pixels than Pillow decodes safely ({error})") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data, from KeyError to MemoryError
        raise ImageError(
            f"{display_name(source)}: the image data is damaged or cut short ({reason(error)}); save or copy it again"
        ) from error


def load_images(
    sources: Iterable[ImageSource],
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: bool = False,
    workers: int | None = None,
    ahead: int = 16,
) -> Iterator[LoadedImage]:
    """Load images in order, at most `ahead` of the consumer, in `workers` threads (by default the cores, at most 4).

    A bad image becomes a `LoadedImage` with its error. The threads end when the iterator is exhausted or closed. Other
    arguments: see `load_image`.
    """
    if ahead < 1 or (workers is not None and workers < 1):
        raise InputError(f"got workers={workers}, ahead={ahead}; both must be at least 1")

    def load(source: ImageSource) -> LoadedImage:
        try:
            image = load_image(source, limits=limits, allow_network=allow_network)
        except ImageError as error:
            return LoadedImage(display_name(source), None, str(error))
        return LoadedImage(display_name(source), image, None)

    return run_ahead(load, sources, workers=workers, ahead=ahead)


def expand_images(patterns: Sequence[str], *, recursive: bool = False) -> list[str]:
    """Files, folders (their pictures, sorted), globs and URLs -> image names.

    recursive: the pictures of a folder's subfolders too. Pictures of formats that are not read are among them, and a
    pattern without a match is kept, so that the batch reports their errors.
    """
    return [name for pattern in patterns for name in _expand(pattern, recursive) or [pattern]]


def folders_inside(patterns: Sequence[str]) -> list[str]:
    """The subfolders, with pictures in them, of those patterns that are folders."""
    folders = [Path(pattern) for pattern in patterns if not url_scheme(pattern) and os.path.isdir(pattern)]
    inside = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir() and _is_shown(path)]
    return [str(path) for path in inside if next(_pictures(path, recursive=True), None)]


def _expand(pattern: str, recursive: bool) -> list[str]:
    if url_scheme(pattern) or os.path.isfile(pattern):  # a file's name may look like a glob
        return [pattern]
    if os.path.isdir(pattern):
        return list(_pictures(Path(pattern), recursive=recursive))
    if "\0" in pattern or not glob.has_magic(pattern):
        return []
    return sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))


def _pictures(folder: Path, *, recursive: bool) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if not _is_shown(path):
            continue
        if path.is_file() and is_picture(path):
            yield str(path)
        elif recursive and path.is_dir() and not path.is_symlink():  # a link may lead back to where we are
            yield from _pictures(path, recursive=True)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def run_ahead(
    load: Callable[[Source], Loaded], sources: Iterable[Source], *, workers: int | None = None, ahead: int = 16
) -> Generator[Loaded]:
    """`load` of each source, in order, in threads; see `load_images`."""
    pending: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="textlens-images")
    try:
        for source in sources:
            pending.append(pool.submit(load, source))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
