"""Images with their captions, for tasks that score words about all of them together and ask no language model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.images import ImageError, expand_images
from ...encoders.registry import WEIGHTS
from ...errors import InputError
from ..harness.context_rows import ContextRow, Source
from ..harness.task_base import Prompted, Task
from ..photos import load_photos_of
from ..task_data.documents import Doc, TaskData, drawn, joined_text
from ..task_data.image_files import ImageFiles, Images, SampleImages, check
from ..task_data.table_rows import Problems, read_rows
from ..task_data.task_config import TaskConfig
from .captioning_task import captioned_docs

_TABLES = ("jsonl", "csv", "tsv", "parquet")
_BATCH = 64  # images


class ImageSetTask(Task):
    """No shots, and words are scored as they are."""

    asks = "never"

    def prepare(self) -> None:
        check(self._images, [doc.image for doc in self.data.asked])

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        raise InputError(f"{self.config.task} asks no language model")

    def images(self, most_shots: int) -> list[str]:
        return list(dict.fromkeys(doc.image for doc in self.data.asked))

    def constant(self) -> str | None:
        return None

    def direct(self, context: ContextRow) -> bool:
        return True

    @property
    def _images(self) -> Images:
        if self.data.images is None:
            raise InputError(f"{self.config.task} names no images; set `images` in its file")
        return self.data.images

    @cached_property
    def clip(self) -> Clip:
        """The CLIP that the task's file names, on a GPU if there is one."""
        return Clip.from_pretrained(self.config.clip, device="cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def embeddings(self) -> Tensor:
        """(N, D) of the images, on the CPU; zeros for one that cannot be read."""
        names, parts = [doc.image for doc in self.data.asked], []
        for start in range(0, len(names), _BATCH):
            read = [self._read_image(name) for name in names[start : start + _BATCH]]
            part = torch.zeros(len(read), self.clip.embed_dim)
            if places := [i for i, one in enumerate(read) if one is not None]:
                part[places] = self.clip.embed_images([one for one in read if one is not None]).cpu()
            parts.append(part)
        return torch.cat(parts)

    def _read_image(self, name: str) -> Image | None:
        try:
            return self._images.read(name)
        except (ImageError, InputError):  # the sample says why
            return None


def load_image_set(config: TaskConfig, folder: Path, *, limit: int | None, seed: int, captions: bool) -> TaskData:
    """Documents with `references`, and as `truth` one human caption, drawn by seed, that is none of the references.

    data: COCO's JSON format; a table file with the columns `image` and `truth` (captions are not needed); a data source
    with captions; or a folder of images. captions: whether they are needed.
    """
    docs, images = _docs(config, folder)
    if captions and not all(doc.references for doc in docs):
        raise InputError(f"{folder / config.data} has images without captions; {config.kind} needs some of each")
    docs = drawn(docs, limit, seed)
    notes = []
    if any(doc.truth for doc in docs):
        pass
    elif all(len(doc.references) > 1 for doc in docs):
        docs = _with_truth(docs, seed)
        notes.append("truth is one human caption of each image, drawn by seed; it is none of the references")
    else:
        notes.append("no ceiling: that needs two or more captions of each image")
    return TaskData(docs, [], images, tuple(notes))


def model_place(spec: str, folder: Path) -> str:
    """Where a model of a task file is: in the task's folder, else among the included weights, else a name as it is.

    Raises `InputError` for a path to nothing.
    """
    for place in (folder / spec, WEIGHTS / spec):
        if spec and place.is_dir():
            return str(place)
    if spec.startswith((".", "/", "~")):
        raise InputError(f"there is no folder {folder / spec}; expected a model's, or the name of one")
    return spec


def _docs(config: TaskConfig, folder: Path) -> tuple[list[Doc], Images]:
    place = folder / config.data.removeprefix("imagefolder:")
    if config.data.removesuffix(".gz").rpartition(".")[2] in _TABLES and ":" not in config.data:
        return _table(config, place), ImageFiles(folder / (config.images or "."))
    if place.is_dir():
        names = [str(Path(name).relative_to(place)) for name in expand_images([str(place)])]
        return [Doc(name, name) for name in names], ImageFiles(place)
    if ":" in config.data and not config.text:
        kind, _, rest = config.data.partition(":")
        samples = load_photos_of(f"{kind}:{folder / rest}", texts=False)
        return [Doc(one.key, one.key) for one in samples], SampleImages(samples, config.data)
    if ":" not in config.data and not place.is_file():
        raise InputError(f"{config.task}: no file or folder {place}; expected images with captions, or a folder")
    return captioned_docs(config, folder, config.data, config.images)


def _table(config: TaskConfig, path: Path) -> list[Doc]:
    """One document for each image. Raises `InputError` that names rows without an image, or without a truth."""
    docs: dict[str, Doc] = {}
    problems, columns = Problems(path), config.columns
    for row in read_rows(path):
        image, truth = row.get(columns.image), joined_text(row.get(columns.truth)) if columns.truth else ""
        if not isinstance(image, str) or not image.strip():
            problems.add(row.place, columns.image, "is missing; expected the name of an image")
            continue
        if columns.truth and not truth:
            problems.add(row.place, columns.truth, "is missing; expected a text")
        docs.setdefault(image, Doc(image, image, truth=truth, columns=row.values))
    problems.check()
    return list(docs.values())


def _with_truth(docs: Sequence[Doc], seed: int) -> list[Doc]:
    rng = random.Random(seed)
    made = []
    for doc in docs:
        own = rng.randrange(len(doc.references))
        rest = tuple(text for i, text in enumerate(doc.references) if i != own)
        made.append(replace(doc, truth=doc.references[own], references=rest))
    return made
