"""Kinds of tasks, by the name that a task file gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..kinds.captioning_task import CaptioningTask
from ..kinds.classification_task import ClassificationTask
from ..kinds.question_tasks import MultipleChoiceTask, VqaTask
from ..kinds.reconstruction_task import ReconstructionTask
from ..kinds.retrieval_task import RetrievalTask
from ..kinds.upsampling_task import UpsamplingTask
from ..task_data.task_config import load_task
from .task_base import Task

KINDS: Mapping[str, type[Task]] = {
    "vqa": VqaTask,
    "multiple_choice": MultipleChoiceTask,
    "captioning": CaptioningTask,
    "classification": ClassificationTask,
    "retrieval": RetrievalTask,
    "reconstruction": ReconstructionTask,
    "upsampling": UpsamplingTask,
}


def open_task(name: str, data_dir: Path, *, limit: int | None = None, seed: int = 0) -> Task:
    """A task with its data, read and checked. name: see `load_task`. limit: so many documents, drawn by seed."""
    config, folder = load_task(name, data_dir)
    return KINDS[config.kind].load(config, folder, limit=limit, seed=seed)
