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
from ...output_files import replacing, write_text
from ...train.engine.run import current_commit
from ..descriptions import image_key
from ..task_data.documents import Doc, drawn
from ..task_data.image_files import check
from .background_words import BackgroundWords
from .completion_cache import CachedModel, CompletionCache
from .context_rows import ContextRow, FileContexts, encoder_row, first_words
from .official_answers import OfficialAnswers, official_answers
from .results import ResultRow, Results, TaskAbout, versions, write_samples
from .scored_rows import Scored, Tally, answered_row, asked_rows, constant_rows, direct_rows
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
    answers: Sequence[OfficialAnswers] = (),
    asked_for: Mapping[str, Any] | None = None,
) -> Results:
    """All rows of all tasks, in order; written to `settings.output` too. files: contexts of every task. answers: of
    other systems, to be scored beside them.

    asked_for: settings to be told in the results. Raises `InputError` for what does not fit, before any model is run.
    """
    with one_writer(settings.output) if settings.output else nullcontext():
        return _run(tasks, encoders, files, model, settings, answers, asked_for)


def _run(
    tasks: Sequence[Task],
    encoders: Mapping[str, Encoder],
    files: Sequence[FileContexts],
    model: LanguageModel | None,
    settings: EvalSettings,
    answers: Sequence[OfficialAnswers],
    asked_for: Mapping[str, Any] | None,
) -> Results:
    start, rows, told = time.perf_counter(), [], {}
    cache = settings.cache_folder
    asked = CachedModel(model, CompletionCache(cache, model)) if model and cache else model
    tasks = [with_contexts(task, files) for task in tasks]
    for task in tasks:
        for one in answers:
            one.of(task.data.asked)
        _check(task, encoders, settings)
    tally = Tally()
    for task in tasks:
        made, samples = _run_task(task, encoders, files, asked, settings, tally, answers)
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
    tally: Tally,
    answers: Sequence[OfficialAnswers],
) -> tuple[list[ResultRow], list[dict[str, Any]]]:
    counts = list(dict.fromkeys(settings.num_fewshot)) if task.fixed_shots is None else [task.fixed_shots]
    thumbnails = _Thumbnails(task, settings)
    rows, samples = constant_rows(task) if settings.floors else [], []
    with open_contexts(task, encoders, files, settings, max(counts, default=0)) as contexts:
        asked = [one for one in contexts if task.asked(one)]
        parts = [asked_rows(task, asked, count, model, tally) for count in counts] if model else []
        parts.append(direct_rows(task, [one for one in contexts if task.direct(one)]))
        parts.append(answered_row(task, one) for one in answers)
        for part in parts:
            for row in part:
                rows += row.results
                samples += _samples(task, row, settings, thumbnails)
                if settings.output and row.context.role != "model":
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


def _write_official(task: Task, row: Scored, output: Path) -> None:
    """The answers in the format that the evaluation servers of VQA and COCO take."""
    entries = official_answers(task, [one.answer or "" for one in row.readings])
    if entries is not None:
        name = re.sub(r"[^\w@.-]+", "_", row.context.name)
        how = "direct" if row.num_fewshot is None else row.num_fewshot
        write_text(json.dumps(entries) + "\n", output / "official" / f"{task.config.task}-{name}-{how}.json")


def _samples(task: Task, row: Scored, settings: EvalSettings, thumbnails: _Thumbnails) -> list[dict[str, Any]]:
    made = [
        _sample(task, row, doc, reading, scores, settings, thumbnails)
        for doc, reading, scores in zip(task.data.asked, row.readings, row.scores, strict=True)
    ]
    for entry, counts in zip(made, task.bleu_counts([one.answer for one in row.readings]), strict=False):
        entry["bleu_counts"] = counts
    for entry, picture in zip(made, task.pictures() if settings.log_samples else (), strict=False):
        entry["drawn"] = thumbnails.keep(picture)
    return made


def _sample(
    task: Task,
    row: Scored,
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
