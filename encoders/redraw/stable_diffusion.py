"""Strict loading of a diffusers `StableDiffusionPipeline` from disk or hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from ...errors import InputError
from ..saved_models import shortened, without_bars

# For training, and for the small models of this package.
WITHOUT_CHECKER: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def load_pipeline(source: str | Path, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Load a folder or a hub id, safetensors only, on the CPU; `settings` go to `StableDiffusionPipeline`.

    Raises `InputError` if it does not load or is incomplete: diffusers and transformers accept missing weights, and a
    tokenizer without files.
    """
    if isinstance(source, Path) and not source.is_dir():
        raise InputError(f"no folder {source}; expected one that a diffusers StableDiffusionPipeline was saved in")
    try:
        with without_bars(source, diffusers_logging, transformers_logging):
            # Without dtype, the text encoder alone would keep its saved dtype.
            pipeline: Any = StableDiffusionPipeline.from_pretrained(
                source, dtype=dtype, use_safetensors=True, **settings
            )
            lacking = _lacking_weights(pipeline)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{str(source)!r} does not load as a text-to-image model: {shortened(error, 400)}; expected the folder or "
            "hub id of a diffusers StableDiffusionPipeline with safetensors weights"
        ) from error
    if lacking:
        raise InputError(
            f"{str(source)!r} lacks {len(lacking)} weights, such as {lacking[0]}; save or download it again"
        )
    tokens, rows = len(pipeline.tokenizer), pipeline.text_encoder.config.vocab_size
    if tokens < rows:
        raise InputError(
            f"the tokenizer of {str(source)!r} knows {tokens} tokens, its text encoder {rows}; copy it again"
        )
    return pipeline


def _lacking_weights(pipeline: Any) -> list[str]:
    """Names of weights that no file holds.

    diffusers leaves them on the meta device. transformers fills in random ones and reports them on request only, so
    the text encoder is loaded once more onto the meta device, which reads no weights.
    """
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    empty = [f"{name}.{key}" for name, part in modules.items() for key, p in part.named_parameters() if p.is_meta]
    text_encoder, level = pipeline.text_encoder, transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its warnings were shown the first time
    try:
        _, report = type(text_encoder).from_pretrained(
            text_encoder.name_or_path, device_map="meta", use_safetensors=True, output_loading_info=True
        )
    finally:
        transformers_logging.set_verbosity(level)
    return empty + [f"text_encoder.{key}" for key in sorted(report["missing_keys"])]
