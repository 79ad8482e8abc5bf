"""How much one image may ask for, and the error for one that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from ...errors import InputError

Network = bool | Literal["private"]
"""Whether http(s) addresses are fetched: True those of public hosts, "private" those of private networks too."""


def allowed_network(public: bool, private: bool) -> Network:
    """Of the options --allow-network and --allow-private-network."""
    return "private" if private else public


class ImageError(InputError):
    """An image cannot be used: missing, damaged, over a limit, or of an unsupported format."""


@dataclass(frozen=True)
class ImageLimits:
    """How much one image may ask for."""

    max_pixels: int = 64_000_000  # width x height, checked in the header before decoding
    max_bytes: int = 256 * 2**20  # of the file, the decoded data URL or the download
    timeout_seconds: float = 20.0  # of a whole download, redirects included
    max_redirects: int = 5  # of a download
    decode_seconds: float = 5.0  # of the decoding of an untrusted image; trusted ones take what they need

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 and not (field.name == "max_redirects" and value == 0):
                raise InputError(f"image limit {field.name} is {value}; it must be greater than 0")


DEFAULT_LIMITS = ImageLimits()


def check_bytes(size: int, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            f"over the limit of {limits.max_bytes:,} bytes; use a smaller file or raise ImageLimits.max_bytes"
        )
