"""Reading what others wrote: regular files of a bounded size, as text, JSON or YAML; anything else is an error."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from .errors import InputError, reason

MAX_TEXT = 64 << 20  # bytes of a settings or config file; tokenizers of 250,000 tokens have 17 MB
MAX_VALUES = 1_000_000  # in a YAML file, aliases counted as often as they stand for something
# A pipe that nobody writes to does not block. Windows has not all of them.
WITHOUT_WAITING = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
)
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")


def check_regular(path: Path) -> None:
    """Raise `InputError` unless `path` is a file that can be read to its end: no folder, pipe or device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}); expected a file") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} cannot be read (it is {_kind(mode)}); expected a file")


def read_text(path: Path, limit: int = MAX_TEXT, *, encoding: str = "utf-8") -> str:
    """The UTF-8 text of a regular file of at most `limit` bytes. Raises `InputError` that names the file.

    encoding: "utf-8-sig" passes over a byte order mark, which editors of Windows write.
    """
    try:
        # What is open is judged, so nothing can be put in its place.
        with os.fdopen(os.open(path, WITHOUT_WAITING), "rb") as file:
            mode, size = os.fstat(file.fileno()).st_mode, os.fstat(file.fileno()).st_size
            if not stat.S_ISREG(mode):
                raise InputError(f"{path} cannot be read (it is {_kind(mode)}); expected a file")
            if size > limit:
                raise InputError(f"{path} has {size:,} bytes; expected {limit:,} at most")
            return file.read(size).decode(encoding)  # of that size: `read` makes room for all it is told
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}); expected UTF-8 text") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}); expected a file") from error


def read_json_file(path: Path) -> Any:
    """What a JSON file holds. Raises `InputError` for anything else, NaN, infinity and endless nesting among it."""
    try:
        return json.loads(read_text(path), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}); expected JSON") from error


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; 1e-3 is a number, as in YAML 1.2. Raises `InputError` that names the file.

    Aliases may not multiply what is there beyond `MAX_VALUES`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        key: list(pairs) for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
    text = read_text(path)
    try:
        values = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise InputError(f"cannot read settings from {path}: {reason(error)}") from error
    if _too_many(values):
        raise InputError(f"{path} holds more than {MAX_VALUES:,} values, or nests without end; expected settings")
    return values


def _too_many(values: Any) -> bool:
    """Counts what aliases stand for each time, and so ends for values that hold themselves."""
    left, count = [(values, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if count > MAX_VALUES or depth > 100:
            return True
        if isinstance(value, dict):
            left += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list | tuple | set):
            left += [(inner, depth + 1) for inner in value]
    return False


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
