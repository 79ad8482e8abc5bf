"""Shots similar to the query: nearest image, question or words in CLIP's space (RICES; PICa, Yang et al. 2022, arXiv
2109.05014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..encoders.images import load_image
from ..errors import InputError
from ..prompting.fewshot import select_shots
from ..prompting.templates import Shot

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..encoders.clip.clip import Clip

KINDS = ("image", "question", "words")
_BATCH = 64  # images


class NearestShots:
    """Selects shots for each query, the most similar last: `reader.ask(files, questions, shots=NearestShots(clip,
    candidates, 4))`. The candidates are embedded once.

    clip: or embeddings that several of these share. by: "image" (a file or data URL), "question", "words" (the
    contexts; where there are none their similarity is 0), or several with +, whose similarities are added, as in PICa.
    Raises `InputError` for candidates without an image or question, for unreadable images and too few candidates; a
    call does so for its query.
    """

    def __init__(
        self, clip: Clip | ShotEmbeddings, candidates: Sequence[Shot], num_fewshot: int, *, by: str = "image"
    ) -> None:
        self.kinds = similarity_kinds(by)
        self.embeddings = clip if isinstance(clip, ShotEmbeddings) else ShotEmbeddings(clip)
        self.candidates, self.num_fewshot, self.by = tuple(candidates), num_fewshot, by
        self._embedded = {kind: self.embeddings(self.candidates, kind) for kind in self.kinds}

    def __call__(self, query: Shot) -> list[Shot]:
        parts = [self._embedded[kind] @ self.embeddings([query], kind)[0] for kind in self.kinds]
        similarity = torch.stack(parts).sum(0).tolist()
        return select_shots(
            self.candidates, self.num_fewshot, strategy="nearest", query_id=query.id, similarity=similarity
        )


class ShotEmbeddings:
    """What shots are compared by, in a CLIP's space; each image and text is embedded once.

    load: image of a shot -> RGB image.
    """

    def __init__(self, clip: Clip, load: Callable[[str], Image] = load_image) -> None:
        self.clip, self.load = clip, load
        self._images: dict[str, Tensor] = {}
        self._texts: dict[str, Tensor] = {}

    def __call__(self, shots: Sequence[Shot], kind: str) -> Tensor:
        """(N, D) float32 on the CPU, L2-normalised; zeros for a shot without words. kind: one of `KINDS`.

        Raises `InputError` for a shot without an image or question, and for an unreadable image.
        """
        if kind == "words":
            return self._of_texts([" ".join(one.text for one in shot.context) for shot in shots])
        for shot in shots:
            if not getattr(shot, kind):
                raise InputError(f"shots nearest by {kind}, but {shot.id or 'one of them'!r} has none; give it one")
        if kind == "question":
            return self._of_texts([shot.question for shot in shots])
        return self._of_images([shot.image for shot in shots])

    def _of_texts(self, texts: Sequence[str]) -> Tensor:
        if missing := [text for text in dict.fromkeys(texts) if text.strip() and text not in self._texts]:
            self._texts.update(zip(missing, self.clip.embed_texts(missing).cpu(), strict=True))
        none = torch.zeros(self.clip.embed_dim)
        return self._stacked([self._texts.get(text, none) for text in texts])

    def _of_images(self, names: Sequence[str]) -> Tensor:
        missing = [name for name in dict.fromkeys(names) if name not in self._images]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            embedded = self.clip.embed_images([self.load(name) for name in batch]).cpu()
            self._images.update(zip(batch, embedded, strict=True))
        return self._stacked([self._images[name] for name in names])

    def _stacked(self, rows: Sequence[Tensor]) -> Tensor:
        return torch.stack([*rows]) if rows else torch.empty(0, self.clip.embed_dim)


def similarity_kinds(by: str) -> tuple[str, ...]:
    """The parts of such as "question+image". Raises `InputError` for others than `KINDS`."""
    kinds = tuple(dict.fromkeys(by.split("+")))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"shots nearest by {unknown[0]!r}; expected one of {', '.join(KINDS)}, or several with +")
    return kinds
