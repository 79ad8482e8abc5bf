"""Checkpoints: a folder or hub repository with config.json and safetensors, loaded strictly. Never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError, reason, shortened
from ..input_files import check_regular, read_json_file
from ..output_files import replacing, write_text
from .loading.guard import check_weights

CONFIG_NAME = "config.json"
FILES = ("*.json", "*.safetensors", "*.txt")  # all that is fetched or pushed; none can hold code

Config = TypeVar("Config")


def checkpoint_folder(source: str | Path, kind: str) -> Path:
    """The folder `source`, or a local copy of the hub repository of that name.

    kind: the model expected there, such as "De-Diffusion", for the `InputError` if there is neither.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"{source!r} is neither a folder nor a {kind} on the Hugging Face hub that can be fetched ({reason(error)})"
        ) from error


def push_folder(folder: Path, repo_id: str, *, private: bool | None = None) -> str:
    """Upload a folder to the Hugging Face hub as the user of `hf auth login`; returns the commit's URL."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # the last: no network

    try:
        HfApi().create_repo(repo_id, private=private, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=list(FILES)))
    except (OSError, HTTPError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"nothing could be pushed to {repo_id!r} on the Hugging Face hub ({reason(error)}); check the "
            "name, the network, and that `hf auth login` was run with a token that may write"
        ) from error


def save_config(config: Any, folder: Path, name: str = CONFIG_NAME) -> None:
    """Write a dataclass as config.json, or a file of another name, atomically."""
    write_text(json.dumps(asdict(config), indent=1) + "\n", folder / name)


def read_config(config_class: type[Config], folder: Path, kind: str, name: str = CONFIG_NAME) -> Config:
    """Read what `save_config` wrote, by this or an older version: fields with defaults may be missing. name: of the
    file.

    Raises `InputError` for unknown keys, missing fields without a default, and values of a wrong type.
    """
    path = folder / name
    saved = read_json(path, kind)
    known = {field.name: field for field in fields(config_class)}  # type: ignore[arg-type]
    needed = [name for name, field in known.items() if field.default is field.default_factory is MISSING]
    wrong = [f"{name} is unknown" for name in saved if name not in known]
    wrong += [f"{name} is missing" for name in needed if name not in saved]
    if wrong:
        raise InputError(f"{path} is no config of {kind}: {', '.join(wrong)}; its fields are {', '.join(known)}")
    return typed(config_class, saved, f"{path} is no config of {kind}")


def typed(config_class: type[Config], values: Mapping[str, Any], complaint: str) -> Config:
    """A dataclass of what JSON holds, fields checked by their types. Raises `InputError` that names the wrong keys."""
    try:
        return TypeAdapter(config_class).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise InputError(
            f"{complaint}: {'; '.join(_wrong(one) for one in error.errors(include_url=False)[:5])}"
        ) from None


def _wrong(error: Any) -> str:
    if error["type"] == "value_error":  # raised by a check of ours, whose message is whole
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{'.'.join(map(str, error['loc']))} is {shortened(repr(error['input']), 80)}; {message}"


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """The JSON object in a config file. Raises `InputError` for anything else."""
    try:
        saved = read_json_file(path)
    except InputError as error:
        raise InputError(f"{error}; expected a folder saved by {kind}") from error
    if not isinstance(saved, dict):
        raise InputError(f"{path} holds {type(saved).__name__}; expected an object, the config of {kind}")
    return saved


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the files of a transformers tokenizer (or open_clip's around one); tokenizer.json without the indents and
    line ends that are a third of it and more."""
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer.json"
    if path.is_file():
        write_text(json.dumps(read_json_file(path), ensure_ascii=False, separators=(",", ":")), path)


def save_weights(
    tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None = None, metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors, atomically; floating-point tensors in `dtype` if given."""
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in tensors.items()
    }
    with replacing(path) as part:
        save_file(stored, part, metadata=metadata or {"format": "pt"})


def relative_name(name: str, folder: Path) -> str:
    """How a config in `folder` names another model: a hub id as it is, a local folder by its relative path."""
    if not Path(name).is_dir():
        return name
    relative = os.path.relpath(Path(name).resolve(), folder.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def check_digest(path: Path, sha256: str) -> None:
    """Raises `InputError` where the file's SHA-256 does not begin with these hexadecimal digits."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)})") from error
    if not found.startswith(sha256):
        raise InputError(
            f"{path} is damaged, or not the file that was published: its SHA-256 is {found}, expected {sha256}; "
            "download or install it anew"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises `InputError` that names it."""
    check_regular(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read, missing or damaged ({error}); expected safetensors") from error


def load_weights(
    model: nn.Module,
    path: Path,
    *,
    tied: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
    config_name: str = CONFIG_NAME,
) -> None:
    """Load safetensors into `model` in the model's dtype; names and shapes must match (`tied`: see `fill_strictly`).

    elsewhere: parts of the model whose weights are there already, and not in the file.
    """
    tensors = read_weights(path)
    there = [name for name in model.state_dict() if name.startswith(tuple(f"{place}." for place in elsewhere))]
    fill_strictly(model, tensors, f"{path} does not fit the {config_name} beside it", tied=[*tied, *there])


def fill_strictly(model: nn.Module, tensors: Mapping[str, Tensor], complaint: str, *, tied: Sequence[str] = ()) -> None:
    """`load_state_dict(strict=True)`, with an `InputError` that begins with `complaint`.

    tied: names of tied weights, which may be missing.
    """
    own = model.state_dict()
    check_weights(model, tensors, complaint.partition(" does not fit")[0])
    try:
        model.load_state_dict({**{name: own[name] for name in tied}, **tensors}, strict=True)
    except RuntimeError as error:
        raise InputError(f"{complaint}: {shortened(error)}") from error


@contextmanager
def without_bars(source: str | Path, *logs: Any) -> Iterator[None]:
    """Turn off the progress bars of libraries while a folder is loaded; a hub id may be a long download, which shows.

    logs: the libraries' `logging` modules (`transformers.utils.logging`). These switches are global, so they are
    restored.
    """
    shown = [log for log in logs if log.is_progress_bar_enabled()] if Path(source).is_dir() else []
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


@contextmanager
def quiet(*logs: Any) -> Iterator[None]:
    """Errors alone from these libraries' `logging` modules, whose switches are global and so restored."""
    levels = [log.get_verbosity() for log in logs]
    for log in logs:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)


def load_pickled(path: Path, *, read: str, expected: str) -> Any:
    """What a checkpoint of `torch.save` holds; no code of it runs. read, expected: what the errors name.

    Raises `InputError` for a pickle of anything but tensors and plain values, and for a file that cannot be read.
    """
    check_regular(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        _check_stored(loaded, path)
        return loaded
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused: a pickle can hold code, and only {read} are read; expected {expected} "
            f"({reason(error)})"
        ) from error
    except InputError:
        raise
    except Exception as error:  # damaged archives and pickles raise almost anything
        raise InputError(f"{path} cannot be read, missing or damaged ({reason(error)})") from error


def _check_stored(loaded: Any, path: Path) -> None:
    """Raise `InputError` for tensors that are larger than what the file stores of them: a pickle may stretch one number
    to any shape."""
    left = [loaded]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
        elif isinstance(one, Tensor):
            plain = one.layout == torch.strided and one.device.type == "cpu"
            if not plain or one.numel() * one.element_size() > one.untyped_storage().nbytes():
                raise InputError(
                    f"{path} holds a tensor of shape {tuple(one.shape)} without its numbers; save it again"
                )
