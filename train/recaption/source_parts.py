"""A data set in parts: its shards, or runs of the items of a source without shards. A part is written as one file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from ...encoders.image_sources import DEFAULT_LIMITS, read_source
from ...encoders.images import ImageError, LoadedImage, display_name, load_image
from ...errors import InputError
from ...plugins import registered
from ..data.base import UnreadableItemError
from ..data.hub_datasets import DatasetItems
from ..data.patterns import local_files
from ..data.webdataset_shards import ShardItems

_SCANNERS = 8  # threads that read the headers of shards
_PROBES = 20  # items tried before a text field is called wrong
TEXT = "text"  # column or ending of the captions unless another is named


@dataclass(frozen=True)
class SourceSettings:
    """Which images and captions: as in `train.data.files.FileData`."""

    source: str
    image: str = "image"
    text: str | None = TEXT  # None: no captions are read
    split: str = "train"

    @property
    def is_shards(self) -> bool:
        return self.source.startswith("webdataset:")


@dataclass(frozen=True)
class Part:
    """A shard, or `size` items from `first` on."""

    name: str  # of its file, without ".parquet"
    shard: str | None  # path as the source names it
    first: int  # position among the items of its shard or source
    size: int
    stamp: str = ""  # another one as soon as the shard's file is another
    error: str | None = None  # why the shard cannot be opened


@dataclass(frozen=True)
class SourceParts:
    """All parts of a source, and which items these are."""

    settings: SourceSettings
    parts: Sequence[Part]
    identity: str  # changes when the items of a source without shards do; shards have stamps
    note: str | None = None  # why there are no original captions

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Item:
    """A sample as it was read. `loaded` has its image in 8-bit RGB, or the reason why there is none."""

    key: str
    sha256: str | None  # of the encoded image file's bytes
    loaded: LoadedImage
    original: tuple[str, ...] = ()
    original_error: str | None = None


class ShardError(Exception):
    """A shard cannot be opened any more, or not at all."""


class ItemReader:
    """Reads the items of parts; may be called from several threads. The last part stays open."""

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self._items = lru_cache(maxsize=2)(partial(open_items, settings))

    def open(self, part: Part) -> ShardItems | DatasetItems:
        """The items of a part's shard or source; call it once before threads read. Raises `ShardError`."""
        try:
            return self._items(part.shard)
        except InputError as error:
            if part.shard is None:
                raise
            raise ShardError(str(error)) from error

    def positions(self, part: Part) -> range:
        return range(part.first, part.first + part.size)

    def read(self, part: Part, position: int) -> Item:
        """Item at `position`. Raises `ShardError`."""
        items = self.open(part)
        try:
            key = items.key(position)
        except (OSError, InputError) as error:
            raise ShardError(f"shard {part.shard} cannot be read now ({error})") from error
        original, original_error = self._captions(items, position)
        try:
            source = items.read(position, text=False).image
            data = read_source(source, DEFAULT_LIMITS, False)
        except (UnreadableItemError, ImageError) as error:
            return Item(key, None, LoadedImage(key, None, _reason(error, items, key)), original, original_error)
        try:
            loaded = LoadedImage(key, load_image(data), None)
        except ImageError as error:
            loaded = LoadedImage(key, None, " ".join(str(error).removeprefix(f"{display_name(data)}: ").split()))
        return Item(key, hashlib.sha256(data).hexdigest(), loaded, original, original_error)

    def _captions(self, items: ShardItems | DatasetItems, position: int) -> tuple[tuple[str, ...], str | None]:
        if self.settings.text is None:
            return (), None
        try:
            return items.read(position, image=False).captions(), None
        except UnreadableItemError as error:
            reason = _reason(error, items, items.key(position))
            return (), None if reason in ("has no text", "the caption is empty") else reason


def open_items(settings: SourceSettings, shard: str | None = None) -> ShardItems | DatasetItems:
    """The items of a shard, or of a source without shards. Raises `InputError`."""
    image, text = settings.image, settings.text
    if shard is not None:
        return ShardItems(f"webdataset:{shard}", image=image, text=text, partial=True)
    return DatasetItems(settings.source, image=image, text=text, split=settings.split, held_out_share=0.0)


def _reason(error: Exception, items: ShardItems | DatasetItems, key: str) -> str:
    """The message of an error without the name of the item, which stands beside it."""
    where = f"{items.name.removeprefix('webdataset:')}: {key}" if isinstance(items, ShardItems) else key
    return " ".join(str(error).removeprefix(f"{where}: ").split())


def open_parts(
    source: str, *, image: str = "image", text: str | None = None, split: str = "train", part_size: int = 10_000
) -> SourceParts:
    """The parts of a source as in docs/data.md. text: None takes the usual place of captions, if there is one.

    Raises `InputError` for a source that cannot be read, two shards of one name, keys that are not unique, and a `text`
    that no item has. A shard that cannot be opened is a part with an `error`.
    """
    settings = SourceSettings(source, image, text or TEXT, split)
    kind = source.partition(":")[0]
    if kind == "texts" or kind in registered("SOURCES"):
        raise InputError(f"{source!r} has no image files; expected webdataset:, imagefolder:, parquet: or a data set")
    return _shard_parts(settings, text is not None) if settings.is_shards else _row_parts(settings, text, part_size)


def _shard_parts(settings: SourceSettings, text_is_given: bool) -> SourceParts:
    path = settings.source.partition(":")[2]
    if "://" in path or path.startswith("pipe:"):
        raise InputError(f"{settings.source} is not on this machine; download the shards first")
    paths = local_files(path, ".tar")
    stems = Counter(Path(one).stem for one in paths)
    stem = next((stem for stem, number in stems.items() if number > 1), None)
    if stem is not None:
        same = " and ".join([one for one in paths if Path(one).stem == stem][:2])
        raise InputError(
            f"{same} have one name, {stem}; their captions need folders of their own: run one after another"
        )
    reader = ItemReader(settings)
    with ThreadPoolExecutor(_SCANNERS) as pool:
        parts = list(pool.map(lambda one: _shard_part(one, settings), paths))
    readable = [part for part in parts if part.size]
    if text_is_given and readable:
        _check_text(reader, readable[0])
    return SourceParts(settings, parts, identity="")


def _shard_part(path: str, settings: SourceSettings) -> Part:
    name = Path(path).stem
    try:
        status = os.stat(path)
        stamp = f"{status.st_size} {status.st_mtime_ns}"
    except OSError as error:
        return Part(name, path, 0, 0, error=f"shard {path} cannot be read ({error.strerror})")
    try:
        return Part(name, path, 0, len(open_items(settings, path)), stamp)
    except InputError as error:
        return Part(name, path, 0, 0, stamp, str(error))


def _check_text(reader: ItemReader, part: Part) -> None:
    """Raises `InputError` if no item tried has a caption: then the setting is wrong, not an item."""
    errors = []
    for position in reader.positions(part)[:_PROBES]:
        item = reader.read(part, position)
        if item.original:
            return
        errors.append(item.original_error or "there is none")
    raise InputError(
        f"{part.shard}: none of {len(errors)} samples tried has a caption in {reader.settings.text!r}; the first: "
        f"{errors[0]}: set --text, or leave it out"
    )


def _row_parts(settings: SourceSettings, text: str | None, part_size: int) -> SourceParts:
    note = None
    try:
        items = open_items(settings)
    except InputError as error:
        if text is not None:
            raise
        settings = replace(settings, text=None)
        items = open_items(settings)  # where this fails too, its error is about the images
        note = f"no original captions: {error}"
    assert isinstance(items, DatasetItems)
    digest = hashlib.blake2b(digest_size=12)
    for key in _unique(items.keys(), settings.source):
        digest.update(f"{key}\n".encode("utf-8", "surrogateescape"))
    # Of images in files the names alone count, for one that is mended is to be retried; the fingerprint is that of
    # images in the data set itself.
    in_files = isinstance(_first_image(items), str)
    identity = f"{len(items)} items {digest.hexdigest()}" + ("" if in_files else f" {items.fingerprint}")
    sizes = [(first, min(part_size, len(items) - first)) for first in range(0, len(items), part_size)]
    parts = [Part(f"part-{number:05d}", None, first, size) for number, (first, size) in enumerate(sizes)]
    return SourceParts(settings, parts, identity, note)


def _first_image(items: DatasetItems) -> object:
    for position in range(min(_PROBES, len(items))):
        try:
            return items.read(position, text=False).image
        except UnreadableItemError:
            continue
    return None


def _unique(keys: Iterator[str], source: str) -> Iterator[str]:
    """The keys; at the end `InputError` if some are the same. Keeps 8 bytes of each."""
    import numpy as np

    hashes = bytearray()
    for key in keys:
        hashes += hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        yield key
    numbers = np.frombuffer(hashes, np.uint64)
    found, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    if len(found) < len(numbers):
        rows = sorted(firsts[counts > 1].tolist())
        raise InputError(
            f"{source}: {len(rows)} keys name more than one item, the first of them that of row {rows[0]}; captions "
            "are found by key: give each image a name of its own, and put several captions of one image into one list"
        )
