"""Encoder specs, the same in Python and on the command line: "coca", "coca:PATH_OR_MODEL/TAG", "scenes:coca", ..."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..plugins import load, registered

if TYPE_CHECKING:
    from .base import Encoder
    from .clip.clip import Clip

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_ENCODERS = ("coca", "tags")  # describe an image
ASK_ENCODERS = ("coca", "tags")  # used together to answer questions and to classify
REDRAW_ENCODER = "scenes:dediffusion"  # the included text-to-image model draws the made world alone


@dataclass(frozen=True)
class EncoderSpec:
    """Where an encoder is, and how it is named."""

    target: str  # "module:Class" in this package; the class has from_pretrained(checkpoint, device=, spec=)
    default: str | None  # checkpoint of the bare name; None where one must be given
    help: str  # for the list of valid names
    takes_prompt: bool = False


ENCODERS: dict[str, EncoderSpec] = {
    "coca": EncoderSpec(
        ".coca.captioner:CocaCaptioner",
        str(WEIGHTS / "photo-coca"),
        "coca, the included CoCa for photographs; or coca:FOLDER, coca:MODEL/PRETRAINED_TAG",
    ),
    "decap": EncoderSpec(
        ".decap.decap_encoder:Decap",
        str(WEIGHTS / "photo-decap"),
        "decap, the included DeCap for photographs; or decap:HUB_ID_OR_FOLDER",
    ),
    "dediffusion": EncoderSpec(
        ".dediffusion.dediffusion_encoder:Dediffusion",
        str(WEIGHTS / "photo-dediffusion"),
        "dediffusion, the included De-Diffusion for photographs; or dediffusion:HUB_ID_OR_FOLDER",
    ),
    "hf": EncoderSpec(
        ".huggingface:HuggingFaceCaptioner",
        None,
        "hf:HUB_ID_OR_FOLDER, any transformers image-to-text model",
        takes_prompt=True,
    ),
    "ocr": EncoderSpec(
        ".ocr.rapid_ocr:OcrEncoder", "bundled", "ocr, the text in an image (pip install 'textlens[ocr]')"
    ),
    "tags": EncoderSpec(
        ".tags.tags_encoder:Tags",
        str(WEIGHTS / "photo-tags"),
        "tags, likely ImageNet classes with their chances; or tags:HUB_ID_OR_FOLDER",
    ),
}


def load_encoder(spec: str = DEFAULT_ENCODERS[0], *, device: str | None = None, prompt: str | None = None) -> Encoder:
    """Load the encoder of a spec onto `device` (by default a GPU if there is one).

    prompt: what to ask for, of encoders that take one (`takes_prompt`); others are not told.
    Raises `InputError` for an unknown name, listing the valid ones, and for a checkpoint that does not load.
    """
    name, checkpoint = check_encoder(spec)
    if name in (brought := registered("ENCODERS")):
        return load(brought[name])(checkpoint, device=device or _best_device(), spec=spec)
    asked = {"prompt": prompt} if prompt is not None and takes_prompt(spec) else {}
    return encoder_class(name).from_pretrained(checkpoint, device=device or _best_device(), spec=spec, **asked)


def load_clip(spec: str) -> Clip:
    """The CLIP of an encoder that has one ("coca", "decap", "scenes:coca"), or what `Clip.from_pretrained` reads.

    Raises `InputError` for encoders without a CLIP, and for what does not load.
    """
    from .clip.clip import Clip

    name, _, checkpoint = spec.partition(":")
    is_encoder = name in ENCODERS or (name in registered("ENCODERS") and checkpoint)
    if not is_encoder or Path(spec).is_dir():
        return Clip.from_pretrained(spec)
    clip = getattr(load_encoder(spec), "clip", None)
    if not isinstance(clip, Clip):
        raise InputError(f"the encoder {spec!r} has no CLIP; expected coca, decap, a folder or open_clip's MODEL/TAG")
    return clip


def takes_prompt(spec: str) -> bool:
    """Whether the encoder of a spec can be asked for something."""
    entry = ENCODERS.get(spec.partition(":")[0])
    return entry is not None and entry.takes_prompt


def check_encoder(spec: str) -> tuple[str, str]:
    """The name and the checkpoint of a spec, without loading it.

    Raises `InputError` for an unknown name, listing the valid ones.
    """
    name, _, checkpoint = spec.partition(":")
    brought = registered("ENCODERS")
    if name in brought and checkpoint:
        return name, checkpoint
    entry = ENCODERS.get(name)
    checkpoint = checkpoint or (entry and entry.default) or ""
    if entry is None or not checkpoint:
        known = "; ".join([*(known.help for known in ENCODERS.values()), *(f"{name}:NAME" for name in brought)])
        raise InputError(f"unknown encoder {spec!r}: expected one of: {known}")
    return name, checkpoint


def encoder_class(name: str) -> Any:
    """The class of an entry of `ENCODERS`. Imported here: torch takes seconds."""
    module, _, class_name = ENCODERS[name].target.partition(":")
    return getattr(import_module(module, __package__), class_name)


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
