"""What a language model is told of an image: words of encoders or of a file; and floors and ceiling beside them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...prompting.templates import Context, context_label
from ..row_roles import Role
from ..task_data.documents import Doc, joined_text
from ..task_data.table_rows import read_rows

NONE, OTHER, TRUTH, ALL = "none", "other image", "truth", "all"
Source = Callable[[Doc], tuple[Context, ...]]
"""The context of a document's image. Raises `InputError` for an image that has none."""


@dataclass(frozen=True)
class ContextRow:
    """One row of a table. name: an encoder's spec, FILE:COLUMN, or one of the constants above. cut: only the first
    words of another row are told."""

    name: str
    role: Role
    source: Source
    encoder: str | None = None
    cut: bool = False


def encoder_row(spec: str, words: Callable[[str, str], str]) -> ContextRow:
    """words: (spec, name of an image) -> its words."""
    return ContextRow(spec, "encoder", lambda doc: (Context(words(spec, doc.image)),), spec)


def first_words(row: ContextRow, number: int) -> ContextRow:
    """The row with the first `number` words of its texts alone, in the images to be answered about and in shots."""

    def source(doc: Doc) -> tuple[Context, ...]:
        return tuple(replace(one, text=" ".join(one.text.split()[:number])) for one in row.source(doc))

    return replace(row, name=f"{row.name}, first {number} words", source=source, cut=True)


class FileContexts:
    """Published texts, `FILE:COLUMN[+COLUMN]`: by question id where the file has those, else by image."""

    def __init__(self, spec: str, folder: Path, id_column: str, image_column: str = "image") -> None:
        file, colon, columns = spec.rpartition(":")
        if not colon or not file or not columns:
            raise InputError(f"context is {spec!r}; expected FILE:COLUMN, such as okvqa.jsonl:caption")
        self.spec, self.path, self.columns = spec, _found(folder, file), columns.split("+")
        self.by_id: dict[str, Mapping[str, Any]] = {}
        self.by_image: dict[str, Mapping[str, Any]] = {}
        for row in read_rows(self.path):
            values = {column: row.get(column) for column in self.columns}
            if (own := row.get(id_column)) is not None:
                self.by_id[str(own)] = values
            for name in (row.get(image_column), row.get("image_id")):
                if name is not None:
                    self.by_image.setdefault(str(name), values)

    def check(self, docs: Sequence[Doc]) -> None:
        """Raises `InputError` where no document has any text here."""
        if docs and not any(self._values(doc) for doc in docs):
            raise InputError(f"{self.spec} has no text for any of {len(docs)} questions, such as {docs[0].id}")

    def has(self, doc: Doc) -> bool:
        """Whether there is a text for a document."""
        return bool(self._values(doc))

    def __call__(self, doc: Doc) -> tuple[Context, ...]:
        texts = self._values(doc)
        if not texts:
            raise InputError(f"{self.spec} has no text for question {doc.id}, image {doc.image}")
        if len(self.columns) == 1:
            return (Context(next(iter(texts.values()))),)
        return tuple(Context(text, _column_label(column)) for column, text in texts.items())

    def _values(self, doc: Doc) -> dict[str, str]:
        found = self.by_id.get(doc.id) or self.by_image.get(doc.image)
        if found is None:
            found = self.by_image.get(str(doc.columns.get("image_id")), {})
        return {column: text for column in self.columns if (text := joined_text(found.get(column)))}


def _found(folder: Path, file: str) -> Path:
    """A file in the task's data folder, or else where the command runs."""
    return folder / file if (folder / file).is_file() else Path(file)


def _column_label(column: str) -> str:
    return column.rpartition(".")[2].replace("_", " ").removesuffix("s") if column != "tags" else column


def table_rows(
    rows: Sequence[ContextRow], docs: Sequence[Doc], *, floors: bool = True, seed: int = 0
) -> list[ContextRow]:
    """All rows of a table: first the floors, then `rows`, all whole ones together, and ground truth where docs have it.

    "other image" tells the words of the first of `rows` for the next document of another image, in an order drawn by
    seed.
    """
    made: list[ContextRow] = []
    if floors:
        made.append(ContextRow(NONE, "floor", lambda doc: ()))
        if rows and len({doc.image for doc in docs}) > 1:
            made.append(ContextRow(OTHER, "floor", _of_other(rows[0].source, docs, seed)))
    made += rows
    if len(whole := [row for row in rows if not row.cut]) > 1:
        made.append(ContextRow(ALL, "all", _together(whole)))
    if floors and any(doc.truth for doc in docs):
        made.append(ContextRow(TRUTH, "ceiling", lambda doc: (Context(doc.truth),) if doc.truth else ()))
    return made


def _together(rows: Sequence[ContextRow]) -> Source:
    def source(doc: Doc) -> tuple[Context, ...]:
        found = []
        for row in rows:
            label = context_label(row.name) if row.role == "encoder" else row.name.rpartition(":")[2]
            found += [Context(one.text, one.label or label) for one in row.source(doc)]
        return tuple(found)

    return source


def _of_other(source: Source, docs: Sequence[Doc], seed: int) -> Source:
    """Each asked document gets another image's words; a shot, which is none of them, its own."""
    order = random.Random(seed).sample(docs, len(docs))
    other: dict[str, Doc] = {}
    for i, doc in enumerate(order):
        later = (order[(i + step) % len(order)] for step in range(1, len(order)))
        other[doc.id] = next((one for one in later if one.image != doc.image), doc)
    return lambda doc: source(other.get(doc.id, doc))
