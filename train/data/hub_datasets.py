"""Map-style data sets of Hugging Face `datasets`: saved ones, its builders over local files, and hub ids.

Images are taken undecoded, for `load_image` to decode: what training sees is what `describe` sees.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...encoders.images import ImageSource
from ...errors import InputError
from .base import UnreadableItemError
from .held_out import Hashes, Split, key_hashes, mixed
from .items import Items, RawItem
from .patterns import local_files

_ROWS = 1 << 12  # read at once, in order


class DatasetItems(Items):
    """The rows of a data set with an image column, a text column, or both."""

    def __init__(self, spec: str, *, image: str | None, text: str | None, split: str, held_out_share: float) -> None:
        """image, text: names of columns, None where none is read. split: unless `spec` ends with "#split"."""
        self.name = spec
        source, _, own_split = spec.partition("#")
        dataset = load_rows(source, own_split or split)
        self._folder = _folder(source)
        self._image, self._text, self.has_images = image, text, image is not None
        self.fingerprint = str(dataset._fingerprint)  # of the rows and all that was done to them
        self._check_columns(dataset)
        self._rows = dataset.select_columns(list(dict.fromkeys(name for name in (image, text) if name))).with_format(
            "arrow"
        )
        self._texts = self._rows.select_columns([text]) if text else None
        hashes = list(self._hashes()) if held_out_share else []
        self.split = Split(hashes, held_out_share, len(dataset))
        self.identity = f"{spec} {image} {text} {len(dataset)} {held_out_share} {self.fingerprint}"

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, position: int, *, image: bool = True, text: bool = True) -> RawItem:
        table = self._rows[position]
        path = self._path(table)
        key = self._key(path, position)
        words = table[self._text][0].as_py() if text and self._text else None
        source = self._source(table[self._image][0].as_py(), key) if image else None
        return RawItem(key, source, words, names=self._names(path, position))

    def texts(self) -> Iterator[RawItem | UnreadableItemError]:
        if self._texts is None:
            return
        for first in range(0, len(self), _ROWS):
            values = self._texts[first : min(first + _ROWS, len(self))][self._text].to_pylist()
            for row, value in enumerate(values, first):
                yield RawItem(f"{self.name}: row {row}", None, value)

    def key(self, position: int) -> str:
        """As `RawItem.key`."""
        return self._key(self._path(self._rows[position]), position)

    def keys(self) -> Iterator[str]:
        """The key of every item, in order."""
        for first in range(0, len(self), _ROWS):
            stop = min(first + _ROWS, len(self))
            paths = _paths(self._rows[first:stop], self._image)
            names = paths.to_pylist() if paths is not None else [None] * (stop - first)
            yield from (self._key(name, first + i) for i, name in enumerate(names))

    def _path(self, row: pa.Table) -> str | None:
        """Of the image in one row; None where rows have none."""
        paths = _paths(row, self._image)
        return paths[0].as_py() if paths is not None else None

    def _key(self, path: str | None, position: int) -> str:
        return self._found(path) if path else f"{self.name}: row {position}"

    def _source(self, value: Any, key: str) -> ImageSource:
        """The bytes or the path that a value of the image column holds."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not value:
            raise UnreadableItemError(f"{key}: there is no image")
        return self._found(value) if isinstance(value, str) else value

    def _names(self, path: str | None, position: int) -> tuple[str, ...]:
        """Of an image: its path from the folder of the data's files, or as it is; of any other row its number."""
        if not path:
            return (f"{self.name}: row {position}",)
        inside = path.removeprefix(os.path.abspath(self._folder) + os.sep) if self._folder else path
        return tuple(dict.fromkeys((inside, path, self._found(path))))

    def _found(self, path: str) -> str:
        """A relative path is one from here, or else from the folder of the data's files."""
        beside = os.path.join(self._folder, path)
        return beside if self._folder and not os.path.exists(path) and os.path.exists(beside) else path

    def _hashes(self) -> Iterator[Hashes]:
        """Of file names where there are some, else of row numbers."""
        folder = os.path.abspath(self._folder) + os.sep
        for first in range(0, len(self), _ROWS):
            stop = min(first + _ROWS, len(self))
            numbers = mixed(np.arange(first, stop, dtype=np.uint32))
            paths = _paths(self._rows[first:stop], self._image)
            if paths is None:
                yield numbers
                continue
            names = paths.to_pylist()
            keys = key_hashes((name or "").removeprefix(folder).encode("utf-8", "surrogatepass") for name in names)
            yield np.where([bool(name) for name in names], keys, numbers)

    def _check_columns(self, dataset: Any) -> None:
        for setting, column, fits in (("image", self._image, _holds_images), ("text", self._text, _holds_texts)):
            if column is None:
                continue
            schema = dataset.features.arrow_schema
            others = ", ".join(f"{name} ({_shown(schema.field(name).type)})" for name in schema.names) or "none"
            able = [name for name in schema.names if fits(schema.field(name).type)]
            fix = f"set data.{setting} to {' or '.join(map(repr, able))}" if able else f"none of them holds {setting}s"
            if not able and setting == "image":
                fix += "; for texts alone set it to null"
            if column not in schema.names:
                raise InputError(f"{self.name} has no column {column!r}; it has {others}: {fix}")
            if column not in able:
                kind = _shown(schema.field(column).type)
                raise InputError(
                    f"{self.name}: column {column!r} holds {kind}, no {setting}s; the columns are {others}: {fix}"
                )
        if not len(dataset):
            raise InputError(f"{self.name} has no rows; expected some")


def load_rows(source: str, split: str) -> Any:
    """The map-style data set of a spec. Raises `InputError` for whatever cannot be loaded."""
    from datasets import DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    builder, colon, path = source.partition(":")
    try:
        if os.path.isdir(source):
            saved = load_from_disk(source)
            if not isinstance(saved, DatasetDict):
                return saved
            if split in saved:
                return saved[split]
            raise InputError(f"{source} has the splits {', '.join(saved)}, not {split!r}; set data.split")
        if os.path.exists(source):
            raise ValueError("a file; put its builder before it, such as parquet:, json:, webdataset: or texts:")
        if not colon:
            return load_dataset(source, split=split)
        if os.path.isdir(path):
            return load_dataset(builder, data_dir=path, split=split)
        return load_dataset(builder, data_files=[path] if "://" in path else local_files(path), split=split)
    except InputError as error:
        raise InputError(f"{source}: {error}" if source not in str(error) else str(error)) from error
    except (OSError, ValueError, TypeError, LookupError, DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(
            f"cannot read the data set {source!r} ({reason}); expected the folder of a saved data set, builder:path "
            "(imagefolder:photos, parquet:data/*.parquet), webdataset:shards/*.tar, texts:captions.txt, or a hub id"
        ) from error


def _folder(source: str) -> str:
    """Where the files of "builder:path" lie; "" of other specs."""
    path = source.partition(":")[2]
    if not path or "://" in path:
        return ""
    return path if os.path.isdir(path) else os.path.dirname(local_files(path)[0])


def _paths(table: pa.Table, column: str | None) -> pa.ChunkedArray | None:
    """The paths in an image column, where it has some."""
    if column is None:
        return None
    images = table[column]
    if pa.types.is_struct(images.type) and images.type.get_field_index("path") >= 0:
        return pc.struct_field(images, "path")
    return images if _is_text(images.type) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_texts(kind: pa.DataType) -> bool:
    """A text, or a list of texts."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return _is_text(kind) or (any(is_list(kind) for is_list in lists) and _is_text(kind.value_type))


def _holds_images(kind: pa.DataType) -> bool:
    """Bytes, a path, or a struct of "bytes" and "path"."""
    if pa.types.is_struct(kind):
        return {"bytes", "path"} >= {kind.field(i).name for i in range(kind.num_fields)}
    return _is_text(kind) or bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _shown(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return f"fields {', '.join(kind.field(i).name for i in range(kind.num_fields))}"
    return str(kind)
