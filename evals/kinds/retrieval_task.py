"""How often an image is found among all by its words alone: by a CLIP, and by BM25 over the images' human captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from ...metrics.bm25 import bm25
from ...metrics.retrieval import RANKS, own_hits
from ...prompting.faithfulness.content_words import caption_words, joined_words
from ..harness.task_base import Task
from ..task_data.documents import TaskData
from ..task_data.task_config import TaskConfig
from .image_sets import ImageSetTask, load_image_set, model_place

_CLIP = {f"clip_r{k}": f"R@{k} by the CLIP: its image is among the {k} nearest to the words" for k in RANKS}
_BM25 = {f"bm25_r{k}": f"R@{k} by BM25 over the human captions" for k in RANKS}


class RetrievalTask(ImageSetTask):
    """BM25 alone where the CLIP's text tower is not installed. Equal scores count as a random order, in expectation."""

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        self.metrics = _BM25

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> Task:
        config = replace(config, clip=model_place(config.clip, folder))
        return cls(config, load_image_set(config, folder, limit=limit, seed=seed, captions=True), seed)

    def prepare(self) -> None:
        super().prepare()
        if self.clip.can_embed_texts:
            self.metrics = {**_CLIP, **_BM25}

    @property
    def notes(self) -> Sequence[str]:
        number = len(self.data.asked)
        chance = " / ".join(f"{100 * min(1, k / number):.2f}" for k in RANKS)
        made = [*self.data.notes, f"each image is sought among {number}; chance is {chance}"]
        if "clip_r1" not in self.metrics:
            made.append(f"BM25 alone: {self.clip.name} has no text tower here; pip install 'textlens[photos]'")
        return made

    @cached_property
    def _references(self) -> list[Sequence[str]]:
        return [joined_words(doc.references).all for doc in self.data.asked]

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        texts = [answer or "" for answer in answers]
        hits = {
            f"bm25_r{k}": one
            for k, one in own_hits(bm25([caption_words(t).all for t in texts], self._references)).items()
        }
        if "clip_r1" in self.metrics:
            similarity = self.clip.embed_texts(texts).cpu() @ self.embeddings.T  # (N, N)
            hits |= {f"clip_r{k}": one for k, one in own_hits(similarity).items()}
        written = torch.tensor([answer is not None for answer in answers])
        values = {name: (hits[name] * written).tolist() for name in self.metrics}
        return [{name: values[name][i] for name in values} for i in range(len(answers))]
