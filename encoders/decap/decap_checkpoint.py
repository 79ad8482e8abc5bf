"""DeCap on disk: config.json and decoder.safetensors; and the import of official checkpoints (dhg-wei/DeCap)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import GPT2Config

from ...errors import InputError, check_range
from ...output_files import whole_folder
from ..clip.open_clip_files import embed_dim_of
from ..loading.guard import loading
from ..loading.size_limit import Shapes, no_larger_than, tensor_shapes
from ..saved_models import (
    CONFIG_NAME,
    fill_strictly,
    load_pickled,
    load_weights,
    read_config,
    save_config,
    save_weights,
)
from .decap_decoder import DecapDecoder

KIND = "DeCap"
DECODER_NAME = "decoder.safetensors"
EMBEDDING = "decoder.transformer.wte.weight"
POSITIONS = "decoder.transformer.wpe.weight"
TIED = "decoder.lm_head.weight"  # the same tensor as EMBEDDING, saved once
OFFICIAL_START, OFFICIAL_END = 49406, 49407  # CLIP's ids; the official decoder has unused rows up to GPT-2's 50,257

MAX_BEAMS = 1000

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
        for name, low in (("embed_dim", 1), ("end_id", 0), ("num_tokens", 1), ("max_tokens", 1)):
            check_range(name, getattr(self, name), low)
        check_range("num_beams", self.num_beams, 1, MAX_BEAMS)
        if self.temperature <= 0 or self.video_temperature <= 0 or (self.top_k or 1) < 1:
            raise InputError("temperature, video_temperature and top_k of a DeCap must be above 0")

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
    with loading(folder, KIND):
        decoder = _sized_decoder(config, tensor_shapes(folder / DECODER_NAME), folder / CONFIG_NAME)
        load_weights(decoder, folder / DECODER_NAME, tied=(TIED,))
    return config, decoder.eval()


def _sized_decoder(config: DecapConfig, shapes: Shapes, where: Path) -> DecapDecoder:
    """A new decoder, unless the config says otherwise than the tensors' shapes."""
    rows, width = _matrix(shapes, EMBEDDING, where)
    said = {"vocab_size": rows, "n_embd": width, "n_layer": _layers(shapes, where)}
    said["n_positions"] = _matrix(shapes, POSITIONS, where)[0]
    for name, number in said.items():
        if config.gpt2.get(name, number) != number:
            raise InputError(f"{where}: gpt2.{name} is {config.gpt2.get(name)!r}, but the weights have {number}")
    with no_larger_than(shapes, where):
        return config.new_decoder()


def _layers(shapes: Shapes, where: Path) -> int:
    """How many layers the tensors' names count. Raises `InputError` where some are missing."""
    found = {int(match[1]) for name in shapes if (match := re.match(r"decoder\.transformer\.h\.(\d{1,9})\.", name))}
    if found != set(range(len(found))):
        raise InputError(f"{where}: the weights have {len(found)} layers, but one is numbered {max(found)}")
    return len(found)


def _matrix(shapes: Shapes, name: str, where: Path) -> tuple[int, int]:
    shape = tuple(shapes.get(name, ()))
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"{where}: the weights have {name} of shape {shape}; expected a matrix")
    return shape[0], shape[1]


def import_official(
    file: str | Path, out: str | Path, *, clip: str = "ViT-B-32/openai", num_heads: int = 4
) -> DecapConfig:
    """Convert an official checkpoint (`coco_prefix-009.pt`) to a folder that `Decap.from_pretrained` reads.

    The pickle is read weights-only, which runs no code. num_heads: cannot be told from the tensors (official: 4).
    Build the support memory into the same folder with `build_memory`.
    Raises `InputError` for a file with anything but tensors, or of another layout.
    """
    tensors = _official_tensors(Path(file))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wide, expected = _matrix(shapes, "prefix.weight", Path(file))[1], embed_dim_of(clip)
    if expected is not None and wide != expected:
        raise InputError(
            f"{file} was trained for a CLIP with embeddings {wide} wide, but those of {clip} are {expected} wide; "
            "name the CLIP it was trained for (--clip), such as ViT-B-32/openai (512) or ViT-L-14/openai (768)"
        )
    vocabulary, width = _matrix(shapes, EMBEDDING, Path(file))
    check_range("num_heads", num_heads, 1, width)
    config = DecapConfig(
        clip=clip,
        embed_dim=wide,
        gpt2={
            "vocab_size": vocabulary,
            "n_positions": _matrix(shapes, POSITIONS, Path(file))[0],
            "n_embd": width,
            "n_layer": _layers(shapes, Path(file)),
            "n_head": num_heads,
            "bos_token_id": OFFICIAL_START,
            "eos_token_id": OFFICIAL_END,
        },
        end_id=OFFICIAL_END,
        num_tokens=OFFICIAL_END + 1,
    )
    with loading(file, KIND):
        decoder = _sized_decoder(config, shapes, Path(file))
    fill_strictly(decoder, tensors, f"{file} does not fit DeCap's layout", tied=(TIED,))
    with whole_folder(out, CONFIG_NAME) as folder:
        save_decoder(decoder, config, folder)
    return config


def _official_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict under our names, without the tied head and the attention masks of old transformers."""
    found = load_pickled(path, read="plain tensors", expected="the state dict that the official train.py saves")
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds {type(found).__name__}; expected a state dict of tensors")
    mask = re.compile(r"decoder\.transformer\.h\.\d+\.attn\.(bias|masked_bias)$")
    tensors = {
        str(name).replace("clip_project.model.0.", "prefix."): value.float()
        for name, value in found.items()
        if not mask.match(str(name))
    }
    needed = {"prefix.weight", EMBEDDING, POSITIONS}
    if not needed <= tensors.keys() or not any(name.startswith("decoder.transformer.h.") for name in tensors):
        some = ", ".join(sorted(map(str, found))[:4]) or "nothing"
        raise InputError(
            f"{path} is not in DeCap's layout (clip_project.model.0.*, decoder.transformer.*); it has {some}"
        )
    head = tensors.pop(TIED, None)
    if head is not None and not torch.equal(head, tensors[EMBEDDING]):
        raise InputError(f"{path} has an output head that is not tied to its embeddings; DeCap's is")
    return tensors
