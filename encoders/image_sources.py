"""Where images come from: paths, globs, data URLs and http(s), read to bytes within limits."""

from __future__ import annotations

import base64
import os
import re
import stat
import time
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image

from ..errors import InputError

ImageSource = str | Path | bytes | Image.Image


class ImageError(InputError):
    """An image cannot be used: missing, damaged, over a limit, or of an unsupported format."""


@dataclass(frozen=True)
class ImageLimits:
    """How much one image may ask for."""

    max_pixels: int = 64_000_000  # width x height, checked in the header before decoding
    max_bytes: int = 256 * 2**20  # of the file, the decoded data URL or the download
    timeout_seconds: float = 20.0  # of each wait on the network, and of a whole download
    max_redirects: int = 5  # of a download

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 and not (field.name == "max_redirects" and value == 0):
                raise InputError(f"image limit {field.name} is {value}; it must be greater than 0")


DEFAULT_LIMITS = ImageLimits()


def display_name(source: object) -> str:
    """The name of an image in results and errors; data URLs are cut to their header."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"<image {source.width}x{source.height} {source.mode}>"
    if isinstance(source, bytes):
        return f"<{len(source):,} bytes>"
    if not isinstance(source, str | Path):
        return f"<{type(source).__name__}>"
    name = str(source)
    if url_scheme(name) == "data":
        return f"{name.partition(',')[0][:100]},…"
    return name if len(name) <= 1024 else f"{name[:1023]}…"


def url_scheme(name: str) -> str | None:
    """The URL scheme in lower case; None for a path ("C:\\x.png" is one)."""
    match = re.match(r"(data):|([a-z][a-z0-9+.-]*)://|(file):", name, re.IGNORECASE)
    return match and next(group for group in match.groups() if group).lower()


def read_source(source: object, limits: ImageLimits, allow_network: bool) -> bytes:
    """The bytes of a path, bytes, a data URL, or an http(s) URL if `allow_network`. Raises `ImageError`."""
    if isinstance(source, bytes):
        data = source
    elif not isinstance(source, str | Path):
        raise ImageError(f"expected a path, bytes, a Pillow image or a URL, got {type(source).__name__}")
    elif isinstance(source, Path) or (scheme := url_scheme(source)) is None:
        data = _read_file(os.fspath(source), limits)
    elif scheme == "data":
        data = _read_data_url(source, limits)
    elif scheme in ("http", "https"):
        if not allow_network:
            raise ImageError("images are fetched from the network only with allow_network=True")
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
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"the file cannot be read ({reason(error)})") from error


def _read_data_url(url: str, limits: ImageLimits) -> bytes:
    header, comma, body = url.partition(",")
    if not comma:
        raise ImageError("not a data URL: expected data:[<type>][;base64],<data>")
    data = unquote_to_bytes(body)
    if not header.lower().rstrip().endswith(";base64"):
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
    client = httpx.Client(
        headers={"Accept-Encoding": "identity", "User-Agent": "textlens"},  # compressed data could exceed every limit
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
                if time.monotonic() > end:  # httpx's timeout restarts with each chunk
                    raise ImageError(f"the download took longer than {limits.timeout_seconds:g} seconds")
    except ImageError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ImageError(f"cannot be fetched ({reason(error)})") from error
    return bytes(data)


def _check_bytes(size: int, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            f"over the limit of {limits.max_bytes:,} bytes; use a smaller file or raise ImageLimits.max_bytes"
        )


def reason(error: BaseException) -> str:
    """An error's message, short and on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
