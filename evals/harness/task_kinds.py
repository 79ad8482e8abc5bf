"""Kinds of tasks, by the name that a task file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ..kinds.captioning_task import CaptioningTask
from ..kinds.classification_task import ClassificationTask
from ..kinds.image_sets import model_place
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


_WITH_NEAREST = ("vqa", "multiple_choice", "captioning")


def open_task(
    name: str, data_dir: Path, *, limit: int | None = None, seed: int = 0, nearest_shots: str | None = None
) -> Task:
    """A task with its data, read and checked. name: see `load_task`. limit: so many documents, drawn by seed.

    nearest_shots: in place of the task file's own. Raises `InputError` for one that does not fit the kind of task.
    """
    config, folder = load_task(name, data_dir)
    if nearest_shots is not None:
        config = replace(config, nearest_shots=nearest_shots)
    if config.nearest_shots:
        if config.kind not in _WITH_NEAREST:
            raise InputError(
                f"{config.task} is of kind {config.kind}: nearest shots are for {', '.join(_WITH_NEAREST)}"
            )
        config = replace(config, clip=model_place(config.clip, folder))
    return KINDS[config.kind].load(config, folder, limit=limit, seed=seed)
