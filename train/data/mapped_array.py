"""Arrays in files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@contextmanager
def new_array(path: Path, shape: Sequence[int]) -> Iterator[NDArray[np.float16]]:
    """A memory-mapped fp16 array to fill. It gets its name, a `.npy` file, at the end of the block; an error leaves
    nothing behind."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=tuple(shape))
        yield rows
        rows.flush()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
