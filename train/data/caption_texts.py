"""What text-only training reads: captions from any source, their ids, and embeddings made once and mapped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...encoders.clip.space import CaptionSpace, space_name
from ...encoders.decap.memory import SAME_TEXT
from ...encoders.decap.memory_build import captions_from_dataset, captions_from_file, embed_texts
from ...errors import InputError
from ...progress import progress_bar

Embeddings = np.ndarray[tuple[int, int], np.dtype[np.float16]]


def load_captions(source: str, *, number: int, styles: Mapping[str, float], seed: int, split: str) -> list[str]:
    """Distinct captions, in order, from "scenes", "datasets:NAME:COLUMN", or a text file with one per line.

    number, styles: how many scenes to caption and in which styles (weights); `split` is of scenes and data sets.
    """
    if source == "scenes":
        captions = scene_captions(number, styles, split, seed)
    elif source.startswith("datasets:"):
        name, _, column = source.removeprefix("datasets:").rpartition(":")
        if not name:
            raise InputError(f"source is {source!r}; expected 'datasets:NAME:COLUMN'")
        captions = captions_from_dataset(name, column, split)
    else:
        captions = captions_from_file(source)
    return list(dict.fromkeys(captions))


def scene_captions(number: int, styles: Mapping[str, float], split: str, seed: int) -> list[str]:
    """One caption of each of `number` made scenes, its style drawn with these weights."""
    from ...scenes.scene import STYLES, captions, scene_at, scene_rng

    unknown = set(styles) - set(STYLES)
    if unknown or not styles or number < 1:
        raise InputError(f"got {number} scenes in styles {sorted(styles)}; expected 1 or more, in {', '.join(STYLES)}")
    written = []
    for index in range(number):
        rng = scene_rng(split, seed, index, "captions")
        (style,) = rng.choices(list(styles), weights=list(styles.values()))
        written.append(captions(scene_at(index, split, seed), style, rng))
    return written


@dataclass(frozen=True)
class CaptionIds:
    """ids: (N, max_tokens) int64, start and end included; lengths: (N,). shortened: how many captions were too long."""

    ids: Tensor
    lengths: Tensor
    shortened: int


def caption_ids(texts: Sequence[str], clip: CaptionSpace, max_tokens: int) -> CaptionIds:
    """Token ids of captions. Long ones are shortened in front of the end token, which every caption keeps."""
    if max_tokens < 3:
        raise InputError(f"max_tokens is {max_tokens}; expected at least 3: start, one word, end")
    if max_tokens > clip.context_length:
        raise InputError(f"max_tokens is {max_tokens}, but CLIP {clip.name!r} reads {clip.context_length}; lower it")
    if clip.eos_id is None:
        raise InputError(f"the tokenizer of CLIP {clip.name!r} has no end token; DeCap cannot learn where to stop")
    ids = clip.tokenizer(list(texts), context_length=max_tokens + 1)  # (N, max_tokens + 1): one more shows what is long
    lengths = (ids == clip.eos_id).int().argmax(dim=1) + 1
    long = lengths > max_tokens
    lengths = lengths.clamp(max=max_tokens)
    ids = ids[:, :max_tokens].clone()
    ids[long, -1] = clip.eos_id
    return CaptionIds(ids, lengths, int(long.sum()))


def vocabulary_size(clip: CaptionSpace) -> int:
    """How many ids the CLIP's tokenizer has a text for."""
    inner = getattr(clip.tokenizer, "tokenizer", None)
    return len(inner) if inner is not None else int(clip.tokenizer.vocab_size)


def cached_embeddings(texts: Sequence[str], clip: CaptionSpace, folder: Path) -> Embeddings:
    """(N, D) fp16 text embeddings, memory-mapped from a file in `folder` that is made if it is not there yet.

    The file is named after the texts and the CLIP's name; one made with other weights of that name is made again.
    """
    path = folder / f"{fingerprint(texts, clip)}.npy"
    if path.exists():
        rows: Embeddings = np.load(path, mmap_mode="r")
        again = clip.embed_texts(texts[:1])[0].float().cpu()
        if torch.dot(again, torch.from_numpy(rows[0].astype(np.float32))) >= SAME_TEXT:
            return rows
    _write(path, texts, clip)
    return np.load(path, mmap_mode="r")


def fingerprint(texts: Sequence[str], clip: CaptionSpace) -> str:
    """Names a cache file: 16 hexadecimal digits of the texts, the CLIP's name and its dimension."""
    digest = hashlib.sha256(f"{space_name(clip)}\n{clip.embed_dim}".encode())
    for text in texts:
        digest.update(b"\n" + text.encode())
    return digest.hexdigest()[:16]


def _write(path: Path, texts: Sequence[str], clip: CaptionSpace, batch_size: int = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # several processes may be at it at once
    shape = (len(texts), clip.embed_dim)
    rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
    with progress_bar("captions") as bar:
        task = bar.add_task("embedding captions", total=len(texts), note="")
        for start in range(0, len(texts), batch_size):
            part = embed_texts(texts[start : start + batch_size], clip, batch_size)
            rows[start : start + len(part)] = part.numpy()
            bar.update(task, advance=len(part))
    rows.flush()
    os.replace(temporary, path)
