"""Documents for shots that are similar to what is asked, as a task's `nearest_shots` says."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial

import torch
from PIL.Image import Image

from ...agent.nearest_shots import NearestShots, ShotEmbeddings, similarity_kinds
from ...encoders.clip.clip import Clip
from ...errors import InputError
from ...prompting.templates import Shot
from ..task_data.documents import Doc, TaskData
from ..task_data.image_files import Images, check
from ..task_data.task_config import TaskConfig
from .context_rows import Source


class NearestDocs:
    """Selects candidates for each query, the most similar last. The candidates are embedded once for all rows.

    Raises `InputError` for unknown kinds of similarity, and for images that are not named.
    """

    def __init__(self, config: TaskConfig, data: TaskData) -> None:
        self.config, self.data = config, data
        self.kinds = similarity_kinds(config.nearest_shots)
        if "image" in self.kinds and data.images is None:
            raise InputError(f"{config.task} names no images for shots nearest by image; set `images` in its file")
        self.unreadable: set[str] = set()  # images of candidates, which are in no shot
        self._by_id = {doc.id: doc for doc in data.candidates}
        self._nearest: dict[tuple[Source, int], NearestShots] = {}
        self._chosen: dict[tuple[Source, int, str], list[Doc]] = {}  # by query: without words, all rows have the same

    def __call__(self, query: Shot, source: Source, num_fewshot: int) -> list[Doc]:
        """source: asked for words only where candidates are compared by them. Raises `InputError` for a query whose
        image cannot be read, and for too few candidates."""
        source = source if "words" in self.kinds else _no_words
        key = (source, num_fewshot)
        if key not in self._nearest:
            shots = self._readable(source)
            self._nearest[key] = NearestShots(self._embeddings, shots, num_fewshot, by=self.config.nearest_shots)
        chosen = (*key, query.id)
        if chosen not in self._chosen:
            self._chosen[chosen] = [self._by_id[shot.id] for shot in self._nearest[key](query)]
        return self._chosen[chosen]

    def of_all(self, num_fewshot: int) -> list[Doc]:
        """Every candidate that may be in a shot of what is asked. Raises `InputError` where there are too few."""
        self.prepare()
        if (there := len(self.data.candidates)) < num_fewshot:
            raise InputError(
                f"{self.config.task}: {num_fewshot} shots asked for, but there are only {there} candidates; lower "
                "num_fewshot"
            )
        if "words" in self.kinds:
            return self.data.candidates
        found: dict[str, Doc] = {}
        for doc in self.data.asked:
            with suppress(InputError):  # its prompt says why
                found |= {one.id: one for one in self(_shot(doc, _no_words), _no_words, num_fewshot)}
        return list(found.values())

    def prepare(self) -> None:
        """Raises `InputError` for a text tower that is not installed."""
        if self.kinds != ("image",):
            self._embeddings.clip.embed_texts(["a"])

    @property
    def notes(self) -> list[str]:
        """What a reader of the scores has to know."""
        made = [f"shots are the nearest by {self.config.nearest_shots}, in the space of {self.config.clip}"]
        if self.unreadable:
            number, first = len(self.unreadable), min(self.unreadable)
            made.append(f"images in no shot, as they cannot be read: {number}, such as {first}")
        return made

    @cached_property
    def _embeddings(self) -> ShotEmbeddings:
        clip = Clip.from_pretrained(self.config.clip, device="cuda" if torch.cuda.is_available() else "cpu")
        return ShotEmbeddings(clip, partial(_read, self.data.images)) if self.data.images else ShotEmbeddings(clip)

    def _readable(self, source: Source) -> list[Shot]:
        """The candidates, without those whose image cannot be read."""
        found = []
        for doc in self.data.candidates:
            try:
                shot = _shot(doc, source)
                if "image" in self.kinds:
                    self._embeddings([shot], "image")
            except InputError:
                self.unreadable.add(doc.image)
            else:
                found.append(shot)
        return found


def _shot(doc: Doc, source: Source) -> Shot:
    return Shot(source(doc), doc.query, id=doc.id, image=doc.image)


def _read(images: Images, name: str) -> Image:
    check(images, [name])
    return images.read(name)


def _no_words(doc: Doc) -> tuple[()]:
    return ()
