"""DeCap's support memory: captions and their CLIP text embeddings (Li et al. 2023, arXiv 2303.03032)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import InputError
from ...input_files import check_regular, read_text
from ..clip.space import CaptionSpace, space_name
from ..saved_models import save_weights, write_text
from .projection import Neighbours, ProjectionResult, nearest, project

EMBEDDINGS_NAME = "memory.safetensors"
TEXTS_NAME = "memory.txt"
CHECKED = 8  # captions that are embedded again, to see whether the memory fits a CLIP
UNIT = 0.02  # by how much the length of an embedding may be off, in fp16
MAX_TEXTS = 16 << 30  # bytes of captions
SAME_TEXT = 0.98  # cosine of one text's embeddings in two precisions; with other weights it is far below


@dataclass(frozen=True)
class SupportMemory:
    """Captions and their embeddings; build a large one with `memory_build.build_memory`."""

    embeddings: Tensor  # (N, D) unit rows, usually fp16
    texts: Sequence[str]  # N captions, one line each
    clip: str  # `space_name` of their CLIP

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
        """Raise `InputError` unless `clip` has the memory's D and name, and embeds some captions alike, as far as
        its text tower is here."""
        name = space_name(clip)
        if (clip.embed_dim, name) != (self.embed_dim, self.clip):
            raise InputError(
                f"the support memory was built with CLIP {self.clip!r} ({self.embed_dim} numbers per embedding), but "
                f"{name!r} ({clip.embed_dim}) is in use; build the memory again with {name!r}"
            )
        if not getattr(clip, "can_embed_texts", True):
            return
        rows = sorted({place * (len(self) - 1) // (CHECKED - 1) for place in range(CHECKED)})  # first and last, too
        again = clip.embed_texts([self.texts[row] for row in rows]).float().cpu()
        alike = (again * self.embeddings[rows].float().cpu()).sum(-1)
        if not bool((alike >= SAME_TEXT).all()):
            other = rows[int(alike.argmin())] + 1
            raise InputError(
                f"the support memory was built with other weights of CLIP {name!r}, or its lines have moved: caption "
                f"{other} now has another embedding; build the memory again"
            )

    def project(
        self, queries: Tensor, temperature: float, *, top_k: int | None = None, exclude: Tensor | None = None
    ) -> ProjectionResult:
        """Project (B, D) queries onto the entries; see `projection.project`."""
        return project(queries, self.embeddings, temperature, top_k=top_k, exclude=exclude)

    def nearest(self, queries: Tensor, k: int = 1) -> Neighbours:
        """The `k` nearest entries of each of (B, D) queries, best first."""
        return nearest(queries, self.embeddings, k)

    def subset(self, rows: Sequence[int]) -> SupportMemory:
        """The memory of these rows alone."""
        return SupportMemory(self.embeddings[list(rows)], [self.texts[row] for row in rows], self.clip)

    def to(self, device: str | torch.device) -> SupportMemory:
        return SupportMemory(self.embeddings.to(device), self.texts, self.clip)

    def save(self, folder: str | Path) -> None:
        """Write `memory.safetensors` (fp16) and `memory.txt` (one caption per line) into `folder`."""
        write_text("".join(f"{one_line(text)}\n" for text in self.texts), Path(folder) / TEXTS_NAME)
        about = {"textlens": json.dumps({"clip": self.clip, "entries": len(self)})}
        # Last: with this file the memory is complete.
        save_weights({"embeddings": self.embeddings}, Path(folder) / EMBEDDINGS_NAME, torch.float16, about)

    @classmethod
    def load(cls, folder: str | Path) -> SupportMemory:
        """Read what `save` wrote. Raises `InputError` if files are missing, damaged or do not match."""
        folder = Path(folder)
        check_regular(folder / EMBEDDINGS_NAME)
        try:
            with safe_open(folder / EMBEDDINGS_NAME, framework="pt") as file:
                about = json.loads((file.metadata() or {})["textlens"])
                embeddings = file.get_tensor("embeddings")
            number, clip = about["entries"], about["clip"]
            texts = read_text(folder / TEXTS_NAME, MAX_TEXTS).split("\n")[:-1]
        except (OSError, KeyError, ValueError, TypeError, RecursionError, SafetensorError) as error:
            raise InputError(
                f"no support memory can be read from {folder} ({error}); expected {EMBEDDINGS_NAME} and {TEXTS_NAME} "
                "as textlens writes them"
            ) from error
        if embeddings.ndim != 2 or not embeddings.is_floating_point() or not isinstance(clip, str):
            raise InputError(f"the memory in {folder} is not one that textlens wrote; build it again")
        if not len(texts) == len(embeddings) == number:
            raise InputError(
                f"the memory in {folder} has {len(embeddings)} embeddings for {len(texts)} texts; build it again"
            )
        _check_rows(embeddings, folder / EMBEDDINGS_NAME)
        return cls(embeddings, texts, clip)


def _check_rows(embeddings: Tensor, path: Path) -> None:
    """Raise `InputError` unless every row is finite and of unit length."""
    for start in range(0, len(embeddings), 65536):
        lengths = torch.linalg.vector_norm(embeddings[start : start + 65536], dim=1, dtype=torch.float32)
        wrong = ~((lengths - 1).abs() < UNIT)  # NaN among them
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise InputError(
                f"{path}: the embedding of caption {start + row + 1} has length {float(lengths[row]):.3g}; expected 1. "
                "Build the memory again"
            )


def one_line(text: str) -> str:
    """Collapse white space, so that a caption is one line of a text file."""
    return " ".join(text.split())


def clean_captions(texts: Iterable[str]) -> list[str]:
    """Captions as single lines. Raises `InputError` if there are none, or one is empty or not a str."""
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
