"""Shots similar to the query: nearest image or question in CLIP's space (RICES, Yang et al. 2022, arXiv 2109.05014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..encoders.images import load_image
from ..errors import InputError
from ..prompting.fewshot import select_shots
from ..prompting.templates import Shot

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoders.clip.clip import Clip

KINDS = ("image", "question")


class NearestShots:
    """Selects shots for each query, the most similar last: `reader.ask(files, questions, shots=NearestShots(clip,
    candidates, 4))`. The candidates are embedded once.

    by: "image" (a file or data URL) or "question". Raises `InputError` for candidates without one, for unreadable
    images and too few candidates; a call does so for its query.
    """

    def __init__(self, clip: Clip, candidates: Sequence[Shot], num_fewshot: int, *, by: str = "image") -> None:
        if by not in KINDS:
            raise InputError(f"shots nearest by {by!r}; expected one of {', '.join(KINDS)}")
        self.clip, self.candidates, self.num_fewshot, self.by = clip, tuple(candidates), num_fewshot, by
        self._embeddings = self._embed(self.candidates)

    def __call__(self, query: Shot) -> list[Shot]:
        similarity = (self._embeddings @ self._embed([query])[0]).tolist()
        return select_shots(
            self.candidates, self.num_fewshot, strategy="nearest", query_id=query.id, similarity=similarity
        )

    def _embed(self, shots: Sequence[Shot]) -> Tensor:
        """(N, D), L2-normalised."""
        for shot in shots:
            if not getattr(shot, self.by):
                raise InputError(f"shots nearest by {self.by}, but {shot.id or 'one of them'!r} has none; give it one")
        if self.by == "question":
            return self.clip.embed_texts([shot.question for shot in shots])
        return self.clip.embed_images([load_image(shot.image) for shot in shots])
