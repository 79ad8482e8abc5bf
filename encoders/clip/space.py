"""Which CLIP a checkpoint belongs to: the embedding space it needs, and how its config names it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ..saved_models import relative_name

if TYPE_CHECKING:
    from PIL.Image import Image


class TextSpace(Protocol):
    """Embeddings of texts."""

    name: str  # tells this space from others
    embed_dim: int  # D

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32."""
        ...


class CaptionSpace(TextSpace, Protocol):
    """The part of a CLIP that DeCap and its memory use, whose embeddings are L2-normalised. `clip.Clip` is one."""

    context_length: int  # tokens per text, start and end included
    tokenizer: Any  # (texts, context_length=L) -> (N, L) ids with start and end; cut to fit, the end kept
    bos_id: int | None
    eos_id: int | None

    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """(B, D) float32, L2-normalised."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, without special tokens."""
        ...

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The word pieces of `ids`, without special tokens."""
        ...


def space_name(clip: TextSpace) -> str:
    """Name of a CLIP's space: "model/tag" as it is, a local folder by its last part, wherever it lies."""
    return Path(clip.name).resolve().name if Path(clip.name).is_dir() else clip.name


def clip_spec(clip: CaptionSpace, folder: Path) -> str:
    """How a config in `folder` names `clip`: "model/tag" as it is, a local folder by its relative path."""
    return relative_name(clip.name, folder)


def space_of(spec: str) -> str:
    """`space_name` of the CLIP that a `clip_spec` names: "coca" for "../coca"."""
    return Path(spec).name if spec.startswith(".") else spec
