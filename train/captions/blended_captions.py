"""Original or synthetic caption, drawn anew each time an item is shown.

A model that learns from synthetic captions alone takes over its captioner's habits: length, letter case, first words.
So a share of the original ones stays in (Betker et al. 2023, "Improving Image Generation with Better Captions", which
tried 65, 80, 90 and 95 % synthetic ones and used 95).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ...errors import InputError
from ..data.base import UnreadableItemError
from ..data.items import Items, RawItem
from ..data.order import permuted
from ..engine.randomness import sample_rng
from ..engine.settings import settings
from .caption_sidecars import CaptionSidecars

ORIGINAL = "original"  # style of samples that show one of the item's own captions
_BLEND = 105  # stream of random numbers
_PROBES = 1000  # items tried before the captions are called those of other data


@settings
class Blend:
    """Settings of `data.blend`."""

    captions: str  # folder of the parquet files that `textlens recaption` wrote
    style: str  # which of their captions: "short", "descriptive"
    share: Annotated[float, Field(ge=0, le=1)] = 0.95  # chance of a synthetic caption each time an item is shown
    rejected: bool = False  # take also the captions that a check rejected (`keep_STYLE` is false)
    held_out: bool = False  # held-out samples have the synthetic caption as their text too; `texts` stay their own

    def __post_init__(self) -> None:
        if self.style == ORIGINAL:
            raise InputError("blend.style is 'original'; expected a style of synthetic captions")


class BlendedCaptions:
    """Draws the caption of each sample. An item without a synthetic caption keeps its own."""

    def __init__(self, blend: Blend, items: Items) -> None:
        """Raises `InputError` where none of the items has a caption there."""
        shards = items.shard_names
        self.blend = blend
        self._sidecars = CaptionSidecars(
            blend.captions, blend.style, by_shard=shards is not None, rejected=blend.rejected
        )
        self._check_items(items)
        found = min(len(items), self._sidecars.usable(shards))
        told = self._sidecars.told(shards)
        missing = f"; the other {len(items) - found} keep their own ({told})" if found < len(items) else ""
        self.note = f"{found} of {len(items)} items have a {blend.style} caption in {blend.captions}{missing}"

    def draw(self, item: RawItem, texts: Sequence[str], index: int, seed: int) -> tuple[str, str]:
        """Caption and style of sample `index`: a function of both numbers alone."""
        if sample_rng(seed, index, _BLEND).random() < self.blend.share:
            found = self.synthetic(item)
            if found is not None:
                return found, self.blend.style
        return sample_rng(seed, index).choice(texts), ORIGINAL

    def synthetic(self, item: RawItem) -> str | None:
        """The item's synthetic caption, if it has one to use."""
        return self._sidecars.find(item.shard, item.names)

    def synthetic_of(self, item: RawItem) -> tuple[str, ...]:
        """The same, as captions that may be none."""
        found = self.synthetic(item)
        return () if found is None else (found,)

    def held_out(self, item: RawItem) -> str | None:
        """The caption that a held-out sample shows instead of its own."""
        return self.synthetic(item) if self.blend.held_out else None

    def _check_items(self, items: Items) -> None:
        tried: RawItem | None = None
        for number in range(min(_PROBES, len(items))):
            try:
                tried = items.named(permuted(number, len(items), 0))
            except UnreadableItemError:
                continue
            if self.synthetic(tried) is not None:
                return
        here = "without a key"
        if tried and tried.names:
            here = f"key {tried.names[0]!r}" + (f" of shard {tried.shard!r}" if tried.shard else "")
        raise InputError(
            f"none of {min(_PROBES, len(items))} items tried of {items.name} has a {self.blend.style} caption in "
            f"{self.blend.captions}: an item here is {here}, one there {self._sidecars.example()}; expected captions "
            "of the same data"
        )
