"""Questions about images: answered freely, or by one of several choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ...errors import InputError
from ...metrics.answer_match import exact_match, normalized
from ...metrics.vqa_accuracy import vqa_accuracy, vqa_accuracy_from_scores
from ...prompting.templates import Shot
from ...prompting.vqa import VQATemplate
from ..harness.context_rows import Source
from ..harness.task_base import Prompted, Task, pseudo_samples
from ..task_data.documents import Doc, TaskData, load_questions
from ..task_data.task_config import TaskConfig

_METRICS = {
    "vqa_accuracy": "VQA accuracy, official",
    "exact_match": "exact match with one of the answers, normalised",
    "set_match": "exact match with all of the answers as a set, normalised",
}


class VqaTask(Task):
    """Open-ended visual question answering."""

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        self.metrics = {config.metric: _METRICS[config.metric]}
        template = replace(VQATemplate.paper(), quote=config.quote)
        self.template = replace(template, instruction=config.instruction) if config.instruction else template

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> VqaTask:
        return cls(config, load_questions(config, folder, limit=limit, seed=seed), seed)

    @cached_property
    def _pseudo(self) -> list[Shot]:
        return pseudo_samples(self)

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        query = Shot(source(doc), doc.query, None, doc.id, image=doc.image)
        shots = self.shots(query, source, num_fewshot) if num_fewshot else self._pseudo
        return Prompted(self.template, query, shots)

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        pairs = zip(self.data.asked, answers, strict=True)
        return [{self.config.metric: 0.0 if answer is None else self._score(doc, answer)} for doc, answer in pairs]

    def _score(self, doc: Doc, answer: str) -> float:
        return answer_score(self.config.metric, doc, answer)


class MultipleChoiceTask(VqaTask):
    """Questions with choices, which stand behind the question; the model writes one of them."""

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        if config.metric != "exact_match":
            raise InputError(f"{config.task}: multiple_choice is scored by metric exact_match; got {config.metric}")
        super().__init__(config, data, seed)
        self.chance = 100 * sum(1 / len(doc.choices) for doc in data.asked) / len(data.asked)

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> MultipleChoiceTask:
        return cls(config, _with_choices(load_questions(config, folder, limit=limit, seed=seed)), seed)

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        return replace(super().prompted(doc, source, num_fewshot), choices=doc.choices)

    def _score(self, doc: Doc, answer: str) -> float:
        return float(answer == doc.answer)


def answer_score(metric: str, doc: Doc, answer: str) -> float:
    """1 for right. metric: of `TaskConfig`."""
    if metric == "set_match":
        return float(exact_match(answer, doc.references))
    if metric == "exact_match":
        return float(normalized(answer) in {normalized(one) for one in doc.references})
    if doc.scores:
        return vqa_accuracy_from_scores(answer, doc.scores)
    return vqa_accuracy(answer, doc.references)


def _with_choices(data: TaskData) -> TaskData:
    def changed(docs: Sequence[Doc]) -> list[Doc]:
        return [replace(doc, query=f"{doc.query} Choices: {', '.join(doc.choices)}.") for doc in docs]

    return replace(data, asked=changed(data.asked), candidates=changed(data.candidates))
