"""Data in files: image folders, WebDataset shards, parquet, saved data sets and hub ids, by one set of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field

from ...errors import InputError
from ..captions.blended_captions import Blend, BlendedCaptions
from ..engine.randomness import sample_rng
from ..engine.settings import settings
from .base import DataSource, Sample, UnreadableItemError
from .held_out import HeldOutSample
from .items import Items
from .order import ShardOrder, epoch_position, permuted

_HELD_OUT = 104  # key of the order in which held-out items are taken


@settings
class FileData:
    """Settings of a source in files.

    source: "webdataset:shards/*.tar", "imagefolder:photos/", "parquet:data/*.parquet" or another builder of Hugging
    Face `datasets`, the folder of a saved data set, or a hub id; "texts:captions.txt.gz" for texts alone.
    """

    source: str
    image: str | None = "image"  # image column; in shards the file endings, "jpg" or "jpg;png"; None: texts alone
    text: str = "text"  # text column; in shards "txt", or a field of the JSON file: "json:captions"
    split: str = "train"  # of a hub data set; "#split" behind a source names its own
    held_out: str | None = None  # a source in the same format for validation, such as "webdataset:val-*.tar"
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.02  # where there is none: share of the items, by key
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.01  # share of the items that may be unreadable
    crop_scale: tuple[float, float] | None = (0.9, 1.0)  # area of the random crops in training; None for none
    shuffle_buffer: Annotated[int, Field(ge=1)] = 10_000  # samples of shards that are mixed
    blend: Blend | None = None  # synthetic captions to draw from beside the items' own

    def __post_init__(self) -> None:
        if self.held_out == self.source:
            raise InputError(f"held_out is the source itself, {self.source!r}; expected other items, or held_out_share")
        if self.crop_scale and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise InputError(f"crop_scale is {self.crop_scale}; expected two shares of the area, the smaller one first")

    def open(self, *, image_size: int = 0, texts: bool = True) -> FileSource:
        """The source that `source` names, as `DataSettings.open`; images have the size that their files have."""
        items = self._items(self.source, 0.0 if self.held_out else self.held_out_share, texts)
        held_out = self._items(self.held_out, 0.0, texts) if self.held_out else None
        blend = BlendedCaptions(self.blend, items) if self.blend and texts else None
        source = FileSource(self, items, held_out, texts, blend)
        source.image_size = image_size
        return source

    def _items(self, spec: str, share: float, texts: bool) -> Items:
        from .hub_datasets import DatasetItems
        from .texts import TextItems
        from .webdataset_shards import ShardItems

        kind, _, path = spec.partition(":")
        text = self.text if texts else None
        items: Items
        if kind in ("webdataset", "texts") and ("://" in path or path.startswith("pipe:")):
            raise InputError(f"{spec} is not on this machine; {kind}: reads local files: download them first")
        if not texts and (kind == "texts" or self.image is None):
            raise InputError(f"{spec} is read for its texts alone; expected a source with images")
        if kind == "texts":
            items = TextItems(spec, self.text, share)
        elif kind == "webdataset":
            window = self.shuffle_buffer
            items = ShardItems(spec, image=self.image, text=text, held_out_share=share, window=window)
        else:
            items = DatasetItems(spec, image=self.image, text=text, split=self.split, held_out_share=share)
        items.check(texts=texts)
        return items


class FileSource(DataSource):
    """The items of a spec; held out are those of another one, or a share of them by key."""

    def __init__(
        self,
        data: FileData,
        items: Items,
        held_out: Items | None = None,
        texts: bool = True,
        blend: BlendedCaptions | None = None,
    ) -> None:
        super().__init__()
        self._blend, self.notes = blend, (blend.note,) if blend else ()
        self.size: int = items.split.size
        self.identity, self.max_bad, self.crop_scale = items.identity, data.max_bad, data.crop_scale
        self.items, self._texts = items, texts
        self._held_out_items = held_out or items
        self._held_out_positions = range(len(held_out)) if held_out else items.split.held
        self._held_out: list[Sample] = []  # those that can be read, of the first `_tried`
        self._tried = 0
        self._order: Callable[[int, int], int] | None = None
        if items.shards is not None:
            self._order = ShardOrder(items.split.rows_before(items.shards), data.shuffle_buffer)

    def row(self, index: int, seed: int) -> int:
        return self._order(index, seed) if self._order else epoch_position(index, self.size, seed)

    def read(self, row: int, index: int, seed: int, *, image: bool = True) -> Sample:
        if image and not self.items.has_images:
            raise InputError(f"{self.items.name} is read for its texts alone; expected a source with images")
        item = self.items.read(self.items.split.position(row), image=image, text=self._texts)
        texts = item.captions() if self._texts else ()
        text, style = sample_rng(seed, index).choice(texts) if texts else "", ""
        if self._blend and texts:
            text, style = self._blend.draw(item, texts, index, seed)
        return Sample(item.key, row, item.decoded() if image else None, text, texts, style)

    def held_out(self, number: int) -> list[Sample]:
        """The first `number` in an order that is spread over them all; `image` is decoded whenever it is read."""
        total = len(self._held_out_positions)
        while len(self._held_out) < number and self._tried < total:
            place = permuted(self._tried, total, _HELD_OUT)
            self._tried += 1
            try:
                self._held_out.append(self._held_out_sample(int(self._held_out_positions[place]), self._tried - 1))
            except UnreadableItemError as error:
                self._skipped.append(str(error))
        return self._held_out[:number]

    def captions(self) -> Iterator[str]:
        held, number = set(self.items.split.held.tolist()), 0
        for position, item in enumerate(self.items.texts()):
            if position in held:
                continue
            try:
                if isinstance(item, UnreadableItemError):
                    raise item
                texts = item.captions()
                if self._blend:
                    texts = (*texts, *self._blend.synthetic_of(self.items.named(position)))
                for text in texts:
                    number += 1
                    yield text
            except UnreadableItemError as error:
                self._skipped.append(str(error))
        if not number:
            raise InputError(f"{self.items.name} has no captions; expected a text column or field: set data.text")

    def _held_out_sample(self, position: int, row: int) -> Sample:
        """Raises `UnreadableItemError` now, rather than when the image is read."""
        items = self._held_out_items
        images = items.has_images
        item = items.read(position, image=images, text=self._texts)
        if images:
            item.decoded()
        texts = item.captions() if self._texts else ()
        text = self._blend.held_out(item) if self._blend else None
        return HeldOutSample(
            item.key, row, texts, lambda: items.read(position, text=False).decoded() if images else None, text
        )
