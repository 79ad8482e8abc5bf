"""WebDataset shards read in place: local tar files of KEY.jpg with KEY.txt, or with a field of KEY.json.

Nothing is copied or unpacked. Where a shard's samples lie is in its index (`tar_index`); those of the few shards that
are being read are in memory, so that memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...progress import progress_bar
from .base import UnreadableItemError
from .held_out import Split
from .items import Items, RawItem
from .patterns import local_files, shard_stem
from .tar_index import DAMAGED, MISSING, Endings, index_file, member_endings, shard_index

FIELDS = ("captions", "caption", "text")  # of a KEY.json, looked for in this order
_IMAGES = ("jpg", "jpeg", "png", "webp")
_SCANNERS = 8  # threads that read headers


class ShardItems(Items):
    """The samples of "webdataset:shards/*.tar", in order of the shards."""

    def __init__(
        self,
        spec: str,
        *,
        image: str | None,
        text: str | None,
        held_out_share: float = 0.0,
        window: int = 1,
        partial: bool = False,
    ) -> None:
        """image: endings, "jpg;png", or the column's usual name for all known ones. text: an ending, "json:FIELD", or
        the column's usual name for KEY.txt or else KEY.json. None where none is read. window: samples that are
        read in mixed order. partial: shards of a larger source, which may have no image or no text at all."""
        self.name, self._partial = spec, partial
        self._paths = local_files(spec.partition(":")[2], ".tar")
        self._stems = [shard_stem(path) for path in self._paths]
        self.shard_names = frozenset(self._stems)
        self.has_images, self._has_texts = image is not None, text is not None
        ending, _, self._field = (text or "").partition(":")
        known = ("txt", "json") if text == "text" else (ending,) if text else ()
        images = _IMAGES if image == "image" else tuple((image or "").lower().split(";"))
        self._endings = Endings(images if image else (), known)
        counts = self._scan(held_out_share)
        self.shards = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        open_shards = min(256, 4 + window * len(counts) // max(1, sum(counts)))
        self._shard = lru_cache(maxsize=max(8, open_shards))(self._open)

    def __len__(self) -> int:
        return 0 if self.shards is None else int(self.shards[-1])

    def read(self, position: int, *, image: bool = True, text: bool = True) -> RawItem:
        assert self.shards is not None
        number = int(np.searchsorted(self.shards, position, side="right")) - 1
        path = self._paths[number]
        try:
            shard = self._shard(number)
        except (OSError, InputError) as error:
            raise UnreadableItemError(f"{path}: item {position}: its shard cannot be read now ({error})") from error
        row = shard.rows[position - int(self.shards[number])]
        name = key_text(row)
        key = f"{path}: {name}"
        words = self._words(key, row, shard.member(key, row, "text")) if text else None
        return RawItem(key, shard.member(key, row, "image") if image else None, words, self._stems[number], (name,))

    def key(self, position: int) -> str:
        """The sample's key in its shard. Raises `InputError` or `OSError` where that cannot be opened any more."""
        assert self.shards is not None
        number = int(np.searchsorted(self.shards, position, side="right")) - 1
        return key_text(self._shard(number).rows[position - int(self.shards[number])])

    def _words(self, key: str, row: np.void, content: bytes) -> Any:
        """The caption as it stands in a text file, or in a field of a JSON file."""
        try:
            written = content.decode()
            if not self._field and not self._endings.text[row["ending"]].endswith("json"):
                return written
            value = json.loads(written)
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise UnreadableItemError(f"{key}: the text is damaged ({error})") from error
        if not isinstance(value, dict) and not self._field:
            return value
        fields = value if isinstance(value, dict) else {}
        found = next((name for name in ([self._field] if self._field else FIELDS) if name in fields), None)
        if found is None:
            wanted = self._field or ", ".join(FIELDS)
            fix = f'set data.text to one of them: "json:{next(iter(fields))}"' if fields else "there are none"
            raise UnreadableItemError(f"{key}: its JSON has no {wanted}, but {', '.join(fields) or 'no fields'}: {fix}")
        return fields[found]

    def _open(self, number: int) -> _Shard:
        return _Shard(self._paths[number], shard_index(self._paths[number], self._endings))

    def _scan(self, held_out_share: float) -> list[int]:
        """The number of samples in each shard; from all indices, the split and the identity."""
        counts, hashes, images, texts = [], [], 0, 0
        digest = hashlib.blake2b(digest_size=8)
        with progress_bar("shards", disable=self._partial) as bar, ThreadPoolExecutor(_SCANNERS) as pool:
            task = bar.add_task("reading headers", total=len(self._paths), note="")
            for path, rows in zip(self._paths, pool.map(self._index, self._paths), strict=True):
                counts.append(len(rows))
                hashes.append(rows["hash"].copy() if held_out_share else rows["hash"][:0])
                images += int((rows["image"] >= 0).sum())
                texts += int((rows["text"] >= 0).sum())
                digest.update(index_file(path, self._endings).name.encode())
                bar.update(task, advance=1)
        if not self._partial:
            self._check_found(images, texts)
        self.split = Split(hashes, held_out_share, sum(counts))
        self.identity = f"{self.name} {self._field} {sum(counts)} {held_out_share} {digest.hexdigest()}"
        return counts

    def _index(self, path: str) -> NDArray[np.void]:
        return shard_index(path, self._endings)

    def _check_found(self, images: int, texts: int) -> None:
        wanted = (
            (self.has_images, "image", images, self._endings.image),
            (self._has_texts, "text", texts, self._endings.text),
        )
        for needed, setting, found, endings in wanted:
            if needed and not found:
                there = ", ".join(member_endings(self._paths[0])) or "nothing"
                raise InputError(
                    f"{self.name}: no sample has a member that ends in {' or '.join(endings)}; {self._paths[0]} has "
                    f"{there}: set data.{setting}"
                )


def key_text(row: np.void) -> str:
    """The key of a sample in an index; what is no UTF-8 in it is replaced."""
    return str(row["key"].decode("utf-8", "replace"))


class _Shard:
    """An open shard. Reads are by place, so that processes which share the file do not disturb each other."""

    def __init__(self, path: str, rows: NDArray[np.void]) -> None:
        self.path, self.rows = path, rows
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def member(self, key: str, row: np.void, kind: str) -> bytes:
        """A member of a sample: "image" or "text". Raises `UnreadableItemError`."""
        offset, size = int(row[kind]), int(row[f"{kind}_size"])
        if offset == MISSING:
            raise UnreadableItemError(f"{key}: has no {kind}")
        if offset == DAMAGED:
            raise UnreadableItemError(f"{key}: the shard is damaged or cut off here")
        try:
            content = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise UnreadableItemError(f"{key}: cannot be read ({error})") from error
        if len(content) < size:
            raise UnreadableItemError(f"{key}: the shard is cut off within its {kind}")
        return content
