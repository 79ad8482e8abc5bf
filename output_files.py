"""Writing files so that they are there whole or not at all; a full disk is an `OSError`, whoever writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OS_ERROR = re.compile(r"os error (\d+)")  # how libraries in Rust tell the system's number


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` once it is complete, and goes if it cannot be completed."""
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    try:
        with disk_writes(path):
            yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def disk_writes(path: Path) -> Iterator[None]:
    """`OSError` for what the system refuses safetensors and tokenizers, which have errors of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if not (number := _OS_ERROR.search(str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text, atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
