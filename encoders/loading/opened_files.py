"""Files that are judged once they are open, so that nothing can be put in their place between check and reading."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from ...errors import reason
from ...input_files import WITHOUT_WAITING
from .limits import ImageError, ImageLimits, check_bytes

_FOLDER = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_CLOEXEC"))
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, open for reading; links are followed. Raises `ImageError` for all else, and `OSError`."""
    try:
        return _regular(os.open(path, WITHOUT_WAITING))
    except PermissionError:
        if os.path.isdir(path):  # Windows opens no folders
            raise ImageError("is a directory; name the image files in it") from None
        raise


def read_regular(path: str | Path, limits: ImageLimits) -> bytes:
    """The bytes of a regular file. Raises `ImageError`."""
    try:
        with open_regular(path) as file:
            return _read(file, limits)
    except FileNotFoundError as error:
        raise ImageError("no such file; check the path") from error
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"the file cannot be read ({reason(error)})") from error


def read_below(root: Path, path: Path, limits: ImageLimits) -> bytes:
    """The bytes of the regular file `path` below the folder `root`, both of them resolved: from folder to folder, by
    descriptors, and through no link. What has become a link since it was resolved is refused. Raises `ImageError`.

    Where the system has no such opens (Windows), as `read_regular`.
    """
    if os.open not in os.supports_dir_fd or not _NO_LINK:
        return read_regular(path, limits)
    *folders, name = path.relative_to(root).parts or (".",)
    try:
        with ExitStack() as opened:
            place = _open_folder(root, None, opened)
            for folder in folders:
                place = _open_folder(folder, place, opened)
            with _regular(os.open(name, WITHOUT_WAITING | _NO_LINK, dir_fd=place)) as file:
                return _read(file, limits)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"the file cannot be read ({reason(error)})") from error


def _open_folder(path: str | Path, place: int | None, opened: ExitStack) -> int:
    descriptor = os.open(path, _FOLDER | _NO_LINK, dir_fd=place)
    opened.callback(os.close, descriptor)
    return descriptor


def _regular(descriptor: int) -> BinaryIO:
    """The descriptor as a file; closed with `ImageError` if it is that of something else."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise ImageError("is a directory; name the image files in it")
    raise ImageError("is not a regular file (a pipe, a socket or a device)")


def _read(file: BinaryIO, limits: ImageLimits) -> bytes:
    check_bytes(os.fstat(file.fileno()).st_size, limits)
    return file.read(limits.max_bytes + 1)
