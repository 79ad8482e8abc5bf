"""Arrays in files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@contextmanager
def new_array(path: Path, shape: Sequence[int]) -> Iterator[NDArray[np.float16]]:
    """A memory-mapped fp16 array to fill. It gets its name, a `.npy` file, at the end of the block; an error leaves
    nothing behind. Its blocks are taken at once: a full disk is an `OSError` before the block."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=tuple(shape))
        _take_blocks(temporary)
        yield rows
        rows.flush()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _take_blocks(file: Path) -> None:
    """A sparse file has no blocks yet, and a page that finds none when it is written ends the process by SIGBUS.

    macOS and Windows have no such call, nor have some file systems: there it stays sparse.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, error.strerror, str(file.parent)) from error
