"""What encoders' checkpoints share: folder or hub id, config.json, safetensors read strictly, the naming of a CLIP."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError

if TYPE_CHECKING:
    from .clip.clip import Clip
    from .decap.memory import CaptionSpace

CONFIG_NAME = "config.json"
FILES = ("*.json", "*.safetensors", "*.txt")  # of folders too; nothing that could hold code

Config = TypeVar("Config")


def checkpoint_folder(source: str | Path, kind: str) -> Path:
    """The folder `source`, or the local copy of the hub repository of that name, fetched if need be.

    kind: what is expected there, such as "De-Diffusion", for the `InputError` where there is neither.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"{source!r} is neither a folder nor a {kind} on the Hugging Face hub that can be fetched "
            f"({first_line(error)})"
        ) from error


def push_folder(folder: Path, repo_id: str, *, private: bool | None = None) -> str:
    """Upload a folder to the Hugging Face hub, as the user of `hf auth login`; returns the address of the commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # the last of its HTTP library

    try:
        HfApi().create_repo(repo_id, private=private, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=list(FILES)))
    except (OSError, HTTPError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"nothing could be pushed to {repo_id!r} on the Hugging Face hub ({first_line(error)}); check the "
            "name, the network, and that `hf auth login` was run with a token that may write"
        ) from error


def save_config(config: Any, folder: Path) -> None:
    """Write a dataclass as config.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f".{CONFIG_NAME}").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    os.replace(folder / f".{CONFIG_NAME}", folder / CONFIG_NAME)


def read_config(config_class: type[Config], folder: Path, kind: str) -> Config:
    """Read what `save_config` wrote. Raises `InputError` for a folder that is no `kind`."""
    path = folder / CONFIG_NAME
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a folder saved by {kind}") from error
    known = [field.name for field in fields(config_class)]  # type: ignore[arg-type]
    if not isinstance(saved, dict) or set(saved) != set(known):
        got = ", ".join(sorted(saved)) if isinstance(saved, dict) else type(saved).__name__
        raise InputError(f"{path} is not {kind}'s: it holds {got or 'nothing'}; expected the fields {', '.join(known)}")
    try:
        return config_class(**saved)
    except TypeError as error:
        raise InputError(f"{path} holds a value of another type than {kind}'s ({error})") from error


def save_weights(tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """Write safetensors, whole or not at all; floating-point ones in `dtype`, or as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in tensors.items()
    }
    part = path.with_name(f".{path.name}")
    save_file(stored, part, metadata={"format": "pt"})
    os.replace(part, path)


def load_weights(model: nn.Module, path: Path, *, tied: Sequence[str] = (), config_name: str = CONFIG_NAME) -> None:
    """Load safetensors into `model`, in the model's own precision; every name and shape must match.

    tied: as of `fill_strictly`.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read, missing or damaged ({error}); save or download it again") from error
    fill_strictly(model, tensors, f"{path} does not fit the {config_name} beside it", tied=tied)


def fill_strictly(model: nn.Module, tensors: Mapping[str, Tensor], complaint: str, *, tied: Sequence[str] = ()) -> None:
    """Put `tensors` into `model`, in the model's own precision; every name and shape must match.

    complaint: how the `InputError` begins. tied: second names of weights of the model, which may be absent.
    """
    own = model.state_dict()
    try:
        model.load_state_dict({**{name: own[name] for name in tied}, **tensors}, strict=True)
    except RuntimeError as error:
        raise InputError(f"{complaint}: {shortened(error)}") from error


def clip_spec(clip: CaptionSpace, folder: Path) -> str:
    """How a checkpoint in `folder` names its CLIP: a hub name as it is, a local folder by its relative path."""
    if not Path(clip.name).is_dir():
        return clip.name
    relative = os.path.relpath(Path(clip.name).resolve(), folder.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def space_of(spec: str) -> str:
    """Name of the CLIP space that a `clip_spec` means, as `memory.space_name`: "coca" for the folder "../coca"."""
    return Path(spec).name if spec.startswith(".") else spec


def load_clip(spec: str, folder: Path, kind: str, device: str | torch.device) -> Clip:
    """The CLIP that the checkpoint in `folder` names as `spec`, in the way of `clip_spec`."""
    from .clip.clip import Clip

    if not spec.startswith("."):
        return Clip.from_pretrained(spec, device=device)
    path = (folder / spec).resolve()
    if not path.is_dir():
        raise InputError(
            f"the CLIP of the {kind} in {folder} is missing: {CONFIG_NAME} names it as {spec!r}, that is {path}; "
            "put it there, or give another to `from_pretrained`"
        )
    return Clip.from_pretrained(path, device=device)


def shortened(error: Exception, limit: int = 600) -> str:
    """The message in one line."""
    message = " ".join(str(error).split())
    return message if len(message) <= limit else message[:limit] + " ..."


def first_line(error: Exception) -> str:
    """Of the message, or the error's class where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
