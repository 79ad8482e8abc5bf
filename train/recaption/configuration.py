"""DST/recaption.json: which source, encoders and settings made the captions in a folder. Others are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from ...encoders.base import Encoder
from ...encoders.fingerprint import fingerprint
from ...encoders.saved_models import read_json, typed, write_text
from ...errors import InputError
from ..data.patterns import local_files
from ..engine.run import installed_versions
from .ledger import named_lock
from .part_file import disk_errors

NAME = "recaption.json"
_FORMAT = 1
_PACKAGES = ("torch", "open_clip_torch", "transformers", "pyarrow")


@dataclass(frozen=True)
class Configuration:
    """All that decides which captions are written."""

    source: Mapping[str, Any]  # the `SourceSettings`; of sources without shards the size of parts and their identity
    styles: Mapping[str, Mapping[str, Any]]  # style -> `encoder_facts`
    clip: Mapping[str, Any] | None = None
    format: int = field(default=_FORMAT)


def encoder_facts(spec: str, encoder: Encoder | Any) -> dict[str, Any]:
    """Spec, digest of the weights, and the settings that are numbers or words."""
    settings: dict[str, Any] = {}
    for name in ("config", "search"):
        value = getattr(encoder, name, None)
        if is_dataclass(value) and not isinstance(value, type):
            settings |= asdict(value)
    plain = {name: value for name, value in settings.items() if isinstance(value, str | int | float | None)}
    return {"encoder": spec, "weights": fingerprint(encoder), "settings": plain}


def claim_folder(folder: Path, configuration: Configuration) -> None:
    """Write the configuration into a new folder, or check that it is the one that is there.

    Raises `InputError` for a folder of another configuration, naming the differences, and for one of other files.
    """
    path = folder / NAME
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with named_lock(folder, NAME):
            if path.exists():
                check_same(path, configuration)
                return
            others = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
            if others:
                raise InputError(
                    f"{folder} has other files, such as {others[0]}, but no {NAME}; expected a new folder, or one that "
                    "this command wrote"
                )
            made = {"configuration": asdict(configuration), "versions": installed_versions(("textlens", *_PACKAGES))}
            write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", path)


def check_same(path: Path, configuration: Configuration) -> None:
    """Raises `InputError` unless a file has this configuration."""
    there, here = _flat(asdict(read_configuration(path.parent))), _flat(asdict(configuration))
    names = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    others = {name.rpartition(".encoder")[0] for name in names if name.endswith(".encoder")}  # all of them differs
    told = [name for name in names if name.rpartition(".settings.")[0] not in others]
    if told:
        different = (f"{name} was {there.get(name, 'not set')}, is {here.get(name, 'not set')}" for name in told)
        raise InputError(
            f"{path.parent} holds captions of another configuration: {'; '.join(different)}. Expected the same one, or "
            "a new folder"
        )


def read_configuration(folder: Path) -> Configuration:
    """Raises `InputError` for a folder without one."""
    path = folder / NAME
    try:
        return typed(Configuration, read_json(path, "textlens recaption")["configuration"], "its configuration")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a folder that textlens recaption wrote") from error


def check_apart(source: str, folder: Path) -> None:
    """Raises `InputError` where the output folder lies in the source, or the source in the output folder."""
    out = os.path.realpath(folder)
    for place, is_folder in _places(source):
        here = os.path.realpath(place)
        if here == out or (is_folder and _within(out, here)):
            raise InputError(f"{folder} lies in the source, {place}; expected a folder outside of it")
        if _within(here, out):
            raise InputError(f"the source, {place}, lies in the output folder, {folder}; expected another one")


def _places(source: str) -> list[tuple[str, bool]]:
    """Folders and files of a source, and whether all that lies in a folder belongs to it."""
    path = source.partition("#")[0]
    if not os.path.exists(path):
        path = path.partition(":")[2]
    if not path or "://" in path:
        return []
    if os.path.isdir(path):
        return [(path, True)]
    files = local_files(path, ".tar")
    folders = dict.fromkeys(os.path.dirname(file) or "." for file in files)
    return [(one, False) for one in folders]


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(os.path.join(outer, ""))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, as JSON has them."""
    if isinstance(value, Mapping) and value:
        parts = (_flat(inner, f"{name}.{key}" if name else key) for key, inner in value.items())
        return {key: inner for part in parts for key, inner in part.items()}
    return {name: json.loads(json.dumps(value))}
