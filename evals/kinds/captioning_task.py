"""Captions under the COCO protocol: a language model's, which reads an image's words, and the words themselves."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...metrics.caption_metrics import CaptionScores, best_constant, caption_scores
from ...prompting.captioning import CaptionTemplate
from ...prompting.templates import Shot
from ..harness.context_rows import NONE, ContextRow, Source
from ..harness.task_base import Prompted, Score, Task
from ..photos import load_photos_of
from ..task_data.documents import Doc, TaskData, drawn
from ..task_data.image_files import ImageFiles, Images, SampleImages, SeveralImages
from ..task_data.table_rows import Problems, read_rows
from ..task_data.task_config import TaskConfig

_PER_IMAGE = ("CIDEr-D", "METEOR")  # means of their scores of images, as BLEU is not
_TRIED = 100  # captions tried as the constant one
_UNPARSED = "unparsed"  # stands for no caption: the metrics need a text


class CaptioningTask(Task):
    """Without shots the prompt has an instruction alone. Human captions are the references, so no ceiling here."""

    asks = "if named"

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        self.template = replace(CaptionTemplate.paper(config.dataset), quote=config.quote)
        self._last: tuple[tuple[str, ...], CaptionScores] | None = None
        self.metrics = {"CIDEr-D": "CIDEr-D", "BLEU-4": "corpus BLEU-4"}
        if "METEOR" in self._sample_score.scores:
            self.metrics["METEOR"] = "METEOR"

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> CaptioningTask:
        asked, images = captioned_docs(config, folder, config.data, config.images)
        pool, more = captioned_docs(
            config, folder, config.fewshot_data or config.data, config.fewshot_images or config.images
        )
        if not config.fewshot_data:
            raise InputError(f"{config.task}: captioning needs fewshot_data, captions of other images for shots")
        if shared := {doc.image for doc in asked} & {doc.image for doc in pool}:
            raise InputError(f"{len(shared)} images are asked about and in fewshot_data, such as {min(shared)}")
        asked = drawn(asked, limit, seed)
        return cls(config, TaskData(asked, pool, SeveralImages(images, more)), seed)

    @cached_property
    def _sample_score(self) -> CaptionScores:
        """Of one caption: which metrics can be computed here."""
        return caption_scores(["a dog"], [["a dog"]])

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        query = Shot(source(doc), id=doc.id, image=doc.image)
        shots = self.shots(query, source, num_fewshot) if num_fewshot else []
        return Prompted(self.template, query, shots)

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        made = self._scored(answers)
        names = [name for name in _PER_IMAGE if name in made.per_image]
        return [{name: made.per_image[name][i] for name in names} for i in range(len(answers))]

    def bleu_counts(self, answers: Sequence[str | None]) -> Sequence[Sequence[float]]:
        return self._scored(answers).bleu_counts.tolist()

    def corpus(self, answers: Sequence[str | None], scores: Sequence[Any]) -> dict[str, Score]:
        made = self._scored(answers)
        return {name: Score(100 * made.scores[name], 100 * made.stderr(name)) for name in self.metrics}

    def _scored(self, answers: Sequence[str | None]) -> CaptionScores:
        texts = tuple(answer or _UNPARSED for answer in answers)
        if self._last is None or self._last[0] != texts:
            self._last = (texts, caption_scores(texts, [doc.references for doc in self.data.asked]))
        return self._last[1]

    def constant(self) -> str | None:
        """The caption of a candidate that fits the most images, of some that are tried."""
        docs = random.Random(self.seed).sample(self.data.candidates, min(_TRIED, len(self.data.candidates)))
        return best_constant([doc.answer for doc in docs], [doc.references for doc in docs])

    def direct(self, context: ContextRow) -> bool:
        return context.name != NONE


def captioned_docs(config: TaskConfig, folder: Path, data: str, images: str) -> tuple[list[Doc], Images]:
    """From COCO's JSON format, or from a data source such as "webdataset:test-*.tar"."""
    if data.endswith((".json", ".json.gz")):
        return _coco(folder / data), ImageFiles(folder / images)
    kind, _, place = data.partition(":")
    samples = load_photos_of(f"{kind}:{folder / place}", text=config.text)
    docs = [Doc(one.key, one.key, references=one.texts, answer=one.texts[0]) for one in samples]
    return docs, SampleImages(samples, data)


def _coco(path: Path) -> list[Doc]:
    """Raises `InputError` for annotations without image, and images without caption."""
    problems, names, captions = Problems(path), {}, defaultdict(list)
    for row in read_rows(path, "images"):
        names[row.get("id")] = row.get("file_name")
    for row in read_rows(path, "annotations"):
        if row.get("image_id") not in names:
            problems.add(row.place, "image_id", f"{row.get('image_id')} is none of the images")
        elif not isinstance(row.get("caption"), str) or not row.get("caption").strip():
            problems.add(row.place, "caption", "is missing; expected a text")
        else:
            captions[row.get("image_id")].append(row.get("caption").strip())
    for key, name in names.items():
        if not isinstance(name, str) or not name:
            problems.add(f"image {key}", "file_name", "is missing; expected a text")
        elif key not in captions:
            problems.add(f"image {key}", "caption", "has none")
    problems.check()
    return [
        Doc(str(key), name, references=tuple(captions[key]), answer=captions[key][0], columns={"image_id": key})
        for key, name in names.items()
    ]
