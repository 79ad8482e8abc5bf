"""The made world's small encoders, which are included: "scenes:coca", "scenes:decap", "scenes:dediffusion"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..encoders.registry import WEIGHTS, encoder_class
from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders.base import Encoder

FOLDER = WEIGHTS / "scenes"
NAMES = ("coca", "decap", "dediffusion")


def load_included(name: str, *, device: str, spec: str) -> Encoder:
    """The encoder "scenes:NAME". Raises `InputError` for an unknown name."""
    if name not in NAMES:
        known = ", ".join(f"scenes:{known}" for known in NAMES)
        raise InputError(f"unknown encoder {spec!r}: expected one of {known}")
    return encoder_class(name).from_pretrained(str(FOLDER / name), device=device, spec=spec)
