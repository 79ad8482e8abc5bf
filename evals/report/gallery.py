"""Samples for the page: a bounded, evenly spaced choice of documents, and mean scores of each question type."""

from __future__ import annotations

import base64
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..harness.results import Results
from ..harness.saved_results import Sample, has_samples, read_samples, read_thumbnail


@dataclass
class Mean:
    """A mean of sample scores with its standard error, both x100."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, score: float) -> None:
        self.n += 1
        self.total += score
        self.squares += score * score

    @property
    def score(self) -> float:
        return 100 * self.total / self.n

    @property
    def stderr(self) -> float | None:
        if self.n < 2:
            return None
        variance = max(0.0, self.squares - self.total * self.total / self.n) / (self.n - 1)
        return 100 * math.sqrt(variance / self.n)


@dataclass
class TaskSamples:
    """Figures of all samples of a task, also of those that are not embedded."""

    task: str
    metric: str
    documents: Counter[str] = field(default_factory=Counter)  # id -> samples, in the order of the file
    groups: Counter[tuple[str, int | None]] = field(default_factory=Counter)  # (context, shots) -> samples
    types: dict[int | None, dict[str, dict[str, Mean]]] = field(default_factory=dict)  # shots -> type -> context

    @property
    def total(self) -> int:
        return self.documents.total()

    def add(self, sample: Sample) -> None:
        self.documents[sample.id] += 1
        self.groups[sample.context, sample.num_fewshot] += 1
        score = sample.scores.get(self.metric)
        if sample.type is not None and score is not None:
            contexts = self.types.setdefault(sample.num_fewshot, {}).setdefault(sample.type, {})
            contexts.setdefault(sample.context, Mean()).add(score)

    def chosen(self, budget: int) -> set[str]:
        """Ids of evenly spaced documents that have at most `budget` samples together."""
        ids = list(self.documents)
        count = min(len(ids), budget // max(self.documents.values(), default=1))
        return {ids[place * len(ids) // count] for place in range(count)}


def scan(folder: Path, results: Results) -> list[TaskSamples]:
    """Read every samples file once; tasks without samples are left out."""
    found = []
    for task in filter(partial(has_samples, folder), results.task_names):
        samples = TaskSamples(task, results.metrics(task)[0])
        for sample in read_samples(folder, task):
            samples.add(sample)
        if samples.total:
            found.append(samples)
    return found


@dataclass(frozen=True)
class Gallery:
    """Documents with the answers of all their contexts and shots, as JSON for page.js."""

    documents: list[dict[str, Any]]
    images: dict[str, str]  # thumbnail -> data URL
    embedded: int  # samples
    total: int
    total_documents: int


def make_gallery(folder: Path, tasks: Iterable[TaskSamples], max_samples: int) -> Gallery:
    """Embed whole documents, so that contexts can be compared: the same share of `max_samples` for every task."""
    tasks = list(tasks)
    documents: dict[tuple[str, str], dict[str, Any]] = {}
    answers: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        chosen = task.chosen(max_samples // len(tasks))
        for sample in read_samples(folder, task.task) if chosen else ():
            if sample.id in chosen:
                key = (sample.task, sample.id)
                documents.setdefault(key, _document(sample))
                answers[key].append(_answer(sample, task.metric))
    images = {}
    for name in {document["thumbnail"] for document in documents.values()}:
        if data := read_thumbnail(folder, name):
            images[name] = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return Gallery(
        documents=[{**document, "answers": answers[key]} for key, document in documents.items()],
        images=images,
        embedded=sum(map(len, answers.values())),
        total=sum(task.total for task in tasks),
        total_documents=sum(len(task.documents) for task in tasks),
    )


def _document(sample: Sample) -> dict[str, Any]:
    return sample.model_dump(include={"task", "id", "image", "type", "query", "references", "thumbnail"})


def _answer(sample: Sample, metric: str) -> dict[str, Any]:
    fields = {"context", "num_fewshot", "answer", "words", "prompt", "completion", "error", "note"}
    return {**sample.model_dump(include=fields), "score": sample.scores.get(metric)}
