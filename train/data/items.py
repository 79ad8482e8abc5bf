"""Numbered items of one place, as they lie there: images undecoded, captions unchecked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...encoders.images import ImageError, ImageSource, display_name, load_image
from ...errors import InputError, encoding_error
from .base import UnreadableItemError
from .held_out import Positions, Split
from .order import permuted

if TYPE_CHECKING:
    from PIL.Image import Image

_PROBES = 20  # items tried before a source is called unreadable


@dataclass(frozen=True)
class RawItem:
    """An item as it lies there. image: bytes, path, or None; text: whatever stands where a caption should."""

    key: str
    image: ImageSource | None = None
    text: Any = None
    shard: str = ""  # name of its shard without ".tar"; "" of data without shards
    names: tuple[str, ...] = ()  # what files beside the data may call it: its key in the shard, or its path or row

    def captions(self) -> tuple[str, ...]:
        """All captions. Raises `UnreadableItemError` for anything but a text, or a list of texts, that says something.
        Empty ones in a list are left out."""
        several = self.text if isinstance(self.text, list | tuple) else [self.text]
        texts = [one for one in several if one is not None and one != ""]
        wrong = next((one for one in texts if not isinstance(one, str)), None)
        if wrong is not None:
            fields = f" with {', '.join(map(str, wrong)) or 'no fields'}" if isinstance(wrong, Mapping) else ""
            raise UnreadableItemError(f"{self.key}: the caption is {type(wrong).__name__}{fields}; expected text")
        stripped = tuple(text.strip() for text in texts if text.strip())
        if not stripped:
            raise UnreadableItemError(f"{self.key}: the caption is empty")
        problem = next((found for text in stripped if (found := encoding_error(text, "the caption"))), None)
        if problem:
            raise UnreadableItemError(f"{self.key}: {problem}")
        return stripped

    def decoded(self) -> Image:
        """The image as `describe` sees it. Raises `UnreadableItemError`."""
        if self.image is None:
            raise UnreadableItemError(f"{self.key}: there is no image")
        try:
            return load_image(self.image)
        except ImageError as error:
            reason = str(error).removeprefix(f"{display_name(self.image)}: ")
            raise UnreadableItemError(f"{self.key}: {' '.join(reason.split())}") from error


class Items(ABC):
    """Items number 0 to `len` - 1 of a spec; which of them training sees, says `split`."""

    name: str  # the spec
    identity: str  # changes whenever the items do
    split: Split
    has_images: bool = True
    shards: Positions | None = None  # first position of each shard and, at the end, the number of items
    shard_names: frozenset[str] | None = None  # without ".tar"; None of data without shards

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, position: int, *, image: bool = True, text: bool = True) -> RawItem:
        """Item number `position`, with what is asked for. Raises `UnreadableItemError`."""

    def named(self, position: int) -> RawItem:
        """Item number `position` with shard and names alone. Raises `UnreadableItemError`."""
        return self.read(position, image=False, text=False)

    def texts(self) -> Iterator[RawItem | UnreadableItemError]:
        """Every item in order, without its image."""
        for position in range(len(self)):
            try:
                yield self.read(position, image=False)
            except UnreadableItemError as error:
                yield error

    def check(self, *, texts: bool) -> None:
        """Raises `InputError` if none of the items tried can be read: then the settings are wrong, not an item."""
        first = ""
        for number in range(min(_PROBES, len(self))):
            try:
                item = self.read(permuted(number, len(self), 0), image=self.has_images, text=texts)
                if self.has_images:
                    item.decoded()
                if texts:
                    item.captions()
                return
            except UnreadableItemError as error:
                first = first or str(error)
        if not first:
            raise InputError(f"{self.name} has no items; expected some")
        raise InputError(
            f"{self.name}: none of {min(_PROBES, len(self))} items tried can be read; the first: {first}. Mend them, "
            "or set data.image and data.text"
        )
