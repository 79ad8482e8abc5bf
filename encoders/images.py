"""Images come from strangers: whatever names or holds an image becomes RGB pixels, or one clear error.

Pillow's global settings (`MAX_IMAGE_PIXELS`, `LOAD_TRUNCATED_IMAGES`, warning filters) are never touched.
"""

from __future__ import annotations

import base64
import glob
import io
import math
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import ExifTags, Image, ImageFile

from ..errors import InputError

ImageSource = str | Path | bytes | Image.Image

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")  # Pillow's names; nothing else is ever opened

# What strangers send most often in place of an image that can be read, by its first bytes.
_FOREIGN = {
    "HEIC": rb"....ftyp(hei|hev|hem)",
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "MP4 video": rb"....ftyp",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "Photoshop": rb"8BPS",
    "ICO": rb"\x00\x00[\x01\x02]\x00",
    "SVG": rb"\s*(<\?xml.*)?<svg",
    "HTML": rb"\s*<(!doctype )?html",
}

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what turns the stored picture upright

_caller_images = threading.Lock()  # a lazy Pillow image that occurs twice in a batch must not be read by two threads


class ImageError(InputError):
    """An image cannot be used: missing, damaged, over a limit, or in a format that is not read."""


@dataclass(frozen=True)
class ImageLimits:
    """How much one image may ask for.

    max_pixels: width x height, checked in the header before anything is decoded.
    max_bytes: size of the file, of the decoded data URL or of the download.
    timeout_seconds: for each wait on the network, and for the whole body of a download.
    max_redirects: that a download may follow.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 2**20
    timeout_seconds: float = 20.0
    max_redirects: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 and not (field.name == "max_redirects" and value == 0):
                raise InputError(f"image limit {field.name} is {value}; it must be greater than 0")


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class LoadedImage:
    """One image of a batch: either `image` (RGB) or `error` is set; `name` is the source, shortened for display."""

    name: str
    image: Image.Image | None
    error: str | None


def load_image(
    source: ImageSource,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: bool = False,
    size_hint: int | None = None,
) -> Image.Image:
    """Load one image as 8-bit RGB of its own size: upright by its EXIF orientation, transparency laid on white.

    source: a path, the bytes of an image file, a Pillow image (left as it is; an animated one at its current frame),
    a data URL, or an http(s) URL where `allow_network`. Of animated and many-page files the first frame is taken.
    Grey of 16 bits is scaled by 65535; of 32 bits and float by the first full scale that fits (float 1, 255, 65535),
    or from its least to its greatest value where none does.
    size_hint: the side in pixels that the image will be resized to. Lets large JPEG files be decoded at 1/2, 1/4 or
    1/8 size, never below twice the hint, so that the resized image hardly changes; other formats ignore it.
    Raises `ImageError` for anything that is not a whole image within `limits`; nothing else.
    """
    try:
        if isinstance(source, Image.Image):
            _check_size(source.size, limits)
            with _caller_images:
                return _to_rgb(source)
        with _open(_read(source, limits, allow_network)) as image:
            _check_size(image.size, limits)
            if size_hint is not None:
                image.draft(None, (2 * size_hint, 2 * size_hint))
            return _to_rgb(image)
    except ImageError as error:
        raise ImageError(f"{display_name(source)}: {error}") from error.__cause__
    except Image.DecompressionBombError as error:
        raise ImageError(f"{display_name(source)}: more pixels than Pillow decodes safely ({error})") from error
    except Exception as error:  # damaged data raises almost anything in Pillow's decoders, from KeyError to MemoryError
        raise ImageError(
            f"{display_name(source)}: the image data is damaged or cut short ({_reason(error)}); save or copy it again"
        ) from error


def load_images(
    sources: Iterable[ImageSource],
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: bool = False,
    size_hint: int | None = None,
    workers: int | None = None,
    ahead: int = 16,
) -> Iterator[LoadedImage]:
    """Load images in order, decoding at most `ahead` of them in `workers` threads before they are asked for.

    A bad image becomes a `LoadedImage` with its error and never loses the others. The threads end when the iterator
    is exhausted or closed. `workers` is by default the number of cores, at most 4. Other arguments: `load_image`.
    """
    if ahead < 1 or (workers is not None and workers < 1):
        raise InputError(f"got workers={workers}, ahead={ahead}; both must be at least 1")

    def load(source: ImageSource) -> LoadedImage:
        try:
            image = load_image(source, limits=limits, allow_network=allow_network, size_hint=size_hint)
        except ImageError as error:
            return LoadedImage(display_name(source), None, str(error))
        return LoadedImage(display_name(source), image, None)

    return _run_ahead(load, sources, workers or min(4, os.cpu_count() or 1), ahead)


def expand_images(patterns: Sequence[str]) -> list[str]:
    """Files, folders (their image files, sorted, not recursive), globs and URLs to one list of image names.

    What matches nothing stays as it is, so that its own error appears in the result of the batch.
    """
    return [name for pattern in patterns for name in _expand(pattern) or [pattern]]


def display_name(source: object) -> str:
    """What an image is called in results and errors; data URLs are cut to their header."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"<image {source.width}x{source.height} {source.mode}>"
    if isinstance(source, bytes):
        return f"<{len(source):,} bytes>"
    if not isinstance(source, str | Path):
        return f"<{type(source).__name__}>"
    name = str(source)
    if _scheme(name) == "data":
        return f"{name.partition(',')[0][:100]},…"
    return name if len(name) <= 1024 else f"{name[:1023]}…"


def _run_ahead(
    load: Callable[[ImageSource], LoadedImage], sources: Iterable[ImageSource], workers: int, ahead: int
) -> Iterator[LoadedImage]:
    pending: deque[Future[LoadedImage]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="textlens-images")
    try:
        for source in sources:
            pending.append(pool.submit(load, source))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _expand(pattern: str) -> list[str]:
    if _scheme(pattern) or os.path.isfile(pattern):  # a file first: its name may hold the signs of a glob
        return [pattern]
    if os.path.isdir(pattern):
        return [str(path) for path in sorted(Path(pattern).iterdir()) if _is_image_file(path)]
    if "\0" in pattern or not glob.has_magic(pattern):
        return []
    return sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))


def _is_image_file(path: Path) -> bool:
    return (
        Image.registered_extensions().get(path.suffix.lower()) in FORMATS
        and not path.name.startswith(".")
        and path.is_file()
    )


def _scheme(name: str) -> str | None:
    """The URL scheme in lower case; None for a path ("C:\\x.png" is one)."""
    match = re.match(r"(data):|([a-z][a-z0-9+.-]*)://|(file):", name, re.IGNORECASE)
    return match and next(group for group in match.groups() if group).lower()


def _read(source: object, limits: ImageLimits, allow_network: bool) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif not isinstance(source, str | Path):
        raise ImageError(f"expected a path, bytes, a Pillow image or a URL, got {type(source).__name__}")
    elif isinstance(source, Path) or (scheme := _scheme(source)) is None:
        data = _read_file(os.fspath(source), limits)
    elif scheme == "data":
        data = _read_data_url(source, limits)
    elif scheme in ("http", "https"):
        if not allow_network:
            raise ImageError("images are not fetched from the network unless it is allowed (allow_network=True)")
        data = _download(source, limits)
    elif scheme == "file":
        raise ImageError("file:// URLs are refused; give the path itself")
    else:
        raise ImageError(f"{scheme}:// URLs are not read; give a path, a data URL or an http(s) URL")
    _check_bytes(len(data), limits)
    if not data:
        raise ImageError("the file is empty (zero-sized: 0 bytes)")
    return data


def _read_file(path: str, limits: ImageLimits) -> bytes:
    if not path:
        raise ImageError("an empty string is no path; give a path, a data URL or an http(s) URL")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a directory; name the image files in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device can block, or never end
            raise ImageError("is not a regular file (a pipe, a socket or a device)")
        _check_bytes(status.st_size, limits)
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"the file cannot be read ({_reason(error)})") from error


def _read_data_url(url: str, limits: ImageLimits) -> bytes:
    header, comma, body = url.partition(",")
    if not comma:
        raise ImageError("not a data URL: expected data:[<type>][;base64],<data>")
    is_base64 = header.lower().rstrip().endswith(";base64")
    data = unquote_to_bytes(body)
    if not is_base64:
        return data
    data = b"".join(data.split()).rstrip(b"=")
    _check_bytes(len(data) * 3 // 4, limits)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError as error:
        raise ImageError(f"the data URL is not valid base64 ({error})") from error


def _download(url: str, limits: ImageLimits) -> bytes:
    import httpx

    end = time.monotonic() + limits.timeout_seconds
    data = bytearray()
    # Raw bytes of an uncompressed transfer: a compressed one could grow past every limit in a single step.
    client = httpx.Client(
        headers={"Accept-Encoding": "identity", "User-Agent": "textlens"},
        follow_redirects=True,
        max_redirects=limits.max_redirects,
        timeout=limits.timeout_seconds,
    )
    try:
        with client, client.stream("GET", url) as response:
            response.raise_for_status()
            for chunk in response.iter_raw():
                data += chunk
                _check_bytes(len(data), limits)
                if time.monotonic() > end:  # httpx's own time-out starts anew with every chunk
                    raise ImageError(f"the download took longer than {limits.timeout_seconds:g} seconds")
    except ImageError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ImageError(f"cannot be fetched ({_reason(error)})") from error
    return bytes(data)


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header only. `Image.open` would do, but warns above a global pixel count, which is ours to check."""
    Image.init()
    prefix = data[:16]
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(prefix)
        if isinstance(accepted, str):  # Pillow was built without this format
            raise ImageError(accepted)
        if accepted:
            try:
                return factory(io.BytesIO(data), "")
            except SyntaxError as error:
                raise ImageError(
                    f"starts like {name}, but its header is damaged, cut short or zero-sized ({_reason(error)})"
                ) from error
    readable = f"expected one of {', '.join(FORMATS)}"
    for name, pattern in _FOREIGN.items():
        if re.match(pattern, data[:1024], re.IGNORECASE | re.DOTALL):
            raise ImageError(f"{name} is an unsupported format; {readable}")
    raise ImageError(f"not an image, or of an unsupported format; {readable}")


def _check_bytes(size: int, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            f"over the limit of {limits.max_bytes:,} bytes; use a smaller file or raise ImageLimits.max_bytes"
        )


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
    image.load()
    rgb = _flatten(image)
    method = _TRANSPOSE.get(_orientation(image))
    if method is not None:
        rgb = rgb.transpose(method)
    rgb.info = {}  # the orientation in it has been applied and must not be a second time
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data says nothing about the picture itself
        return 1


def _flatten(image: Image.Image) -> Image.Image:
    """To a new RGB image of 8 bits, transparency laid on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow converts premultiplied grey to nothing but LA
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Deep grey (16 or 32 bits, float) to L by the full scale of its values; Pillow's own conversion clips at 255."""
    deep = image.convert("F")
    low, high = (float(value) for value in deep.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError("holds values that are not finite numbers")
    scales = {"I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}.get(image.mode, (65535.0,))
    fitting = [scale for scale in scales if low >= 0 and high <= scale]
    black, white = (0.0, fitting[0]) if fitting else (low, high)
    factor = 255 / (white - black) if white > black else 0.0
    grey = deep.point(lambda value: value * factor + (0.5 - black * factor)).convert("L")  # 0.5: "L" cuts, we round
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode.startswith("I;16"):
        is_transparent = [255 * (value == key) for value in range(65536)]
        grey.paste(255, mask=image.convert("I").point(is_transparent, "L"))
    return grey


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
