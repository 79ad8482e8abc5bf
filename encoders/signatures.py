"""What kind a file is, by its name and first bytes: formats that are read, and those that only an error names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from PIL import Image

from .loading.opened_files import open_regular

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")  # Pillow's names of all that is ever opened

# First bytes of common files that are not read, so that the error can name them.
_UNSUPPORTED = {
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "MP4 video": rb"....ftyp",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "Photoshop": rb"8BPS",
    "ICO": rb"\x00\x00[\x01\x02]\x00(?!\x00\x00)",
    "TGA": rb".[\x00\x01][\x01-\x03\x09-\x0b].{13}[\x08\x0f\x10\x18\x20]",
    "SVG": rb"\s*(<\?xml.*)?<svg",
    "HTML": rb"\s*<(!doctype )?html",
}
_OTHER_ENDINGS = (".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw")
_PICTURES = ("HEIC", "HEIF", "JPEG 2000", "JPEG XL", "Photoshop", "ICO", "SVG")  # that a file without ending may hold
_START = 1024  # bytes


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of all that is opened: `FORMATS`, and HEIF where the package pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def unsupported_kind(data: bytes) -> str | None:
    """The name of a format that is known and not read; None for unknown ones."""
    if kind := heif_kind(data):
        return kind
    start = data[:_START]
    return next((name for name, known in _UNSUPPORTED.items() if re.match(known, start, re.I | re.S)), None)


def heif_kind(data: bytes) -> str | None:
    """ "HEIC" or "HEIF", by the brands of the first box (ISO/IEC 23008-12); None for AVIF and for other files.

    The brand "mif1" says only that there is an image in it; the compatible brands say how it is coded.
    """
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), _START)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    if any(re.match(rb"he(i[cxms]|v[cxms])", brand) for brand in brands):
        return "HEIC"
    return "HEIF" if brands[0] in (b"mif1", b"msf1") and not {b"avif", b"avis"} & set(brands) else None


def has_image_suffix(path: Path) -> bool:
    """Whether the file name ends like that of a picture, of whatever format."""
    ending = path.suffix.lower()
    return ending in _OTHER_ENDINGS or ending in _pillow_endings()


def is_picture(path: Path) -> bool:
    """Whether a file is meant to be a picture, also of a format that is not read: by its ending, or without one by its
    first bytes."""
    if path.suffix:
        return has_image_suffix(path)
    try:
        with open_regular(path) as file:
            data = file.read(_START)
    except (OSError, ValueError):
        return False
    Image.init()
    accepts = [accept for name in formats() if (accept := Image.OPEN[name][1]) is not None]
    return any(accept(data[:16]) is True for accept in accepts) or unsupported_kind(data) in _PICTURES


@cache
def _pillow_endings() -> frozenset[str]:
    """Of still pictures that Pillow knows, read by us or not."""
    formats()
    others = {"MPEG", "PDF", "HDF5", "BUFR", "GRIB", "EPS", "FITS"}
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name not in others)
