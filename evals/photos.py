"""Photographs with their captions, of any data source, for an evaluation: all of them, or a sample drawn by seed."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer
from PIL.Image import Image

from ..errors import InputError
from ..train.data.base import DataSource, Sample, UnreadableItemError, data_settings
from ..train.data.files import FileData, FileSource
from ..train.data.held_out import HeldOutSample

SourceArgument = Annotated[
    str, typer.Argument(help='A source as in docs/data.md, such as "webdataset:test-*.tar" or "imagefolder:photos/".')
]
TextOption = Annotated[str, typer.Option("--text", help='Column or field of the captions, such as "json:captions".')]
ImageOption = Annotated[str, typer.Option("--image", help="Column or file endings of the images.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Photographs, drawn by --seed; by default all.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of all that is drawn.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def open_all(source: str, *, texts: bool = True, text: str = "text", image: str = "image") -> DataSource:
    """A source of which nothing is held out, where it is one of files. texts: False for images alone."""
    settings = data_settings({"source": source, **_given(text=text, image=image)})
    if isinstance(settings, FileData):
        settings = replace(settings, held_out_share=0.0)
    return settings.open(texts=texts)


def load_photos_of(
    source: str,
    *,
    text: str = "text",
    image: str = "image",
    limit: int | None = None,
    seed: int = 0,
    texts: bool = True,
) -> list[Sample]:
    """The items of `source` with all their captions, in its order; images are decoded whenever they are read.

    text, image: as in `FileData`. limit: so many, drawn by `seed`; of a plug-in's source the first held-out ones.
    texts: False for images alone. Raises `InputError` for a source that cannot be read, and for items without caption:
    an evaluation needs all.
    """
    opened = open_all(source, texts=texts, text=text, image=image)
    if not isinstance(opened, FileSource):
        if limit is None:
            raise InputError(f"{source!r} has no end; give a limit")
        return list(opened.held_out(limit))
    rows = list(range(opened.size))
    if limit is not None and limit < len(rows):
        rows = sorted(random.Random(seed).sample(rows, limit))
    samples, errors = [], []
    for row in rows:
        try:
            read = opened.read(row, row, seed, image=False)
        except UnreadableItemError as error:
            errors.append(str(error))
        else:
            samples.append(HeldOutSample(read.key, row, read.texts, partial(_image, opened, row)))
    if errors:
        raise InputError(f"{len(errors)} of {len(rows)} items have no caption: {'; '.join(errors[:5])}; mend them")
    return list(samples)


def _given(**columns: str) -> dict[str, Any]:
    """Those that differ from the names that every source has, which plug-ins do not take."""
    return {name: column for name, column in columns.items() if column != name}


def _image(source: DataSource, row: int) -> Image | None:
    try:
        return source.read(row, row, 0).image
    except UnreadableItemError as error:
        raise InputError(f"{error}; mend or remove it") from error
