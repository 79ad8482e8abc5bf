"""Loads shots: for questions from a file, for classes from a folder each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...encoders.images import expand_images
from ...errors import InputError
from ...prompting.fewshot import NUM_PSEUDO, pseudo_shots, select_shots
from ...prompting.shot_files import load_shots
from ...prompting.templates import Shot
from ...prompting.vqa import VQA_PSEUDO


def question_shots(file: str | Path | None, num_fewshot: int | None = None, *, seed: int = 0) -> list[Shot]:
    """The file's shots in order, or a sample of `num_fewshot`.

    Zero shots, or no file, give pseudo samples without an image: from the file's questions, or common ones.
    """
    if file is None:
        if num_fewshot:
            raise InputError(f"{num_fewshot} shots asked for, but no file to draw them from; name one by --shots")
        return list(VQA_PSEUDO)
    shots = load_shots(file)
    if num_fewshot == 0:
        return pseudo_shots(shots, min(NUM_PSEUDO, len(shots)), seed=seed)
    return shots if num_fewshot is None else select_shots(shots, num_fewshot, seed=seed)


def folder_shots(
    folder: str | Path, labels: Sequence[str], num_fewshot: int | None = None, *, seed: int = 0
) -> list[Shot]:
    """One shot per image in `folder/LABEL/`, or a balanced sample of `num_fewshot`, shuffled, without contexts.

    Other folders are ignored. Raises `InputError` for a label without a folder or without an image.
    """
    shots = [shot for label in labels for shot in _of_label(Path(folder) / label, label)]
    wanted = len(shots) if num_fewshot is None else num_fewshot
    return select_shots(shots, wanted, strategy="balanced", seed=seed)


def _of_label(folder: Path, label: str) -> list[Shot]:
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with shots of the class {label!r}; expected a folder for each label")
    images = [image for image in expand_images([str(folder)]) if image != str(folder)]
    if not images:
        raise InputError(f"{folder} holds no images; expected at least one shot of the class {label!r}")
    return [Shot(answer=label, id=image, image=image) for image in images]
