"""DeCap on disk: config.json and decoder.safetensors; and the import of official checkpoints (dhg-wei/DeCap)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import GPT2Config

from ...errors import InputError
from ..clip.open_clip_files import embed_dim_of
from ..saved_models import fill_strictly, load_pickled, load_weights, read_config, save_config, save_weights
from .decap_decoder import DecapDecoder

KIND = "DeCap"
DECODER_NAME = "decoder.safetensors"
EMBEDDING = "decoder.transformer.wte.weight"
TIED = "decoder.lm_head.weight"  # the same tensor as EMBEDDING, saved once
OFFICIAL_START, OFFICIAL_END = 49406, 49407  # CLIP's ids; the official decoder has unused rows up to GPT-2's 50,257

Strategy = Literal["pd", "nnd", "vd", "clipre"]


@dataclass(frozen=True)
class DecapConfig:
    """The content of config.json."""

    clip: str  # open_clip "model/tag", or a folder relative to the checkpoint's if it starts with "."
    embed_dim: int  # D of that CLIP
    gpt2: dict[str, Any]  # arguments of `GPT2Config`
    end_id: int  # the end token
    num_tokens: int  # ids from here on have no text
    max_tokens: int = 30  # per caption, start and end token included
    strategy: Strategy = "pd"
    temperature: float = 1 / 100  # of the projection
    video_temperature: float = 1 / 150  # of the projection, for videos
    top_k: int | None = None  # project onto the k nearest entries alone
    num_beams: int = 1
    note_below: float | None = None  # captions of images less similar to their projection get a note; None: no notes

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise InputError(f"unknown strategy {self.strategy!r}; expected one of {', '.join(get_args(Strategy))}")

    def new_decoder(self) -> DecapDecoder:
        """A decoder of random weights, of torch's global generator."""
        return DecapDecoder(self.embed_dim, GPT2Config(**self.gpt2), self.end_id)


def save_decoder(decoder: DecapDecoder, config: DecapConfig, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and decoder.safetensors, each atomically."""
    tensors = {name: tensor for name, tensor in decoder.state_dict().items() if name != TIED}
    save_weights(tensors, folder / DECODER_NAME, dtype)
    save_config(config, folder)


def load_decoder(folder: Path) -> tuple[DecapConfig, DecapDecoder]:
    """Read what `save_decoder` wrote, as float32. Raises `InputError` if files are missing or do not fit."""
    config = read_config(DecapConfig, folder, KIND)
    decoder = config.new_decoder()
    load_weights(decoder, folder / DECODER_NAME, tied=(TIED,))
    return config, decoder.eval()


def import_official(
    file: str | Path, out: str | Path, *, clip: str = "ViT-B-32/openai", num_heads: int = 4
) -> DecapConfig:
    """Convert an official checkpoint (`coco_prefix-009.pt`) to a folder that `Decap.from_pretrained` reads.

    The pickle is read weights-only, which runs no code. num_heads: cannot be told from the tensors (official: 4).
    Build the support memory into the same folder with `build_memory`.
    Raises `InputError` for a file with anything but tensors, or of another layout.
    """
    tensors = _official_tensors(Path(file))
    wide, expected = tensors["prefix.weight"].shape[1], embed_dim_of(clip)
    if expected is not None and wide != expected:
        raise InputError(
            f"{file} was trained for a CLIP with embeddings {wide} wide, but those of {clip} are {expected} wide; "
            "name the CLIP it was trained for (--clip), such as ViT-B-32/openai (512) or ViT-L-14/openai (768)"
        )
    vocabulary, width = tensors[EMBEDDING].shape
    layers = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"decoder\.transformer\.h\.(\d+)\.", name)))
    config = DecapConfig(
        clip=clip,
        embed_dim=tensors["prefix.weight"].shape[1],
        gpt2={
            "vocab_size": vocabulary,
            "n_positions": len(tensors["decoder.transformer.wpe.weight"]),
            "n_embd": width,
            "n_layer": layers,
            "n_head": num_heads,
            "bos_token_id": OFFICIAL_START,
            "eos_token_id": OFFICIAL_END,
        },
        end_id=OFFICIAL_END,
        num_tokens=OFFICIAL_END + 1,
    )
    decoder = config.new_decoder()
    fill_strictly(decoder, tensors, f"{file} does not fit DeCap's layout", tied=(TIED,))
    save_decoder(decoder, config, Path(out))
    return config


def _official_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict under our names, without the tied head and the attention masks of old transformers."""
    found = load_pickled(path, read="plain tensors", expected="the state dict that the official train.py saves")
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds {type(found).__name__}; expected a state dict of tensors")
    mask = re.compile(r"decoder\.transformer\.h\.\d+\.attn\.(bias|masked_bias)$")
    tensors = {
        name.replace("clip_project.model.0.", "prefix."): value.float()
        for name, value in found.items()
        if not mask.match(name)
    }
    needed = {"prefix.weight", EMBEDDING, "decoder.transformer.wpe.weight"}
    if not needed <= tensors.keys() or not any(name.startswith("decoder.transformer.h.") for name in tensors):
        some = ", ".join(sorted(found)[:4]) or "nothing"
        raise InputError(
            f"{path} is not in DeCap's layout (clip_project.model.0.*, decoder.transformer.*); it has {some}"
        )
    head = tensors.pop(TIED, None)
    if head is not None and not torch.equal(head, tensors[EMBEDDING]):
        raise InputError(f"{path} has an output head that is not tied to its embeddings; DeCap's is")
    return tensors
