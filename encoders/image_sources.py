"""Where images come from: paths, globs, data URLs and http(s), read to bytes within limits."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image

from .loading.limits import DEFAULT_LIMITS, ImageError, ImageLimits, Network, check_bytes
from .loading.opened_files import read_regular

__all__ = ["DEFAULT_LIMITS", "ImageError", "ImageLimits", "ImageSource", "Network", "display_name"]

ImageSource = str | Path | bytes | Image.Image


def display_name(source: object) -> str:
    """The name of an image in results and errors; data URLs are cut to their header, and no user or password shown."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"<image {source.width}x{source.height} {source.mode}>"
    if isinstance(source, bytes):
        return f"<{len(source):,} bytes>"
    if not isinstance(source, str | Path):
        return f"<{type(source).__name__}>"
    name = str(source)
    if url_scheme(name) == "data":
        return f"{name.partition(',')[0][:100]},…"
    if url_scheme(name):
        name = _without_userinfo(name)
    return name if len(name) <= 1024 else f"{name[:1023]}…"


def _without_userinfo(url: str) -> str:
    """Without "user:password@", also where the password holds a slash that it should not."""
    scheme, _, rest = url.partition("://")
    rest = rest.lstrip("/\\")
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    is_cut = not host.startswith("[") and "@" not in host and host.partition(":")[2].strip("0123456789") != ""
    end = rest.rfind("@") if is_cut else host.rfind("@")
    return f"{scheme}://{rest[end + 1 :]}" if end >= 0 else url


def url_scheme(name: str) -> str | None:
    """The URL scheme in lower case; None for a path ("C:\\x.png" is one)."""
    match = re.match(r"(data):|([a-z][a-z0-9+.-]*)://|(file):", name, re.IGNORECASE)
    return match and next(group for group in match.groups() if group).lower()


def read_source(source: object, limits: ImageLimits, allow_network: Network) -> bytes:
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
        from .loading.downloads import download  # slow to import

        data = download(source, limits, private=allow_network == "private")
    elif scheme == "file":
        raise ImageError("file:// URLs are refused; give the path itself")
    else:
        raise ImageError(f"{scheme}:// URLs are not read; give a path, a data URL or an http(s) URL")
    check_bytes(len(data), limits)
    return data


def _read_file(path: str, limits: ImageLimits) -> bytes:
    if not path:
        raise ImageError("an empty string is no path; give a path, a data URL or an http(s) URL")
    return read_regular(path, limits)


def _read_data_url(url: str, limits: ImageLimits) -> bytes:
    header, comma, body = url.partition(",")
    if not comma:
        raise ImageError("not a data URL: expected data:[<type>][;base64],<data>")
    data = unquote_to_bytes(body)
    if not header.lower().rstrip().endswith(";base64"):
        return data
    data = b"".join(data.split()).rstrip(b"=")
    check_bytes(len(data) * 3 // 4, limits)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError as error:
        raise ImageError(f"the data URL is not valid base64 ({error})") from error
