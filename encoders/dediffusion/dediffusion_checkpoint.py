"""De-Diffusion on disk: config.json, model.safetensors and the tokenizer's files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...errors import InputError, shortened
from ..clip.clip import Clip, load_clip
from ..clip.space import clip_spec, space_name, space_of
from ..loading.guard import loading
from ..loading.size_limit import no_larger_than, tensor_shapes
from ..saved_models import (
    CONFIG_NAME,
    checkpoint_folder,
    load_weights,
    push_folder,
    read_config,
    save_config,
    save_tokenizer,
    save_weights,
)
from .dediffusion_model import DediffusionConfig, DediffusionModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "De-Diffusion"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer"
BACKBONE_NAME = "backbone"  # in a pushed checkpoint, if the backbone was a local folder


def save_model(
    model: DediffusionModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    dtype: torch.dtype | None = None,
    backbone: str | None = None,
) -> None:
    """Write a checkpoint. backbone: its name in the config; by default a local folder's path relative to `folder`."""
    save_weights(model.state_dict(), folder / WEIGHTS_NAME, dtype)
    save_tokenizer(tokenizer, folder / TOKENIZER_NAME)
    save_config(replace(model.config, backbone=backbone or clip_spec(model.clip, folder)), folder)


def push_model(
    model: DediffusionModel,
    tokenizer: PreTrainedTokenizerBase,
    repo_id: str,
    private: bool | None,
    dtype: torch.dtype | None,
) -> str:
    """Upload a checkpoint, with the backbone if it is a local folder; returns the commit's URL."""
    with tempfile.TemporaryDirectory() as name:
        folder, backbone = Path(name), model.clip.name
        if Path(backbone).is_dir():
            model.clip.save_pretrained(folder / BACKBONE_NAME, dtype=dtype)
            backbone = f"./{BACKBONE_NAME}"
        save_model(model, tokenizer, folder, dtype, backbone)
        return push_folder(folder, repo_id, private=private)


def load_model(
    source: str | Path, backbone: Clip | None, device: str | torch.device
) -> tuple[DediffusionModel, PreTrainedTokenizerBase]:
    """Read a checkpoint. Raises `InputError` for anything that is missing or does not fit."""
    folder = checkpoint_folder(source, KIND)
    with loading(folder, KIND):
        return _load_folder(folder, backbone, device)


def _load_folder(
    folder: Path, backbone: Clip | None, device: str | torch.device
) -> tuple[DediffusionModel, PreTrainedTokenizerBase]:
    config = read_config(DediffusionConfig, folder, KIND)
    tokenizer = _load_tokenizer(folder / TOKENIZER_NAME)
    clip = backbone or load_clip(config.backbone, folder, KIND, device)
    trained, given = space_of(config.backbone), space_name(clip)
    if (clip.patch_shape[1], given) != (config.patch_width, trained):
        raise InputError(
            f"this {KIND} was trained on CLIP {trained!r} (patch tokens of {config.patch_width} numbers), but "
            f"{given!r} ({clip.patch_shape[1]}) is in use; load that one, or train {KIND} again"
        )
    with no_larger_than(tensor_shapes(folder / WEIGHTS_NAME), folder / CONFIG_NAME):
        model = DediffusionModel(config, clip, torch.zeros(config.vocabulary_size, config.text_width))
    load_weights(model, folder / WEIGHTS_NAME)
    return model.to(device), tokenizer


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():  # transformers would make an empty tokenizer
        raise InputError(f"{folder} has no tokenizer.json; expected the tokenizer's files there, as {KIND} saves them")
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raise plain exceptions, too
        raise InputError(f"{folder} holds no tokenizer that can be read: {shortened(error)}") from error
