"""Image -> words -> an image drawn from the words alone: how much of the first is in the second.

CLIP similarity is the cosine of an image and its drawing; the Fréchet distance is between all drawings and all images.
The latter knows only sets: another image's words, which are the same words in another order, hardly change it.
Both are in the space of one CLIP: this is not FID, whose features are those of an Inception network. Where the task's
file names that network's weights (`inception`), FID stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...encoders.redraw.redrawer import DEFAULT_DECODER, Redrawer
from ...errors import InputError
from ...metrics.frechet_distance import frechet_distance
from ...metrics.inception_features import InceptionFeatures
from ..harness.task_base import Score, Task
from ..task_data.documents import TaskData
from ..task_data.task_config import TaskConfig
from .image_sets import ImageSetTask, load_image_set, model_place

_BATCH = 32  # drawings
_INCEPTION = 2048  # dimensions
_KEPT = 256  # drawings that the sample log may show


@dataclass(frozen=True)
class _Drawings:
    """embeddings: (N, D) in the CLIP's space, zeros where there are no words. features: (N, 2048) of Inception."""

    embeddings: Tensor
    features: Tensor | None


class ReconstructionTask(ImageSetTask):
    """One CLIP similarity and one Fréchet distance for each guidance scale.

    A drawing's noise depends on the seed and its image's number alone, so that only words differ between rows.
    """

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        space = Path(config.clip).name
        self.metrics = {
            **{f"clip_similarity@{g:g}": f"cosine in {space}'s space, guidance {g:g}" for g in config.guidance_scales},
            **{
                f"frechet@{g:g}": f"Fréchet distance in {space}'s space (no FID), guidance {g:g}, x100; lower is better"
                for g in config.guidance_scales
            },
        }
        if config.inception:
            self.metrics |= {f"fid@{g:g}": f"FID, guidance {g:g}; lower is better" for g in config.guidance_scales}
        self._pictures: list[Image | None] = []  # the first ones, of the first guidance scale
        self._last: tuple[tuple[str | None, ...], dict[float, _Drawings]] | None = None

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> Task:
        config = replace(config, clip=model_place(config.clip, folder), decoder=model_place(config.decoder, folder))
        if config.inception and not (folder / config.inception).is_file():
            raise InputError(
                f"{config.task}: inception: no file {folder / config.inception}; expected Inception's weights"
            )
        config = replace(config, inception=str(folder / config.inception) if config.inception else "")
        return cls(config, load_image_set(config, folder, limit=limit, seed=seed, captions=False), seed)

    def prepare(self) -> None:
        super().prepare()
        if self.config.inception:
            _ = self._inception
        self._redrawer = Redrawer.from_pretrained(self.config.decoder or DEFAULT_DECODER)
        self._dimensions = self.clip.embed_dim

    @property
    def notes(self) -> Sequence[str]:
        number, made = len(self.data.asked), list(self.data.notes)
        made.append(
            'a Fréchet distance compares sets, and hardly tells "other image" from right words; similarity does'
        )
        if number <= self._dimensions:
            few = f"{number} images are no more than the space's {self._dimensions} dimensions"
            made.append(f"{few}: Fréchet distances are biased upwards; compare those of the same number alone")
        if self.config.inception and number <= _INCEPTION:
            made.append(
                f"FID of {number} images is biased upwards: it needs many more than {_INCEPTION} (papers: 30,000)"
            )
        return made

    def pictures(self) -> Sequence[Image | None]:
        return self._pictures

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        found = {
            g: (drawn.embeddings * self.embeddings).sum(1).tolist()  # 0 for what was not drawn or cannot be read
            for g, drawn in self._drawn(answers).items()
        }
        return [{f"clip_similarity@{g:g}": found[g][i] for g in found} for i in range(len(answers))]

    def corpus(self, answers: Sequence[str | None], scores: Sequence[Mapping[str, float]]) -> dict[str, Score]:
        """Similarities with standard errors; Fréchet distances, x100 too, without."""
        made = self._means(scores, [name for name in self.metrics if name in scores[0]])
        read = self.embeddings.any(1)
        for g, drawn in self._drawn(answers).items():
            there = drawn.embeddings.any(1)
            enough = int(there.sum()) > 1 and int(read.sum()) > 1
            value = frechet_distance(drawn.embeddings[there], self.embeddings[read]) if enough else float("nan")
            made[f"frechet@{g:g}"] = Score(100 * value, None)
            if drawn.features is not None:
                value = frechet_distance(drawn.features[there], self._features[read]) if enough else float("nan")
                made[f"fid@{g:g}"] = Score(value, None)
        return made

    @cached_property
    def _inception(self) -> InceptionFeatures:
        return InceptionFeatures(Path(self.config.inception), "cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _features(self) -> Tensor:
        """(N, 2048) of the images; zeros for one that cannot be read."""
        made = torch.zeros(len(self.data.asked), _INCEPTION)
        for i, doc in enumerate(self.data.asked):
            if (image := self._read_image(doc.image)) is not None:
                made[i] = self._inception([image])[0]
        return made

    def _drawn(self, answers: Sequence[str | None]) -> dict[float, _Drawings]:
        """Guidance scale -> the drawings."""
        key = tuple(answers)
        if self._last is None or self._last[0] != key:
            self._pictures = []
            self._last = (key, {g: self._draw(key, g) for g in self.config.guidance_scales})
        return self._last[1]

    def _draw(self, answers: Sequence[str | None], guidance: float) -> _Drawings:
        parts, features = [], []
        for start in range(0, len(answers), _BATCH):
            drawn: list[Image] = self._redrawer.draw(
                [answer or "" for answer in answers[start : start + _BATCH]],
                guidance_scale=guidance,
                num_inference_steps=self.config.num_inference_steps,
                seed=self.seed + start,
                batch_size=_BATCH,
            )
            parts.append(self.clip.embed_images(drawn).cpu())
            if self.config.inception:
                features.append(self._inception(drawn))
            if guidance == self.config.guidance_scales[0]:
                self._pictures += drawn if start < _KEPT else [None] * len(drawn)
        there = torch.tensor([[answer is not None] for answer in answers])
        return _Drawings(torch.cat(parts) * there, torch.cat(features) if features else None)
