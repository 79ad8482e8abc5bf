"""Encoder specs, the same in Python and on the command line: "coca", "coca:PATH_OR_MODEL/TAG", "hf:ID", ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .base import Encoder

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_ENCODER = "dediffusion"
ASK_ENCODERS = ("dediffusion", "decap")  # together, for questions and classes


@dataclass(frozen=True)
class EncoderSpec:
    """build(checkpoint, device, spec) makes the encoder; `checkpoint` is what follows the colon, or `default`."""

    build: Callable[[str, str, str], Encoder]
    default: str | None
    help: str


def _coca(checkpoint: str, device: str, spec: str) -> Encoder:
    from .clip.clip import Clip
    from .coca.captioner import CocaCaptioner

    return CocaCaptioner(Clip.from_pretrained(checkpoint, device=device), spec=spec)


def _decap(checkpoint: str, device: str, spec: str) -> Encoder:
    from .decap.decap_encoder import Decap

    return Decap.from_pretrained(checkpoint, device=device, spec=spec)


def _dediffusion(checkpoint: str, device: str, spec: str) -> Encoder:
    from .dediffusion.dediffusion_encoder import Dediffusion

    return Dediffusion.from_pretrained(checkpoint, device=device, spec=spec)


def _hugging_face(checkpoint: str, device: str, spec: str) -> Encoder:
    from .huggingface import HuggingFaceCaptioner

    return HuggingFaceCaptioner.from_pretrained(checkpoint, device=device, spec=spec)


ENCODERS: dict[str, EncoderSpec] = {
    "coca": EncoderSpec(
        _coca, str(WEIGHTS / "coca"), "coca, the small CoCa that comes along; or coca:FOLDER, coca:MODEL/PRETRAINED_TAG"
    ),
    "decap": EncoderSpec(
        _decap, str(WEIGHTS / "decap"), "decap, the small DeCap that comes along; or decap:HUB_ID_OR_FOLDER"
    ),
    "dediffusion": EncoderSpec(
        _dediffusion,
        str(WEIGHTS / "dediffusion"),
        "dediffusion, the small De-Diffusion that comes along; or dediffusion:HUB_ID_OR_FOLDER",
    ),
    "hf": EncoderSpec(_hugging_face, None, "hf:HUB_ID_OR_FOLDER, any transformers image-to-text model"),
}


def load_encoder(spec: str = DEFAULT_ENCODER, *, device: str | None = None) -> Encoder:
    """The encoder of a spec, on `device` (by default a GPU if there is one).

    Raises `InputError` for an unknown name, listing the valid ones, and for a checkpoint that does not load.
    """
    name, _, checkpoint = spec.partition(":")
    entry = ENCODERS.get(name)
    chosen = checkpoint or (entry.default if entry else None)
    if entry is None or chosen is None:
        known = "; ".join(known.help for known in ENCODERS.values())
        raise InputError(f"unknown encoder {spec!r}: expected one of: {known}")
    return entry.build(chosen, device or _best_device(), spec)


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
