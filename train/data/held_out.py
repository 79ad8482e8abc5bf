"""Which items training never sees, chosen by their keys, and samples of them that decode their image when read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .base import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

Hashes = NDArray[np.uint32]
Positions = NDArray[np.int64]


def key_hashes(keys: Iterable[bytes]) -> Hashes:
    """32 bits of each key: the same on every machine."""
    return mixed(np.fromiter(map(zlib.crc32, keys), np.uint32))


def mixed(values: NDArray[np.uint32]) -> Hashes:
    """The finaliser of MurmurHash3: every bit depends on all bits of the value."""
    out = values.copy()
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
        out ^= out >> np.uint32(shift)
        out *= np.uint32(factor)
    return out ^ out >> np.uint32(16)


class Split:
    """Numbers the training items of a source, 0 to size - 1, past those that are held out.

    An item is held out where the hash of its key is below `share`: it stays so when others are added, and items of one
    key are on one side. Where that holds for none, it is the item of the least hash.
    """

    def __init__(self, hashes: Sequence[Hashes], share: float, total: int) -> None:
        """hashes: of all keys, in pieces; read only if `share` is not 0."""
        self.held: Positions = np.empty(0, np.int64)  # positions of the held-out items, in order
        if share:
            self.held = _below(hashes, int(share * 2**32))
            if not self.held.size:
                self.held = _below(hashes, 1 + min(int(part.min()) for part in hashes if part.size))
        if self.held.size == total:
            self.held = self.held[:0]
        self.size = total - self.held.size
        self._rows = self.held - np.arange(self.held.size)  # how many training items stand before each

    def position(self, row: int) -> int:
        """Where training item number `row` stands among all items."""
        return row + int(np.searchsorted(self._rows, row, side="right"))

    def rows_before(self, positions: Positions) -> Positions:
        """How many training items stand before each position."""
        return positions - np.searchsorted(self.held, positions)


def _below(hashes: Sequence[Hashes], threshold: int) -> Positions:
    starts = np.cumsum([0, *(part.size for part in hashes)])
    found = [start + np.flatnonzero(part < threshold) for start, part in zip(starts, hashes, strict=False)]
    return np.concatenate([np.empty(0, np.int64), *found])


class HeldOutSample(Sample):
    """Decodes its image on each access: thousands of samples do not keep thousands of photographs in memory."""

    _decode: Callable[[], Image | None]

    def __init__(
        self, key: str, row: int, texts: tuple[str, ...], decode: Callable[[], Image | None], text: str | None = None
    ) -> None:
        """text: the first of `texts` unless given."""
        first = texts[0] if texts else ""
        values = {"key": key, "row": row, "text": first if text is None else text, "texts": texts, "style": ""}
        for name, value in {**values, "_decode": decode}.items():
            object.__setattr__(self, name, value)

    @property
    def image(self) -> Image | None:
        return self._decode()
