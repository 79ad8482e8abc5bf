"""DeCap's support memory: text embeddings of captions, and the captions. Images are read as mixtures of these."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import InputError
from .projection import Neighbours, ProjectionResult, nearest, project

if TYPE_CHECKING:
    from PIL.Image import Image

EMBEDDINGS_NAME = "memory.safetensors"
TEXTS_NAME = "memory.txt"
SAME_TEXT = 0.98  # cosine of a text's embedding in fp16 and in any other precision; other weights give far less


class CaptionSpace(Protocol):
    """What DeCap and its memory need of a CLIP: a shared space and its tokenizer. `clip.Clip` is one.

    name: tells this space from others. embed_dim: D. context_length: tokens it reads, begin and end included.
    tokenizer: (texts, context_length=L) -> (N, L) ids, begin and end included, cut in front of the end.
    """

    name: str
    embed_dim: int
    context_length: int
    tokenizer: Any
    bos_id: int | None
    eos_id: int | None

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32, L2-normalised."""
        ...

    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """(B, D) float32, L2-normalised."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to words, without special tokens."""
        ...

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The word pieces of `ids`, without special tokens."""
        ...


@dataclass(frozen=True)
class SupportMemory:
    """embeddings: (N, D) unit rows, fp16 as a rule. texts: N captions, one line each. clip: name of their CLIP.

    Build a large one with `memory_build.build_memory`.
    """

    embeddings: Tensor
    texts: Sequence[str]
    clip: str

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.texts):
            shape = tuple(self.embeddings.shape)
            raise InputError(
                f"a support memory needs one row per text; got embeddings {shape}, {len(self.texts)} texts"
            )
        if not self.texts:
            raise InputError("the support memory is empty; build it from at least one caption")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def embed_dim(self) -> int:
        return self.embeddings.shape[1]

    def check_clip(self, clip: CaptionSpace) -> None:
        """Raise `InputError` unless `clip` has the memory's dimension, name, and embedding of its first caption."""
        name = space_name(clip)
        if (clip.embed_dim, name) != (self.embed_dim, self.clip):
            raise InputError(
                f"the support memory was built with CLIP {self.clip!r} ({self.embed_dim} numbers per embedding), but "
                f"{name!r} ({clip.embed_dim}) is in use; build the memory again with {name!r}"
            )
        again = clip.embed_texts(self.texts[:1])[0].float().cpu()
        if torch.dot(again, self.embeddings[0].float().cpu()) < SAME_TEXT:
            raise InputError(
                f"the support memory was built with other weights of CLIP {name!r}: its first caption now has another "
                "embedding; build the memory again"
            )

    def project(
        self, queries: Tensor, temperature: float, *, top_k: int | None = None, exclude: Tensor | None = None
    ) -> ProjectionResult:
        """(B, D) queries as softmax mixtures of the entries; see `projection.project`."""
        return project(queries, self.embeddings, temperature, top_k=top_k, exclude=exclude)

    def nearest(self, queries: Tensor, k: int = 1) -> Neighbours:
        """The `k` entries nearest to each of (B, D) queries, best first."""
        return nearest(queries, self.embeddings, k)

    def subset(self, rows: Sequence[int]) -> SupportMemory:
        """A memory of these rows alone."""
        return SupportMemory(self.embeddings[list(rows)], [self.texts[row] for row in rows], self.clip)

    def to(self, device: str | torch.device) -> SupportMemory:
        return SupportMemory(self.embeddings.to(device), self.texts, self.clip)

    def save(self, folder: str | Path) -> None:
        """Write `memory.safetensors` (fp16) and `memory.txt` (one caption per line) into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{TEXTS_NAME}"
        temporary.write_text("".join(f"{one_line(text)}\n" for text in self.texts), encoding="utf-8", newline="\n")
        os.replace(temporary, folder / TEXTS_NAME)
        temporary = folder / f".{EMBEDDINGS_NAME}"
        tensors = {"embeddings": self.embeddings.detach().to("cpu", torch.float16).contiguous()}
        save_file(tensors, temporary, metadata={"textlens": json.dumps({"clip": self.clip, "entries": len(self)})})
        os.replace(temporary, folder / EMBEDDINGS_NAME)  # last: a memory is there once this file is

    @classmethod
    def load(cls, folder: str | Path) -> SupportMemory:
        """Read what `save` wrote. Raises `InputError` where files are missing, damaged or do not belong together."""
        folder = Path(folder)
        try:
            with safe_open(folder / EMBEDDINGS_NAME, framework="pt") as file:
                about = json.loads((file.metadata() or {})["textlens"])
                embeddings = file.get_tensor("embeddings")
            texts = (folder / TEXTS_NAME).read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise InputError(
                f"no support memory can be read from {folder} ({error}); expected {EMBEDDINGS_NAME} and {TEXTS_NAME} "
                "as textlens writes them"
            ) from error
        if not len(texts) == len(embeddings) == about["entries"]:
            raise InputError(
                f"the memory in {folder} has {len(embeddings)} embeddings for {len(texts)} texts; build it again"
            )
        return cls(embeddings, texts, about["clip"])


def one_line(text: str) -> str:
    """White space of any kind becomes one space, so that a caption is one line of a text file."""
    return " ".join(text.split())


def clean_captions(texts: Iterable[str]) -> list[str]:
    """Captions as `one_line` makes them. Raises `InputError` if there are none, or one is empty or no text."""
    captions = []
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise InputError(f"caption {number} is {type(text).__name__}, expected text")
        captions.append(one_line(text))
        if not captions[-1]:
            raise InputError(
                f"caption {number} is empty; remove it: an empty text embeds as something, but means nothing"
            )
    if not captions:
        raise InputError("there are no captions; expected at least one")
    return captions


def space_name(clip: CaptionSpace) -> str:
    """What tells CLIPs apart: a hub name as it is, a local folder by its own name wherever it lies."""
    return Path(clip.name).resolve().name if Path(clip.name).is_dir() else clip.name
