"""Runs tasks: for each context and number of shots, every document is asked about once, and the answers are scored.

    images -> encoders (a thread) -> words ─┐
    documents and shots ────────────────────┴-> prompts -> language model -> answers -> scores -> results.json

What was described or answered before comes from caches in the output folder, so that a killed run goes on by the same
command.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from ...agent.models.base import LanguageModel
from ...agent.reader.reading import Reading
from ...encoders.base import Encoder
from ...errors import InputError
from ...folder_lock import one_writer
from ...metrics.standard_errors import mean_and_error
from ...metrics.vqa_accuracy import results_format
from ...output_files import replacing, write_text
from ...progress import progress_bar
from ...train.engine.run import current_commit
from ..descriptions import image_key
from ..task_data.documents import Doc, drawn
from ..task_data.image_files import check
from .background_words import BackgroundWords
from .completion_cache import CachedModel, CompletionCache
from .context_rows import NONE, ContextRow, FileContexts, encoder_row, first_words
from .results import ResultRow, Results, TaskAbout, versions, write_samples
from .task_base import Task

_THUMBNAIL = 320  # px


@dataclass(frozen=True)
class EvalSettings:
    """What is asked, and what is kept."""

    num_fewshot: Sequence[int] = (0, 4)
    seed: int = 0
    floors: bool = True
    output: Path | None = None
    cache: Path | None = None  # of words and completions; by default output/cache
    log_samples: bool = False  # prompts, completions, words and thumbnails too
    first_words: Sequence[int] = ()  # further rows with so many words of each context

    @property
    def cache_folder(self) -> Path | None:
        return self.cache or (self.output / "cache" if self.output else None)


def run(
    tasks: Sequence[Task],
    encoders: Mapping[str, Encoder],
    files: Sequence[FileContexts],
    model: LanguageModel | None,
    settings: EvalSettings,
    *,
    asked_for: Mapping[str, Any] | None = None,
) -> Results:
    """All rows of all tasks, in order; written to `settings.output` too. files: contexts of every task.

    asked_for: settings to be told in the results. Raises `InputError` for what does not fit, before any model is run.
    """
    with one_writer(settings.output) if settings.output else nullcontext():
        return _run(tasks, encoders, files, model, settings, asked_for)


def _run(
    tasks: Sequence[Task],
    encoders: Mapping[str, Encoder],
    files: Sequence[FileContexts],
    model: LanguageModel | None,
    settings: EvalSettings,
    asked_for: Mapping[str, Any] | None,
) -> Results:
    start, rows, told = time.perf_counter(), [], {}
    cache = settings.cache_folder
    asked = CachedModel(model, CompletionCache(cache, model)) if model and cache else model
    tasks = [with_contexts(task, files) for task in tasks]
    for task in tasks:
        _check(task, encoders, settings)
    tally = _Tally()
    for task in tasks:
        made, samples = _run_task(task, encoders, files, asked, settings, tally)
        rows += made
        config = task.config
        told[config.task] = TaskAbout(
            description=config.description, metrics=dict(task.metrics), notes=list(task.notes)
        )
        if settings.output:
            write_samples(settings.output, config.task, samples)
    results = Results(
        results=rows,
        tasks=told,
        settings=dict(asked_for or {}),
        seconds=time.perf_counter() - start,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        failures=tally.failures,
        versions=versions(),
        commit=current_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if settings.output:
        results.write(settings.output)
    return results


def with_contexts(task: Task, files: Sequence[FileContexts]) -> Task:
    """The task with the documents that every file has a text for, so that all rows answer the same ones."""
    if not files:
        return task
    for one in files:
        one.check(task.data.asked)
    asked = [doc for doc in task.data.asked if all(one.has(doc) for one in files)]
    candidates = [doc for doc in task.data.candidates if all(one.has(doc) for one in files)]
    names = " and ".join(one.spec for one in files)
    if not asked or (task.data.candidates and not candidates):
        raise InputError(f"{task.config.task}: no {'shots' if asked else 'questions'} have texts of all of {names}")
    left_out = len(task.data.asked) - len(asked)
    note = f"{left_out} of {len(task.data.asked)} questions left out: no text in {names}"
    notes = (*task.data.notes, note) if left_out else task.data.notes
    return type(task)(task.config, replace(task.data, asked=asked, candidates=candidates, notes=notes), task.seed)


def limited(task: Task, limit: int | None) -> Task:
    """The task with `limit` of its documents, drawn by its seed."""
    kept = drawn(task.data.asked, limit, task.seed)
    if kept is task.data.asked:
        return task
    return type(task)(task.config, replace(task.data, asked=kept), task.seed)


def _check(task: Task, encoders: Mapping[str, Encoder], settings: EvalSettings) -> None:
    names = task.images(max(settings.num_fewshot, default=0))
    if encoders and names and task.data.images is None:
        raise InputError(f"{task.config.task} names no images for {', '.join(encoders)}; set `images` in its file")
    if encoders and task.data.images:
        check(task.data.images, names)
    task.prepare()


def _run_task(
    task: Task,
    encoders: Mapping[str, Encoder],
    files: Sequence[FileContexts],
    model: LanguageModel | None,
    settings: EvalSettings,
    tally: _Tally,
) -> tuple[list[ResultRow], list[dict[str, Any]]]:
    counts = list(dict.fromkeys(settings.num_fewshot)) if task.fixed_shots is None else [task.fixed_shots]
    thumbnails = _Thumbnails(task, settings)
    rows, samples = _constant_rows(task, settings), []
    with open_contexts(task, encoders, files, settings, max(counts, default=0)) as contexts:
        asked = [one for one in contexts if task.asked(one)]
        parts = [_asked_rows(task, asked, count, model, tally) for count in counts] if model else []
        parts.append(_direct_rows(task, [one for one in contexts if task.direct(one)]))
        for part in parts:
            for row in part:
                rows += row.results
                samples += _samples(task, row, settings, thumbnails)
                if settings.output and row.num_fewshot is not None and "vqa_accuracy" in task.metrics:
                    _write_official(task, row, settings.output)
    return rows, samples


@contextmanager
def open_contexts(
    task: Task,
    encoders: Mapping[str, Encoder],
    files: Sequence[FileContexts],
    settings: EvalSettings,
    most_shots: int,
) -> Iterator[list[ContextRow]]:
    """The rows of the task's table. Encoders write their words by and by, until this is left."""
    background: AbstractContextManager[BackgroundWords | None] = nullcontext()
    if encoders and task.data.images:
        background = BackgroundWords(task.images(most_shots), task.data.images, encoders, settings.cache_folder)
    with background as words:
        rows = [encoder_row(spec, words) for spec in encoders] if words else []
        rows += [ContextRow(one.spec, "file", one) for one in files]
        rows = [one for row in rows for one in (*(first_words(row, n) for n in settings.first_words), row)]
        yield task.contexts(rows, floors=settings.floors)


def _write_official(task: Task, row: _Scored, output: Path) -> None:
    """The answers in the format that the evaluation servers of VQA take."""
    name = re.sub(r"[^\w@.-]+", "_", row.context.name)
    path = output / "official" / f"{task.config.task}-{name}-{row.num_fewshot}.json"
    answers = {doc.id: one.answer or "" for doc, one in zip(task.data.asked, row.readings, strict=True)}
    entries = [
        {**entry, "question_id": int(key) if (key := str(entry["question_id"])).isdecimal() else key}
        for entry in results_format(answers)
    ]
    write_text(json.dumps(entries) + "\n", path)


@dataclass(frozen=True)
class _Scored:
    """One row of a table: every document's answer and scores."""

    context: ContextRow
    num_fewshot: int | None
    readings: Sequence[Reading]
    scores: Sequence[Mapping[str, float]]
    results: Sequence[ResultRow]


def _asked_rows(
    task: Task,
    contexts: Sequence[ContextRow],
    count: int,
    model: LanguageModel,
    tally: _Tally,
) -> Iterator[_Scored]:
    """A row for each context, with `count` shots."""
    blank: list[dict[str, float]] | None = None
    for context in contexts:
        readings = []
        with progress_bar("answers") as bar:
            label = f"{task.config.task}: {context.name}, {count} shots"
            line = bar.add_task(label, total=len(task.data.asked), note="")
            for reading in task.readings(context, count, model):
                readings.append(reading)
                bar.update(line, advance=1)
                tally.add(reading)
        answers = [reading.answer for reading in readings]
        scores = task.score_all(answers)
        rows = _result_rows(task, context, model.spec, count, answers, scores, blank)
        blank = scores if context.name == NONE else blank
        yield _Scored(context, count, readings, scores, rows)


def _direct_rows(task: Task, contexts: Sequence[ContextRow]) -> Iterator[_Scored]:
    """Words scored as they are."""
    blank: list[dict[str, float]] | None = None
    for context in contexts:
        readings = []
        for doc in task.data.asked:
            try:
                text = " ".join(one.text for one in context.source(doc))
                missing = not text and context.name != NONE
                readings.append(Reading(None, None, None if missing else text, "no words" if missing else None))
            except InputError as error:
                readings.append(Reading(None, None, None, str(error)))
        answers = [reading.answer for reading in readings]
        scores = task.score_all(answers)
        rows = _result_rows(task, context, None, None, answers, scores, blank)
        blank = scores if context.name == NONE else blank
        yield _Scored(context, None, readings, scores, rows)


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


def _constant_rows(task: Task, settings: EvalSettings) -> list[ResultRow]:
    if not settings.floors:
        return []
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


def _samples(task: Task, row: _Scored, settings: EvalSettings, thumbnails: _Thumbnails) -> list[dict[str, Any]]:
    made = [
        _sample(task, row, doc, reading, scores, settings, thumbnails)
        for doc, reading, scores in zip(task.data.asked, row.readings, row.scores, strict=True)
    ]
    for entry, picture in zip(made, task.pictures() if settings.log_samples else (), strict=False):
        entry["drawn"] = thumbnails.keep(picture)
    return made


def _sample(
    task: Task,
    row: _Scored,
    doc: Doc,
    reading: Reading,
    scores: Mapping[str, float],
    settings: EvalSettings,
    thumbnails: _Thumbnails,
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "task": task.config.task,
        "context": row.context.name,
        "num_fewshot": row.num_fewshot,
        "id": doc.id,
        "image": doc.image,
        "type": doc.type,
        "query": doc.query,
        "references": list(dict.fromkeys(doc.references)),
        "answer": reading.answer,
        "scores": dict(scores),
    }
    if settings.log_samples:
        try:
            words = [{"label": one.label, "text": one.text} for one in row.context.source(doc)]
        except InputError:
            words = []
        entry |= {
            "words": words, "prompt": reading.prompt,
            "completion": reading.completion.text if reading.completion else None,
            "error": reading.error, "note": reading.note, "thumbnail": thumbnails.of(doc.image),
        }  # fmt: skip
    return entry


class _Thumbnails:
    """Small copies of images in `output/images`, one for each image."""

    def __init__(self, task: Task, settings: EvalSettings) -> None:
        self.images, self.output = task.data.images, settings.output if settings.log_samples else None
        self._made: dict[str, str | None] = {}

    def of(self, name: str) -> str | None:
        """Path in the output folder; None where there is no image to be had."""
        if self.images is None or self.output is None or not name:
            return None
        if name not in self._made:
            try:
                self._made[name] = self.keep(self.images.read(name))
            except Exception:  # the sample says why
                self._made[name] = None
        return self._made[name]

    def keep(self, image: Image.Image | None) -> str | None:
        """A small copy of any image."""
        if image is None or self.output is None:
            return None
        path = self.output / "images" / f"{image_key(image)}.jpg"
        if not path.exists():
            small = image.copy()
            small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
            with replacing(path) as part:  # a killed process leaves no half image
                small.save(part, "JPEG", quality=85)
        return f"images/{path.name}"


@dataclass
class _Tally:
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
