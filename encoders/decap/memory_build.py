"""Build a support memory from many captions, resumably: embedded in shards, then joined."""

from __future__ import annotations

import gzip
import itertools
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import InputError
from ...folder_lock import one_writer
from ...input_files import check_regular
from ...progress import progress_bar
from ..clip.space import CaptionSpace, TextSpace, space_name
from ..loading.guard import is_finite
from ..saved_models import save_weights
from .memory import EMBEDDINGS_NAME, SupportMemory, clean_captions

SHARDS_NAME = "memory-shards"


def build_memory(
    texts: Iterable[str],
    clip: CaptionSpace,
    folder: str | Path,
    *,
    batch_size: int = 256,
    shard_size: int = 65536,
    cut_long: bool = False,
) -> SupportMemory:
    """Embed `texts` with `clip` into a memory in `folder`; called again after a kill, it resumes.

    A shard holds embeddings and texts in one file, written atomically. cut_long: truncate captions longer than the
    CLIP's context, else an error. Raises `InputError` for empty captions, and for a folder with other captions or
    those of another CLIP.
    """
    captions, folder = clean_captions(texts), Path(folder)
    if not cut_long:
        _check_lengths(captions, clip)
    with one_writer(folder):
        return _built(captions, clip, folder, batch_size, shard_size)


def _built(captions: list[str], clip: CaptionSpace, folder: Path, batch_size: int, shard_size: int) -> SupportMemory:
    if not (folder / EMBEDDINGS_NAME).exists():
        _write_shards(captions, clip, folder / SHARDS_NAME, batch_size, shard_size)
        shards = [_load_shard(path) for path in _shard_paths(folder / SHARDS_NAME)]
        rows = torch.cat([embeddings for embeddings, _ in shards])
        SupportMemory(rows, [text for _, texts in shards for text in texts], space_name(clip)).save(folder)
    if (folder / SHARDS_NAME).exists():
        shutil.rmtree(folder / SHARDS_NAME)
    memory = SupportMemory.load(folder)
    memory.check_clip(clip)
    _check_same(list(memory.texts), captions, folder)
    return memory


def captions_from_file(path: str | Path) -> list[str]:
    """The lines of a text file (`.gz` too), as captions. Raises `InputError` if it is missing, empty or not UTF-8."""
    return clean_captions(text_lines(path))


def text_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file, `.gz` too, with their ends. Raises `InputError` if it is missing or not UTF-8."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="\n") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"captions cannot be read from {path} ({error}); expected UTF-8 text, one per line") from error


def captions_from_dataset(name: str, column: str, split: str = "train") -> list[str]:
    """A column of texts, or lists of texts, of a Hugging Face data set (hub id, or folder of `save_to_disk`)."""
    from datasets import Dataset, load_dataset, load_from_disk

    try:
        data = load_from_disk(name) if Path(name).is_dir() else load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        raise InputError(f"data set {name!r} cannot be read ({error}); expected a hub id or a saved folder") from error
    rows = data if isinstance(data, Dataset) else data[split]
    if column not in rows.column_names:
        raise InputError(f"data set {name!r} has no column {column!r}; it has {', '.join(rows.column_names)}")
    return clean_captions(itertools.chain.from_iterable([v] if isinstance(v, str) else v for v in rows[column]))


def embed_texts(texts: Sequence[str], clip: TextSpace, batch_size: int = 256) -> Tensor:
    """Any number of texts -> (N, D) fp16 on the CPU. Raises `InputError` for NaN or infinite embeddings."""
    parts = [clip.embed_texts(texts[i : i + batch_size]).half().cpu() for i in range(0, len(texts), batch_size)]
    rows = torch.cat(parts)
    if not torch.isfinite(rows).all():
        raise InputError(f"CLIP {clip.name!r} gives text embeddings with NaN or infinity; check its weights")
    return rows


def _check_lengths(captions: list[str], clip: CaptionSpace) -> None:
    limit = clip.context_length
    # A token is at least one byte, so short captions need no tokenizer.
    doubtful = [(number, text) for number, text in enumerate(captions, 1) if len(text.encode()) > limit - 2]
    for start in range(0, len(doubtful), 4096):
        part = doubtful[start : start + 4096]
        ids = clip.tokenizer([text for _, text in part], context_length=limit + 1)
        first_end = (ids == clip.eos_id).int().argmax(dim=1)
        for (number, text), end in zip(part, first_end.tolist(), strict=True):
            if end == limit:
                raise InputError(
                    f"caption {number} ({text[:60]!r}) is longer than the {limit} tokens {clip.name!r} reads; "
                    "shorten it, or build with cut_long=True"
                )


def _write_shards(captions: list[str], clip: CaptionSpace, folder: Path, batch_size: int, shard_size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    for path in _shard_paths(folder):
        embeddings, texts = _load_shard(path)
        _check_same(texts, captions[done : done + len(texts)], folder)
        if embeddings.shape[1] != clip.embed_dim or not torch.allclose(
            embeddings[:1].float(), clip.embed_texts(texts[:1]).float().cpu(), atol=5e-3
        ):
            raise InputError(f"{path} was built with another CLIP than {clip.name!r}; remove {folder} and build again")
        done += len(texts)
    with progress_bar("captions") as bar:
        task = bar.add_task("embedding captions", total=len(captions), completed=done, note="")
        for start in range(done, len(captions), shard_size):
            texts = captions[start : start + shard_size]
            rows = []
            for i in range(0, len(texts), batch_size):
                rows.append(embed_texts(texts[i : i + batch_size], clip, batch_size))
                bar.update(task, advance=len(rows[-1]))
            _save_shard(folder / f"{start:012d}.safetensors", torch.cat(rows), texts)


def _shard_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _save_shard(path: Path, embeddings: Tensor, texts: list[str]) -> None:
    letters = torch.frombuffer(bytearray("\n".join(texts).encode()), dtype=torch.uint8)
    save_weights({"embeddings": embeddings, "texts": letters}, path)


def _load_shard(path: Path) -> tuple[Tensor, list[str]]:
    check_regular(path)
    try:
        tensors = load_file(path)
        embeddings, texts = tensors["embeddings"], tensors["texts"].numpy().tobytes().decode().split("\n")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and the shards after it, and build again") from error
    if embeddings.ndim != 2 or len(embeddings) != len(texts) or not is_finite(embeddings):
        raise InputError(
            f"{path} is damaged (embeddings {tuple(embeddings.shape)} of {len(texts)} texts); remove it and the shards "
            "after it, and build again"
        )
    return embeddings, texts


def _check_same(built: list[str], asked: list[str], folder: Path) -> None:
    if built != asked:
        place = next((i for i, pair in enumerate(zip(built, asked, strict=False)) if pair[0] != pair[1]), len(asked))
        raise InputError(
            f"{folder} holds a memory of {len(built)} other captions (first difference: caption {place + 1}); "
            "name another folder, or remove that one"
        )
