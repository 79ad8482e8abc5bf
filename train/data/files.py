"""Data in files: image folders, WebDataset shards, parquet, saved data sets and hub ids, by one set of settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..engine.settings import settings
from .base import DataSource


@settings
class FileData:
    """Settings of a source in files.

    source: "webdataset:shards/*.tar", "imagefolder:photos/", "parquet:data/*.parquet" or another builder of Hugging
    Face `datasets`, the folder of a saved data set, or a hub id; "texts:captions.txt.gz" for texts alone.
    """

    source: str
    image: str = "image"  # image column; in shards the file endings, "jpg" alone or "jpg;png"
    text: str = "text"  # text column; in shards "txt", or a field of the JSON file: "json:captions"
    split: str = "train"  # of a hub data set
    held_out: str | None = None  # a source in the same format for validation, such as "webdataset:val-*.tar"
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.02  # where there is none: share of the items, by key
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.01  # share of the items that may be unreadable
    crop_scale: tuple[float, float] | None = (0.9, 1.0)  # area of the random crops in training; None for none
    shuffle_buffer: Annotated[int, Field(ge=1)] = 10_000  # samples of shards that are mixed

    def open(self, *, image_size: int = 0, texts: bool = True) -> DataSource:
        """The source that `source` names, as `DataSettings.open`."""
        raise NotImplementedError
