"""Texts and colour profiles in PNG files, which may be larger than Pillow reads and say nothing about the pixels."""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_MAX_CHUNK, _MAX_ALL = 2**20, 32 * 2**20  # bytes unpacked; Pillow refuses a file above 2**20 and 64 * 2**20


def without_long_texts(data: bytes) -> bytes:
    """The file without the chunks of text and the colour profile that Pillow would refuse it for; others stay, since
    some programs keep the orientation in one. A damaged file is returned as it is, from the damage on.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, start, at, unpacked = [], 0, len(_SIGNATURE), 0
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind in _TEXTS and end <= len(data):
            size = _unpacked_size(kind, data[at + 8 : end - 4])
            if size > _MAX_CHUNK or unpacked + size > _MAX_ALL:
                kept.append(data[start:at])
                start = end
            else:
                unpacked += size
        at = end
    return b"".join([*kept, data[start:]]) if kept else data


def _unpacked_size(kind: bytes, content: bytes) -> int:
    """At most a little more than `_MAX_CHUNK`; damaged texts count as they are packed."""
    parts = content.split(b"\0", 1)
    packed = parts[1] if len(parts) > 1 else b""
    if kind == b"iTXt":  # compression flag and method, language, translated keyword, text
        compressed, packed = packed[:1] == b"\1", packed[2:].split(b"\0", 2)[-1]
        if not compressed:
            return len(content)
    elif kind == b"tEXt":
        return len(content)
    else:
        packed = packed[1:]  # compression method
    try:
        return len(zlib.decompressobj().decompress(packed, _MAX_CHUNK + 1))
    except zlib.error:
        return len(content)
