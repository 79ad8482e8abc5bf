"""Small files that cost a decoder much work, for the tests of limits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

_JPEG_SIDE = 4096


def hostile_files() -> dict[str, Callable[[], bytes]]:
    """name -> maker of a file of at most a few MB."""
    return {
        "ppm: comments": lambda: b"P3 100 100 255\n" + b"#\n" * 400_000,
        "ppm: one long comment": lambda: b"P3 100 100 255\n#" + b"x" * 800_000,
        "ppm: comments of a plain bitmap": lambda: b"P1 100 100\n" + b"#\n" * 400_000,
        "ppm: numbers": lambda: b"P3 1500 1000 255\n" + b"7 " * 4_500_000,
        "ppm: blanks": lambda: b"P3 100 100 255\n" + b" " * 4_000_000,
        "ppm: deep": lambda: b"P6 4000 4000 1000\n" + bytes(4000 * 4000 * 6 // 24),
        "jpeg: 400 scans": lambda: _many_scans(400),
        "jpeg: empty comments": lambda: _jpeg_with(b"\xff\xfe\x00\x02" * 1_000_000),
        "jpeg: fill bytes": lambda: _jpeg_with(b"\xff" * 4_000_000),
        "jpeg: application markers": lambda: _jpeg_with(b"\xff\xed\x00\x10Photoshop 3.0\0" * 150_000),
        "jpeg: junk between markers": lambda: _jpeg_with(b"\x00" * 4_000_000),
        "tiff: 1 million strips": lambda: tiff_with_strips(1_000_000),
        "tiff: a tag of a million values": lambda: tiff_with_strips(1, extra=1_000_000),
        "bmp: RLE, 64 million pixels": lambda: _rle_bmp(8000, 8000),
        "bmp: RLE, skips": lambda: _rle_bmp(4000, 4000, b"\x00\x02\x01\x01" * 400_000),
        "bmp: RLE, runs of nothing": lambda: _rle_bmp(1000, 1000, b"\x00\x00" * 1_500_000),
        "png: empty chunks": lambda: _png(8, 8, _chunk(b"abCd", b"") * 300_000),
        "png: empty texts": lambda: _png(8, 8, _chunk(b"tEXt", b"a\0") * 300_000),
        "png: compressed texts": lambda: _png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20))) * 2_000),
        "png: empty data chunks": lambda: _png(8, 8, _chunk(b"IDAT", b"") * 300_000),
        "png: 64 million pixels, interlaced": lambda: _png(8000, 8000, b"", interlaced=1),
        "png: 64 million pixels, 16 bits": lambda: _png(8000, 8000, b"", depth=16),
        "gif: empty comments": lambda: _gif(b"\x21\xfe\x01x\x00" * 800_000),
        "gif: comment of one-byte blocks": lambda: _gif(b"\x21\xfe" + b"\x01x" * 2_000_000 + b"\x00"),
        "gif: empty blocks": lambda: _gif(b"\x00" * 4_000_000),
        "gif: 64 million pixels": lambda: _encoded(Image.new("P", (8000, 8000)), "GIF"),
        "webp: 64 million pixels": lambda: _encoded(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0),
        "webp: many frames": _webp_frames,
        "tiff: 64 million floats": lambda: _encoded(
            Image.new("F", (8000, 8000)), "TIFF", compression="tiff_adobe_deflate"
        ),
    }


def tiff_with_strips(count: int, extra: int = 0) -> bytes:
    """A grey TIFF one pixel wide, each pixel a strip of its own. extra: values of a tag that nobody knows."""
    tags = [
        (256, 4, 1, 1),
        (257, 4, 1, count),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
    ]
    start = 8 + 2 + 12 * (len(tags) + 2 + bool(extra)) + 4
    offsets, sizes, values = start + 8, start + 8 + 4 * count, start + 8 + 8 * count
    tags += [(273, 4, count, offsets if count > 1 else start), (279, 4, count, sizes if count > 1 else 1)]
    tags += [(60_000, 4, extra, values)] if extra else []
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    body = bytes(8) + struct.pack("<I", start) * count + struct.pack("<I", 1) * count + bytes(4 * extra)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, extra: bytes, *, depth: int = 8, interlaced: int = 0) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced))
    raw = zlib.compress(bytes((width * depth // 8 + 1) * height + 8 * height * interlaced), 1)
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", raw) + _chunk(b"IEND", b"")


def _jpeg_with(segments: bytes) -> bytes:
    data = _encoded(Image.new("L", (8, 8)), "JPEG")
    return data[:2] + segments + data[2:]


def _many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = _encoded(Image.linear_gradient("L").resize((_JPEG_SIDE, _JPEG_SIDE)), "JPEG", progressive=True, quality=1)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    last = min((data[a:b] for a, b in zip(starts, [*starts[1:], len(data) - 2], strict=True)), key=len)
    return data[:-2] + last * count + data[-2:]


def _rle_bmp(width: int, height: int, data: bytes = b"\x00\x01") -> bytes:
    palette = bytes(8)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 2, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def _gif(blocks: bytes) -> bytes:
    data = _encoded(Image.new("L", (8, 8)), "GIF")
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1) * (data[10] >> 7)
    return data[:place] + blocks + data[place:]


def _webp_frames() -> bytes:
    frames = [Image.new("L", (2000, 2000), n % 256).convert("RGB") for n in range(12)]
    return _encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)


def _encoded(image: Image.Image, format: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()
