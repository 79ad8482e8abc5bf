"""CLIP embeddings of texts, made once, kept in a file and memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from ...encoders.clip.space import TextSpace, space_name
from ...encoders.decap.memory import SAME_TEXT
from ...encoders.decap.memory_build import embed_texts
from ...progress import progress_bar
from .mapped_array import new_array

Embeddings = np.ndarray[tuple[int, int], np.dtype[np.float16]]


def cached_embeddings(texts: Sequence[str], clip: TextSpace, folder: Path) -> Embeddings:
    """(N, D) fp16, memory-mapped from a file in `folder` that is made if it is not there yet.

    The file is named after the texts and the CLIP's name; one made with other weights of that name is made again.
    Processes that ask at the same time wait for the first.
    """
    path = folder / f"{fingerprint(texts, clip)}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists() or not _current(path, texts, clip):
            _write(path, texts, clip)
    return _mapped(path)


def fingerprint(texts: Sequence[str], clip: TextSpace) -> str:
    """Names a cache file: 16 hexadecimal digits of the texts, the CLIP's name and its dimension."""
    digest = hashlib.sha256(f"{space_name(clip)}\n{clip.embed_dim}".encode())
    for text in texts:
        digest.update(b"\n" + text.encode())
    return digest.hexdigest()[:16]


def _mapped(path: Path) -> Embeddings:
    return np.load(path, mmap_mode="c")  # "c": torch warns of read-only arrays


def _current(path: Path, texts: Sequence[str], clip: TextSpace) -> bool:
    again = clip.embed_texts(texts[:1])[0].float().cpu()
    kept = torch.from_numpy(_mapped(path)[0].astype(np.float32))
    return bool(torch.cosine_similarity(again, kept, dim=0) >= SAME_TEXT)


def _write(path: Path, texts: Sequence[str], clip: TextSpace, batch_size: int = 256) -> None:
    shape = (len(texts), clip.embed_dim)
    with new_array(path, shape) as rows, progress_bar("captions") as bar:
        task = bar.add_task("embedding captions", total=len(texts), note="")
        for start in range(0, len(texts), batch_size):
            part = embed_texts(texts[start : start + batch_size], clip, batch_size)
            rows[start : start + len(part)] = part.numpy()
            bar.update(task, advance=len(part))
