"""`textlens eval`: opens tasks, contexts and models, in the order in which mistakes are cheap to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ...agent.models.registry import default_language_model, load_language_model
from ...errors import InputError
from ..encoder_variants import load_variants
from .context_rows import FileContexts
from .official_answers import OfficialAnswers
from .results import Results
from .runner import EvalSettings, limited, run, with_contexts
from .task_base import Task
from .task_kinds import open_task


def evaluate(
    tasks: Sequence[str],
    settings: EvalSettings,
    *,
    encoders: Sequence[str] = (),
    contexts: Sequence[str] = (),
    answers: Sequence[Path] = (),
    llm: str | None = None,
    data_dir: Path = Path(),
    limit: int | None = None,
    nearest_shots: str | None = None,
) -> Results:
    """tasks: names or files, see `load_task`. contexts: FILE:COLUMN. answers: of other systems, see `OfficialAnswers`.
    llm: spec; by default as of `textlens ask`, but captions are then scored as the encoders wrote them, and with
    answers alone no model is asked. nearest_shots: see `open_task`.

    Raises `InputError` for bad files before any model is loaded.
    """
    opened, files = open_tasks(
        tasks, contexts, data_dir=data_dir, limit=limit, seed=settings.seed, nearest_shots=nearest_shots
    )
    others = [OfficialAnswers(path) for path in answers]
    if repeated := [one.name for one in others if [other.name for other in others].count(one.name) > 1]:
        raise InputError(
            f"two files of answers are named {repeated[0]}; expected different names, which their rows get"
        )
    only_answers = bool(answers) and not encoders and not contexts and not llm
    asks = {"never"} if only_answers else {task.asks for task in opened}
    settings = replace(settings, num_fewshot=(0,)) if only_answers else settings
    spec = None if asks == {"never"} else llm or (default_language_model() if "always" in asks else None)
    loaded = load_variants(list(encoders))
    model = load_language_model(spec) if spec else None
    asked_for = {
        "tasks": list(tasks), "encoders": list(encoders), "contexts": list(contexts),
        "answers": [str(path) for path in answers], "llm": spec, "limit": limit,
        "num_fewshot": list(settings.num_fewshot), "seed": settings.seed, "data_dir": str(data_dir),
        "first_words": list(settings.first_words),
        "configs": {task.config.task: asdict(task.config) for task in opened},
    }  # fmt: skip
    return run(opened, loaded, files, model, settings, answers=others, asked_for=asked_for)


def open_tasks(
    tasks: Sequence[str],
    contexts: Sequence[str],
    *,
    data_dir: Path,
    limit: int | None,
    seed: int,
    nearest_shots: str | None = None,
) -> tuple[list[Task], list[FileContexts]]:
    """The tasks, with the documents that have texts in all files, and the files. Raises `InputError` for bad ones."""
    if repeated := [name for name in dict.fromkeys(tasks) if tasks.count(name) > 1]:
        raise InputError(f"the task {repeated[0]!r} is given twice; expected each once")
    first = None if contexts else limit  # else of the documents that have published texts
    opened = [open_task(name, data_dir, limit=first, seed=seed, nearest_shots=nearest_shots) for name in tasks]
    columns = opened[0].config.columns
    files = [FileContexts(spec, data_dir, columns.id, columns.image) for spec in contexts]
    if files:
        opened = [limited(with_contexts(task, files), limit) for task in opened]
    return opened, files
