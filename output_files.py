"""Writing files so that they are there whole or not at all; a full disk is an `OSError`, whoever writes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .folder_lock import one_writer

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
def whole_folder(folder: str | Path, config: str) -> Iterator[Path]:
    """A temporary folder beside `folder` to write a model into. Its files move once all are complete; none does if they
    cannot be. Files of other names stay in `folder`, which is held against other writers.

    config: the file without which the others are no model. An old one goes first and the new one comes last, so that a
    kill in between leaves no mixture that loads.
    """
    folder = Path(os.path.realpath(folder))
    part, is_new = folder.with_name(f".{folder.name}.part"), not folder.exists()
    try:
        with one_writer(folder):
            shutil.rmtree(part, ignore_errors=True)  # of a killed process
            try:
                part.mkdir()
                with disk_writes(folder):
                    yield part
                (folder / config).unlink(missing_ok=True)
                for file in sorted(part.rglob("*"), key=lambda path: path == part / config):
                    place = folder / file.relative_to(part)
                    if file.is_dir():
                        place.mkdir(exist_ok=True)
                    else:
                        os.replace(file, place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except BaseException:
        if is_new:
            with suppress(OSError):  # not empty: another writer's
                folder.rmdir()
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
