"""DeCap on disk: config.json and decoder.safetensors; and the import of the official checkpoint (dhg-wei/DeCap)."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import GPT2Config

from ...errors import InputError
from ..saved_models import fill_strictly, first_line, load_weights, read_config, save_config, save_weights, space_of
from .decap_decoder import DecapDecoder

KIND = "DeCap"
DECODER_NAME = "decoder.safetensors"
TIED = "decoder.lm_head.weight"  # the same tensor as decoder.transformer.wte.weight: saved once

Strategy = Literal["pd", "nnd", "vd", "clipre"]


@dataclass(frozen=True)
class DecapConfig:
    """What config.json holds.

    clip: "model/tag" of open_clip, or a folder relative to the checkpoint's own if it starts with ".".
    embed_dim: D of that CLIP. gpt2: arguments of `GPT2Config`. end_id: token that ends a caption.
    num_tokens: ids from here on have no text (the official decoder has 50,257 rows for CLIP's 49,408 tokens).
    max_tokens: of a caption, start and end included. temperature, video_temperature: of the projection.
    top_k: project onto the k nearest entries alone; None for the whole memory.
    """

    clip: str
    embed_dim: int
    gpt2: dict[str, Any]
    end_id: int
    num_tokens: int
    max_tokens: int = 30
    strategy: Strategy = "pd"
    temperature: float = 1 / 100
    video_temperature: float = 1 / 150
    top_k: int | None = None
    num_beams: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise InputError(f"unknown strategy {self.strategy!r}; expected one of {', '.join(get_args(Strategy))}")

    @property
    def space(self) -> str:
        """Name of the CLIP's space: "coca" for the folder "../coca"."""
        return space_of(self.clip)

    def with_clip(self, clip: str) -> DecapConfig:
        return replace(self, clip=clip)

    def new_decoder(self) -> DecapDecoder:
        """A decoder of this shape with random weights, of torch's global generator."""
        return DecapDecoder(self.embed_dim, GPT2Config(**self.gpt2), self.end_id)


def save_decoder(decoder: DecapDecoder, config: DecapConfig, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and decoder.safetensors; each is there whole or not at all."""
    tensors = {name: tensor for name, tensor in decoder.state_dict().items() if name != TIED}
    save_weights(tensors, folder / DECODER_NAME, dtype)
    save_config(config, folder)


def load_decoder(folder: Path) -> tuple[DecapConfig, DecapDecoder]:
    """Read what `save_decoder` wrote, as float32. Raises `InputError` where anything is missing or does not fit."""
    config = read_config(DecapConfig, folder, KIND)
    decoder = config.new_decoder()
    load_weights(decoder, folder / DECODER_NAME, tied=(TIED,))
    return config, decoder.eval()


def import_official(
    file: str | Path, out: str | Path, *, clip: str = "ViT-B-32/openai", num_heads: int = 4
) -> DecapConfig:
    """Turn an official checkpoint (`coco_prefix-009.pt`) into a folder that `Decap.from_pretrained` reads.

    The pickle is read with torch's weights-only loader, which runs no code. Sizes are read from the tensors; the number
    of heads cannot be (official: 4). Build the support memory into the same folder with `build_memory`.
    Raises `InputError` for a file that holds anything but tensors, or not this layout.
    """
    tensors = _official_tensors(Path(file))
    vocabulary, width = tensors["decoder.transformer.wte.weight"].shape
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


OFFICIAL_START, OFFICIAL_END = 49406, 49407  # CLIP's own ids; the rows above belong to GPT-2's 50,257 and are unused


def _official_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict under our names, without the tied head and the attention masks that old transformers saved."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused: it is no plain file of weights. A pickle can hold code, and only tensors are read. "
            f"Expected the state dict that the official train.py saves ({first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no checkpoint, or a damaged one ({first_line(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds {type(found).__name__}; expected a state dict of tensors")
    mask = re.compile(r"decoder\.transformer\.h\.\d+\.attn\.(bias|masked_bias)$")
    tensors = {
        name.replace("clip_project.model.0.", "prefix."): value.float()
        for name, value in found.items()
        if not mask.match(name)
    }
    needed = {"prefix.weight", "decoder.transformer.wte.weight", "decoder.transformer.wpe.weight"}
    if not needed <= tensors.keys() or not any(name.startswith("decoder.transformer.h.") for name in tensors):
        some = ", ".join(sorted(found)[:4]) or "nothing"
        raise InputError(
            f"{path} is not in DeCap's layout (clip_project.model.0.*, decoder.transformer.*); it has {some}"
        )
    head = tensors.pop(TIED, None)
    if head is not None and not torch.equal(head, tensors["decoder.transformer.wte.weight"]):
        raise InputError(f"{path} has an output head that is not tied to its embeddings; DeCap's is")
    return tensors
