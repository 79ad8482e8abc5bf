"""open_clip models on disk: config, strictly loaded safetensors, tokenizer.

Ours, because `open_clip.create_model("local-dir:...")` keeps random weights if the folder has none, interpolates
position embeddings of another size, and falls back to its own 49K tokenizer. Here each of these is an error.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.coca_model import CoCa
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import nn

from ...errors import InputError, shortened
from ..saved_models import read_json, relative_name, save_weights, write_text
from .parts import transformers_source
from .timm_tokens import GRID, TimmTokens

CLIP_CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
TEXT_CONFIG_NAME = "text_config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """`open_clip_config.json`, {"model_cfg": ..., "preprocess_cfg": ...}, in open_clip's own format."""
    path = folder / CLIP_CONFIG_NAME
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected a folder with {CLIP_CONFIG_NAME} and {WEIGHTS_NAME}")
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise InputError(
            f"{folder} has no {CLIP_CONFIG_NAME} (it holds: {found}); expected a folder saved by open_clip"
        )
    config = read_json(path, "open_clip")
    if not isinstance(config.get("model_cfg"), dict):
        raise InputError(f"{path} has no 'model_cfg' object; expected open_clip's {{'model_cfg': ...}} layout")
    return config


def build_model(
    model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any] | None = None, folder: Path | None = None
) -> nn.Module:
    """A CLIP, CustomTextCLIP or CoCa with random weights, by the rules of `open_clip.create_model`.

    That function takes architecture names and folders, but no config held in memory. folder: may hold
    `TEXT_CONFIG_NAME`, the config of a text tower of transformers, which is asked for at its hub id otherwise.
    """
    cfg = deepcopy(dict(model_cfg))
    try:
        if "timm_model_name" in cfg["vision_cfg"]:
            cfg["vision_cfg"]["timm_model_pretrained"] = False
        has_hf_text = "hf_model_name" in cfg["text_cfg"]
        if has_hf_text:
            cfg["text_cfg"]["hf_model_pretrained"] = False
            cfg["text_cfg"]["hf_model_name"] = _text_config(cfg["text_cfg"]["hf_model_name"], folder)
        grid = cfg["vision_cfg"].pop(GRID, None)
        custom_text = cfg.pop("custom_text", False) or has_hf_text
        model_class = (CoCa if "multimodal_cfg" in cfg else CustomTextCLIP) if custom_text else CLIP
        model = model_class(**cfg)
    except InputError:
        raise
    except Exception as error:  # open_clip, timm and transformers raise almost anything for settings that do not fit
        raise InputError(f"open_clip cannot build a model from this model_cfg: {shortened(repr(error))}") from error
    if isinstance(model, CoCa):
        # open_clip never calls its own init for this one, and leaves uninitialised memory (NaN at times).
        projection = model.text_decoder.text_projection
        nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
        if isinstance(model.visual, TimmModel):
            model.visual = TimmTokens(model.visual, cfg["embed_dim"], cfg["multimodal_cfg"]["width"], grid or 3)
    merged = merge_preprocess_dict(PreprocessCfg(), dict(preprocess_cfg or {}))
    merged["size"] = model.visual.image_size
    set_model_preprocess_cfg(model, merged)
    return model


def save_folder(
    folder: Path,
    model: nn.Module,
    model_cfg: Mapping[str, Any],
    dtype: torch.dtype | None,
    weights_from: Mapping[str, str],
) -> None:
    """Write config and weights; open_clip's own "local-dir:" reads them too, unless parts of them stand elsewhere
    (weights_from: see `parts`)."""
    config = {"model_cfg": dict(model_cfg), "preprocess_cfg": asdict(preprocess_of(model))}
    if weights_from:
        config["weights_from"] = {place: relative_name(source, folder) for place, source in weights_from.items()}
    write_text(json.dumps(config, indent=2) + "\n", folder / CLIP_CONFIG_NAME)
    text: Any = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        text.config.to_json_file(folder / TEXT_CONFIG_NAME)
    places = tuple(f"{place}." for place in weights_from)
    own = {name: tensor for name, tensor in model.state_dict().items() if not (places and name.startswith(places))}
    save_weights(own, folder / WEIGHTS_NAME, dtype)


def _text_config(name: str, folder: Path | None) -> str:
    """Where the config of a text tower of transformers is found."""
    beside = folder / TEXT_CONFIG_NAME if folder else None
    return str(beside) if beside and beside.is_file() else transformers_source(name)


def named_config(name: str) -> dict[str, Any]:
    """open_clip's config of an architecture such as "coca_ViT-B-32"."""
    if name not in open_clip.list_models():
        raise InputError(f"open_clip has no model {name!r}; {_closest(name, open_clip.list_models())}")
    return dict(open_clip.get_model_config(name))


def published_name(spec: str) -> tuple[str, str]:
    """Model and tag of "model_name/pretrained_tag", in open_clip's spelling; hyphens and capitals of the tag are free,
    as in open_clip: "laion2B-s13B-b90k" is "laion2b_s13b_b90k". Raises `InputError` for what is not in its list."""
    known = {f"{name}/{tag}": (name, tag) for name, tag in open_clip.list_pretrained()}
    name, slash, tag = spec.partition("/")
    found = known.get(spec) or known.get(f"{name}{slash}{tag.lower().replace('-', '_')}")
    if found is None:
        raise InputError(f"{spec!r} is neither a folder nor an open_clip model/tag; {_closest(spec, list(known))}")
    return found


def embed_dim_of(spec: str) -> int | None:
    """D of "model/tag" or of a folder, without loading weights; None where only the network knows it."""
    if Path(spec).is_dir():
        wide = read_config(Path(spec))["model_cfg"].get("embed_dim")
        if not isinstance(wide, int):
            raise InputError(f"{spec}/{CLIP_CONFIG_NAME}: model_cfg.embed_dim is {wide!r}; expected a number")
        return wide
    if spec.startswith("hf-hub:"):
        return None
    return int(named_config(published_name(spec)[0])["embed_dim"])


def published_model(spec: str) -> tuple[nn.Module, dict[str, Any]]:
    """Model and config of "model_name/pretrained_tag"; open_clip downloads the weights to its cache."""
    name, tag = published_name(spec)
    try:
        model = open_clip.create_model(name, pretrained=tag, require_pretrained=True, weights_only=True)
    except (RuntimeError, OSError) as error:
        raise InputError(f"open_clip could not load {spec!r} ({error}); check the network, or give a folder") from error
    return model, named_config(name)


def load_tokenizer(source: str) -> Any:
    """open_clip's tokenizer of a model name, or of "local-dir:FOLDER" (never from the network)."""
    try:
        return open_clip.get_tokenizer(source)
    except Exception as error:  # tokenizers raise plain exceptions, too
        raise InputError(f"no tokenizer could be loaded for {source!r}: {shortened(error)}") from error


def preprocess_of(model: nn.Module) -> PreprocessCfg:
    """The preprocessing of the model's image tower."""
    visual: Any = model.visual
    return PreprocessCfg(**visual.preprocess_cfg)


def _closest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or sorted(known)[:5]
    return f"the closest of {len(known)} are {', '.join(close)}"
