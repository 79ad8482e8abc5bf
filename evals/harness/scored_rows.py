"""Rows of a table: every document's answer to one context with one number of shots, and the scores of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...agent.models.base import LanguageModel
from ...agent.reader.reading import Reading
from ...errors import InputError
from ...metrics.standard_errors import mean_and_error
from ...progress import progress_bar
from .context_rows import NONE, ContextRow
from .official_answers import OfficialAnswers
from .results import ResultRow
from .task_base import Task


@dataclass(frozen=True)
class Scored:
    """One row of a table: every document's answer and scores."""

    context: ContextRow
    num_fewshot: int | None
    readings: Sequence[Reading]
    scores: Sequence[Mapping[str, float]]
    results: Sequence[ResultRow]


def asked_rows(
    task: Task,
    contexts: Sequence[ContextRow],
    count: int,
    model: LanguageModel,
    tally: Tally,
) -> Iterator[Scored]:
    """A row for each context, with `count` shots."""
    blank: Sequence[Mapping[str, float]] | None = None
    for context in contexts:
        readings = []
        with progress_bar("answers") as bar:
            label = f"{task.config.task}: {context.name}, {count} shots"
            line = bar.add_task(label, total=len(task.data.asked), note="")
            for reading in task.readings(context, count, model):
                readings.append(reading)
                bar.update(line, advance=1)
                tally.add(reading)
        row = _scored(task, context, model.spec, count, readings, blank)
        blank = row.scores if context.name == NONE else blank
        yield row


def direct_rows(task: Task, contexts: Sequence[ContextRow]) -> Iterator[Scored]:
    """Words scored as they are."""
    blank: Sequence[Mapping[str, float]] | None = None
    for context in contexts:
        readings = []
        for doc in task.data.asked:
            try:
                text = " ".join(one.text for one in context.source(doc))
                missing = not text and context.name != NONE
                readings.append(Reading(None, None, None if missing else text, "no words" if missing else None))
            except InputError as error:
                readings.append(Reading(None, None, None, str(error)))
        row = _scored(task, context, None, None, readings, blank)
        blank = row.scores if context.name == NONE else blank
        yield row


def answered_row(task: Task, answers: OfficialAnswers) -> Scored:
    """Another system's answers, scored as they are."""
    context = ContextRow(answers.name, "model", lambda doc: ())
    readings = [Reading(None, None, answer, None) for answer in answers.of(task.data.asked)]
    return _scored(task, context, None, None, readings, None)


def _scored(
    task: Task,
    context: ContextRow,
    llm: str | None,
    count: int | None,
    readings: Sequence[Reading],
    blank: Sequence[Mapping[str, float]] | None,
) -> Scored:
    answers = [reading.answer for reading in readings]
    scores = task.score_all(answers)
    return Scored(context, count, readings, scores, _result_rows(task, context, llm, count, answers, scores, blank))


def _result_rows(
    task: Task,
    context: ContextRow,
    llm: str | None,
    count: int | None,
    answers: Sequence[str | None],
    scores: Sequence[Mapping[str, float]],
    blank: Sequence[Mapping[str, float]] | None,
) -> list[ResultRow]:
    groups = [doc.image or doc.id for doc in task.data.asked]
    made = []
    for metric, score in task.corpus(answers, scores).items():
        above, error = None, None
        if blank is not None and metric in blank[0]:
            pairs = [one[metric] - other[metric] for one, other in zip(scores, blank, strict=True)]
            above, error = (100 * value for value in mean_and_error(pairs, groups))
        made.append(
            ResultRow(
                task=task.config.task,
                context=context.name,
                role=context.role,
                encoder=context.encoder,
                llm=llm,
                num_fewshot=count,
                metric=metric,
                score=score.score,
                stderr=_known(score.stderr),
                n=len(answers),
                parse_failures=sum(one is None for one in answers),
                above_floor=above,
                above_floor_stderr=_known(error),
            )
        )
    return made


def constant_rows(task: Task) -> list[ResultRow]:
    """Floors that need no model: chance, or one answer to all."""
    if task.chance is not None:
        metric, n = next(iter(task.metrics)), len(task.data.asked)
        return [
            ResultRow(
                task=task.config.task, context="chance", role="floor", num_fewshot=None, metric=metric,
                score=task.chance, n=n,
            )
        ]  # fmt: skip
    answer = task.constant()
    if answer is None:
        return []
    context = ContextRow(f"constant: {answer}", "floor", lambda doc: ())
    answers = [answer] * len(task.data.asked)
    scores = task.score_all(answers)
    return _result_rows(task, context, None, None, answers, scores, None)


@dataclass
class Tally:
    """Of all rows together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: int = 0

    def add(self, reading: Reading) -> None:
        if reading.completion is None:
            self.failures += reading.answer is None
            return
        self.failures += reading.completion.error is not None
        self.prompt_tokens += reading.completion.prompt_tokens
        self.completion_tokens += reading.completion.completion_tokens


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else value
