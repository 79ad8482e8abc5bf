"""What the runner asks of a task."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL.Image import Image

from ...agent.models.base import LanguageModel, Request
from ...agent.reader.reading import Reading, read
from ...errors import InputError
from ...metrics.standard_errors import mean_and_error
from ...prompting.fewshot import NUM_PSEUDO
from ...prompting.templates import Shot, Template
from ..task_data.documents import Doc, TaskData
from ..task_data.task_config import TaskConfig
from .context_rows import ContextRow, Source, table_rows
from .nearest_docs import NearestDocs

_FIRST_CHUNK, _CHUNK = 32, 256  # documents sent at once: few at first, whose words are soon there, then twice as many


@dataclass(frozen=True)
class Score:
    """x100; stderr is None where it is not known."""

    score: float
    stderr: float | None


@dataclass(frozen=True)
class Prompted:
    """One document as the language model is asked about it."""

    template: Template
    query: Shot
    shots: Sequence[Shot]
    choices: tuple[str, ...] | None = None  # the answer is one of these


class Task(ABC):
    """A task with its data. Everything it draws is a function of the seed."""

    metrics: Mapping[str, str]
    """Name -> what it is. The first is the one that rows are compared by."""

    asks: ClassVar[Literal["always", "if named", "never"]] = "always"
    """Whether a language model is asked: the default one too, only one that the user names, or none."""

    fixed_shots: ClassVar[int | None] = None
    """The number of shots of a task that always has the same ones."""

    chance: float | None = None
    """Of the first metric, x100, by drawing one of the choices; None where there are none."""

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        self.config, self.data, self.seed = config, data, seed
        self._shared: dict[tuple[Source, int], list[Shot]] = {}
        self.nearest = NearestDocs(config, data) if config.nearest_shots else None

    @classmethod
    @abstractmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> Task:
        """Read the task's files. Raises `InputError` for all that is wrong with them."""

    @abstractmethod
    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        """How a document is asked about. source: the context of images, also of those in shots."""

    @abstractmethod
    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        """Metric -> score, 1 for right, for each of `data.asked`; of an answer that could not be parsed the lowest."""

    def bleu_counts(self, answers: Sequence[str | None]) -> Sequence[Sequence[float]]:
        """What corpus BLEU sums up, of each document, see `CaptionScores`; empty where there is no BLEU."""
        return ()

    def corpus(self, answers: Sequence[str | None], scores: Sequence[Mapping[str, float]]) -> dict[str, Score]:
        """All metrics over `data.asked`: means, with standard errors clustered by image."""
        return self._means(scores, self.metrics)

    def _means(self, scores: Sequence[Mapping[str, float]], names: Iterable[str]) -> dict[str, Score]:
        groups = [doc.image or doc.id for doc in self.data.asked]
        made = {}
        for name in names:
            mean, error = mean_and_error([one[name] for one in scores], groups)
            made[name] = Score(100 * mean, 100 * error)
        return made

    def shot_docs(self, num_fewshot: int) -> list[Doc]:
        """Documents of different images for shots, drawn once for all queries; fewer are the first of more.

        Raises `InputError` where there are too few images.
        """
        first: dict[str, Doc] = {}
        for doc in random.Random(self.seed).sample(self.data.candidates, len(self.data.candidates)):
            first.setdefault(doc.image or doc.id, doc)
        if len(first) < num_fewshot:
            raise InputError(
                f"{self.config.task}: {num_fewshot} shots asked for, but there are only {len(first)} images for "
                "shots; lower num_fewshot"
            )
        return list(first.values())[:num_fewshot]

    def shots(self, query: Shot, source: Source, num_fewshot: int) -> list[Shot]:
        """Those of a query: the same for all queries of a row, or the nearest ones, as the task's file says."""
        if self.nearest is None:
            return self.shared_shots(source, num_fewshot)
        return demonstrations(self.nearest(query, source, num_fewshot), source)

    def shared_shots(self, source: Source, num_fewshot: int) -> list[Shot]:
        """`shot_docs` with their contexts: the same list for all queries of a row, so that they share a prefix."""
        key = (source, num_fewshot)
        if key not in self._shared:
            self._shared[key] = demonstrations(self.shot_docs(num_fewshot), source)
        return self._shared[key]

    def images(self, most_shots: int) -> list[str]:
        """Every image that needs words, those of shots first."""
        shots = self.nearest.of_all(most_shots) if self.nearest and most_shots else self.shot_docs(most_shots)
        docs = [*shots, *self.data.asked]
        return list(dict.fromkeys(doc.image for doc in docs if doc.image))

    def constant(self) -> str | None:
        """The answer of the floor that does not look: the commonest of the candidates; None where there is none."""
        common = Counter(doc.answer for doc in self.data.candidates if doc.answer).most_common(1)
        return common[0][0] if common else None

    def pictures(self) -> Sequence[Image | None]:
        """What was drawn for each document when answers were last scored, for the log; empty where nothing is drawn."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the scores has to know."""
        return [*self.data.notes, *(self.nearest.notes if self.nearest else ())]

    def prepare(self) -> None:
        """Load the models that score or choose shots, once, before any words are written. Raises `InputError`."""
        if self.nearest:
            self.nearest.prepare()

    def contexts(self, rows: Sequence[ContextRow], *, floors: bool) -> list[ContextRow]:
        """The rows of the table, of encoders' and files' `rows`."""
        return table_rows(rows, self.data.asked, floors=floors, seed=self.seed)

    def asked(self, context: ContextRow) -> bool:
        """Whether a language model reads this context."""
        return self.asks != "never"

    def direct(self, context: ContextRow) -> bool:
        """Whether this context's words are scored as they are, without a language model."""
        return False

    def readings(self, context: ContextRow, num_fewshot: int, model: LanguageModel) -> Iterator[Reading]:
        """One for each document, in order. A document without words, or with an error, loses no other."""
        start, size = 0, _FIRST_CHUNK
        while start < len(self.data.asked):
            chunk: list[Prompted | str] = []
            for doc in self.data.asked[start : start + size]:
                try:
                    chunk.append(self.prompted(doc, context.source, num_fewshot))
                except InputError as error:
                    chunk.append(str(error))
            yield from self._read(model, chunk)
            start, size = start + size, min(2 * size, _CHUNK)

    def _read(self, model: LanguageModel, chunk: Sequence[Prompted | str]) -> list[Reading]:
        """In one request for all that share template and choices."""
        found: dict[int, Reading] = {
            i: Reading(None, None, None, one) for i, one in enumerate(chunk) if isinstance(one, str)
        }
        alike: dict[Any, list[int]] = {}
        for i, one in enumerate(chunk):
            if isinstance(one, Prompted):
                alike.setdefault((one.template, one.choices), []).append(i)
        for (template, choices), places in alike.items():
            ones = [one for i in places if isinstance(one := chunk[i], Prompted)]
            texts = tuple(f" {choice}" for choice in choices) if choices else None
            stop = template.choice_stop if choices else template.stop
            request = Request(self.config.max_tokens, stop, 0.0, self.seed, texts)
            made = read(model, template, [one.query for one in ones], [one.shots for one in ones], request)
            found.update(zip(places, made, strict=True))
        return [found[i] for i in range(len(chunk))]


def demonstrations(docs: Sequence[Doc], source: Source) -> list[Shot]:
    """Documents as shots."""
    return [Shot(source(doc), doc.query, doc.answer, doc.id, image=doc.image) for doc in docs]


def pseudo_samples(task: Task) -> list[Shot]:
    """For prompts without shots: questions and answers alone, which show the form of an answer and no image."""
    shots = demonstrations(task.shot_docs(min(NUM_PSEUDO, len(task.data.candidates))), lambda doc: ())
    return [replace(shot, image="") for shot in shots]
