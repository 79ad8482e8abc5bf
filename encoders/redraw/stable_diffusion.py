"""Strict loading of a diffusers `StableDiffusionPipeline` or `StableDiffusionXLPipeline` from disk or hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from ...errors import InputError, shortened
from ..loading.size_limit import folder_shapes, no_larger_than
from ..saved_models import quiet, without_bars

_WEIGHT_FILES = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors")
# For training, and for the small models of this package; SDXL has no checker.
WITHOUT_CHECKER: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def load_pipeline(
    source: str | Path, *, dtype: torch.dtype = torch.float32, variant: str | None = None, **settings: Any
) -> Any:
    """Load a folder or a hub id, safetensors only, on the CPU: the pipeline that its model_index.json names, Stable
    Diffusion (1, 2) or SDXL. `settings` go to `StableDiffusionPipeline`.

    variant: of the weight files, such as "fp16" for `model.fp16.safetensors`; see `chosen_variant`.
    Raises `InputError` if it does not load or is incomplete: diffusers and transformers accept missing weights, and a
    tokenizer without files.
    """
    if isinstance(source, Path) and not source.is_dir():
        raise InputError(f"no folder {source}; expected one that a diffusers StableDiffusionPipeline was saved in")
    variant = chosen_variant(source, variant)
    try:
        limit = no_larger_than(folder_shapes(source), source, packed=True)
        with without_bars(source, diffusers_logging, transformers_logging), limit:
            # Without dtype, the text encoder alone would keep its saved dtype.
            common: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "variant": variant}
            if StableDiffusionPipeline.load_config(source)["_class_name"] == StableDiffusionXLPipeline.__name__:
                pipeline: Any = StableDiffusionXLPipeline.from_pretrained(source, add_watermarker=False, **common)
            else:
                pipeline = StableDiffusionPipeline.from_pretrained(source, **common, **settings)
            lacking = _lacking_weights(pipeline, variant)
    except Exception as error:  # diffusers and transformers raise almost anything for files that do not fit
        raise InputError(
            f"{str(source)!r} does not load as a text-to-image model: {shortened(error, 400)}; expected the folder or "
            "hub id of a diffusers StableDiffusionPipeline with safetensors weights"
            + ("" if variant or Path(source).is_dir() else "; where they are there as a variant alone, name it: fp16")
        ) from error
    if lacking:
        raise InputError(
            f"{str(source)!r} lacks {len(lacking)} weights, such as {lacking[0]}; save or download it again"
        )
    for number in _text_encoders(pipeline):
        tokens = len(pipeline.components[f"tokenizer{number}"])
        rows = pipeline.components[f"text_encoder{number}"].config.vocab_size
        if tokens < rows:
            raise InputError(
                f"the tokenizer{number} of {str(source)!r} knows {tokens} tokens, its text encoder {rows}; "
                "copy it again"
            )
    return pipeline


def weight_variants(folder: Path, part: str = "unet") -> set[str | None]:
    """Variants of a part's weight files, None among them for those without; empty where there are none."""
    names = (_WEIGHT_FILES.fullmatch(path.name) for path in (folder / part).glob("*.safetensors"))
    return {name["variant"] for name in names if name}


def chosen_variant(source: str | Path, variant: str | None = None) -> str | None:
    """The variant to load: the one asked for; else none, or where a folder has one variant alone, that one.

    Raises `InputError` for one that a folder lacks, and where a folder has several and none of them is named.
    """
    if not Path(source).is_dir() or not (there := weight_variants(Path(source))):
        return variant
    if variant in there or (variant is None and len(there) == 1):
        return variant or next(iter(there))
    listed = ", ".join(sorted(name or "those without a variant" for name in there))
    asked = f"has no weights of the variant {variant!r}" if variant else "has weights in several variants alone"
    raise InputError(f"{str(source)!r} {asked}; expected one of: {listed} (--variant)")


def _lacking_weights(pipeline: Any, variant: str | None = None) -> list[str]:
    """Names of weights that no file holds.

    diffusers leaves them on the meta device. transformers fills in random ones and reports them on request only, so
    text encoders are loaded once more onto the meta device, which reads no weights.
    """
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    empty = [f"{name}.{key}" for name, part in modules.items() for key, p in part.named_parameters() if p.is_meta]
    for number in _text_encoders(pipeline):
        missing = _missing_keys(pipeline.components[f"text_encoder{number}"], variant)
        empty += [f"text_encoder{number}.{key}" for key in missing]
    return empty


def _text_encoders(pipeline: Any) -> list[str]:
    """What stands behind the names of a pipeline's text encoders and tokenizers."""
    return ["", "_2"] if "text_encoder_2" in pipeline.components else [""]


def _missing_keys(text_encoder: Any, variant: str | None) -> list[str]:
    saved = weight_variants(Path(text_encoder.name_or_path), "")
    variant = variant if variant in saved or not saved else None
    with quiet(transformers_logging):  # its warnings were shown the first time
        _, report = type(text_encoder).from_pretrained(
            text_encoder.name_or_path,
            device_map="meta",
            use_safetensors=True,
            output_loading_info=True,
            **({"variant": variant} if variant else {}),
        )
    return sorted(report["missing_keys"])
