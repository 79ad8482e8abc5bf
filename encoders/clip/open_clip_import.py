"""Checkpoints of open_clip's own training (`epoch_32.pt`) as folders that `Clip.from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

import open_clip
from torch import Tensor

from ...errors import InputError
from ...output_files import whole_folder
from ..loading.guard import loading
from ..loading.size_limit import no_larger_than
from ..saved_models import fill_strictly, load_pickled, read_json
from .clip import Clip
from .open_clip_files import CLIP_CONFIG_NAME, named_config

PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def import_open_clip(file: str | Path, out: str | Path, *, model: str) -> Clip:
    """Convert a training checkpoint, or a bare state dict, of open_clip to a folder.

    model: the architecture it was trained with, such as "ViT-B-32", or its JSON file. The pickle is read weights-only,
    which runs no code. Preprocessing is open_clip's default of the architecture; training checkpoints do not tell it.
    Raises `InputError` for other files, and for tensors that are missing, unexpected or of other shapes.
    """
    tensors = _state_dict(Path(file))  # first: building a large model takes a while
    config = read_json(Path(model), "open_clip") if Path(model).is_file() else named_config(model)
    with loading(model, "an open_clip model"), no_larger_than({name: t.shape for name, t in tensors.items()}, file):
        clip = Clip.from_config(config.get("model_cfg", config), name=model)
    text = getattr(clip.model, "text", None)
    if text is not None and "positional_embedding" in tensors:  # saved before open_clip had text towers of their own
        tensors = open_clip.model.convert_to_custom_text_state_dict(tensors)
    fill_strictly(
        clip.model, tensors, f"{file} does not fit the model {model}; give the --model that it was trained as"
    )
    with whole_folder(out, CLIP_CONFIG_NAME) as folder:
        clip.save_pretrained(folder)
    return clip


def _state_dict(path: Path) -> dict[str, Tensor]:
    expected = "a checkpoint that open_clip's training saves"
    found = load_pickled(path, read="tensors and plain values", expected=expected)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(
            f"{path} holds no state dict of tensors; expected a checkpoint that open_clip's training saves"
        )
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found
