"""Kinds of tasks, by the name that a task file gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..task_data.task_config import load_task
from .captioning_task import CaptioningTask
from .classification_task import ClassificationTask
from .question_tasks import MultipleChoiceTask, VqaTask
from .task_base import Task

KINDS: Mapping[str, type[Task]] = {
    "vqa": VqaTask,
    "multiple_choice": MultipleChoiceTask,
    "captioning": CaptioningTask,
    "classification": ClassificationTask,
}


def open_task(name: str, data_dir: Path, *, limit: int | None = None, seed: int = 0) -> Task:
    """A task with its data, read and checked. name: see `load_task`. limit: so many documents, drawn by seed."""
    config, folder = load_task(name, data_dir)
    return KINDS[config.kind].load(config, folder, limit=limit, seed=seed)
