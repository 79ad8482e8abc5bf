"""Captions beside a data set: parquet files that name each item by shard and key, and hold a text for each style.

Columns: `shard` (null where there are none), `key`, `original` (list of texts), a text for each style (null where there
is none), and for each of them `keep_STYLE` (false: a check rejected it) and `reasons_STYLE`. `textlens recaption` and
`train.captions.caption_targets` write them; the images and captions of the data set stay as they are.

The usable texts of one style are copied once into an Arrow file of the cache folder, which is memory-mapped, with the
sorted hashes of their keys beside it: 12 bytes an item, mapped too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from ...cache import cache_folder
from ...errors import InputError
from ..data.patterns import local_files, shard_stem
from ..recaption.part_file import FIXED, new_part, schema

_VERSION = 3
_ROWS = 1 << 16  # read at once
_ROW = re.compile(r".*: row (\d+)")  # key of an item without a name: "parquet:data/*.parquet: row 17"


class CaptionSidecars:
    """The captions of one style, by shard and key."""

    def __init__(self, captions: str, style: str, *, by_shard: bool, rejected: bool = False) -> None:
        """captions: a folder of parquet files, or a pattern as in docs/data.md. by_shard: False where the data has no
        shards and the key alone says which item it is. rejected: take captions that a check rejected too.

        Raises `InputError` for files that cannot be read, an unknown style, and where there is no such caption.
        """
        self.name, self.style, self._by_shard = captions, style, by_shard
        paths = _files(captions)
        _check_style(paths, style, captions)
        folder = cache_folder("captions")
        base = folder / _fingerprint(paths, [_VERSION, style, by_shard, rejected])
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(base.with_suffix(".lock")):
            if not base.with_suffix(".json").exists():
                _build(paths, style, base, by_shard=by_shard, rejected=rejected)
        self.counts: Mapping[str, Mapping[str, int]] = json.loads(base.with_suffix(".json").read_text("utf-8"))
        self._hashes: NDArray[np.uint64] = np.load(base.with_suffix(".hashes.npy"), mmap_mode="r")
        self._rows: NDArray[np.uint32] = np.load(base.with_suffix(".rows.npy"), mmap_mode="r")
        table = pa.ipc.open_file(pa.memory_map(str(base.with_suffix(".arrow")))).read_all()
        self._places, self._texts = table["place"], table["text"]
        if not len(self):
            raise InputError(f"{captions} has no {style} caption to use ({self.told()}); expected some")

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, shard: str, names: Sequence[str]) -> str | None:
        """The caption of an item; names: what its key may be, the likeliest first."""
        for name in names:
            place = _place(shard, name, self._by_shard)
            wanted = np.uint64(_hash(place))
            number = int(np.searchsorted(self._hashes, wanted))
            if number < len(self) and self._hashes[number] == wanted:
                row = int(self._rows[number])
                if self._places[row].as_py() == place:
                    return str(self._texts[row].as_py())
        return None

    def usable(self, shards: Collection[str] | None = None) -> int:
        """How many captions there are, in these shards."""
        return self._sums(shards)["usable"]

    def told(self, shards: Collection[str] | None = None) -> str:
        """ "12 failed, 3 rejected", in these shards."""
        sums = self._sums(shards)
        return f"{sums['failed']} failed, {sums['rejected']} rejected by a check"

    def example(self) -> str:
        """The shard and key of one caption, for messages."""
        place = str(self._places[0].as_py()).split("\0")
        return f"key {place[-1]!r}" + (f" of shard {place[0]!r}" if self._by_shard else "")

    def _sums(self, shards: Collection[str] | None) -> Counter[str]:
        found: Counter[str] = Counter()
        for shard, counts in self.counts.items():
            if shards is None or shard in shards:
                found.update(counts)
        return found


def styles_of(schema: pa.Schema) -> list[str]:
    """The styles that a file has captions of."""
    texts = [name for name in schema.names if pa.types.is_string(schema.field(name).type) or _null(schema, name)]
    return [name for name in texts if name not in FIXED and not name.startswith(("keep_", "reasons_"))]


def write_captions(path: Path, rows: Iterable[Mapping[str, Any]], styles: Sequence[str]) -> int:
    """Write one file as `textlens recaption` does, whole or not at all; returns the number of rows. rows: shard, key,
    original and, for each style, STYLE, keep_STYLE and reasons_STYLE (texts)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_part(path, schema(styles)) as part:
        for row in rows:
            part.add([dict(row)])
    return part.number


def _files(captions: str) -> list[str]:
    try:
        return local_files(captions, ".parquet")
    except InputError as error:
        raise InputError(f"blend.captions: {error}; parquet files as `textlens recaption` writes them") from None


def _null(schema: pa.Schema, name: str) -> bool:
    return bool(pa.types.is_null(schema.field(name).type))  # a column in which every caption is missing


def _check_style(paths: Sequence[str], style: str, captions: str) -> None:
    schema = _open(paths[0]).schema_arrow
    missing = [name for name in ("shard", "key") if name not in schema.names]
    if missing:
        raise InputError(
            f"{paths[0]} has no column {' and '.join(missing)}, but {', '.join(schema.names)}; expected captions as "
            "`textlens recaption` writes them"
        )
    if style not in styles_of(schema):
        known = ", ".join(styles_of(schema)) or "none"
        raise InputError(f"{captions} has no captions of style {style!r}; its styles are {known}: set blend.style")


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a parquet file of captions") from error


def _fingerprint(paths: Sequence[str], about: Sequence[Any]) -> str:
    stamps = [[os.path.abspath(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in paths]
    return hashlib.blake2b(json.dumps([about, stamps]).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _build(paths: Sequence[str], style: str, base: Path, *, by_shard: bool, rejected: bool) -> None:
    """The Arrow file, the sorted hashes and, last, the counts by shard, which say that all is there."""
    counts: dict[str, Counter[str]] = {}
    hashes: list[NDArray[np.uint64]] = []
    schema = pa.schema({"place": pa.large_string(), "text": pa.large_string()})
    with pa.OSFile(str(base.with_suffix(".arrow")), "wb") as file, pa.ipc.new_file(file, schema) as out:
        for table in _tables(paths, style):
            kept = _usable(table, style, counts, rejected)
            shards, keys = kept["shard"].to_pylist(), kept["key"].to_pylist()
            places = [_place(shard_stem(shard or ""), key, by_shard) for shard, key in zip(shards, keys, strict=True)]
            out.write_table(pa.table({"place": places, "text": kept[style].cast(pa.large_string())}, schema=schema))
            hashes.append(np.fromiter(map(_hash, places), np.uint64, len(places)))
    every = np.concatenate([np.empty(0, np.uint64), *hashes])
    order = np.argsort(every, kind="stable").astype(np.uint32)
    _check_unique(every[order])
    np.save(base.with_suffix(".hashes.npy"), every[order])
    np.save(base.with_suffix(".rows.npy"), order)
    base.with_suffix(".json").write_text(json.dumps(counts), encoding="utf-8")


def _tables(paths: Sequence[str], style: str) -> Iterator[pa.Table]:
    for path in paths:
        file = _open(path)
        columns = [name for name in ("shard", "key", style, f"keep_{style}") if name in file.schema_arrow.names]
        if not {"shard", "key", style} <= set(columns):
            raise InputError(f"{path} has no {style} captions, but other files beside it have; expected them in all")
        try:
            for batch in file.iter_batches(_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} is damaged ({error}); write it again") from error


def _usable(table: pa.Table, style: str, counts: dict[str, Counter[str]], rejected: bool) -> pa.Table:
    """The rows with a caption to use; adds to the counts of each shard."""
    text = table[style].cast(pa.string())
    there = pc.and_(table["key"].is_valid(), text.is_valid())
    there = pc.and_(there, pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(text), ""), ""))
    keep = f"keep_{style}"
    kept = pc.fill_null(table[keep], False) if keep in table.column_names and not rejected else there
    kinds = np.where(~there.to_numpy(), "failed", np.where(kept.to_numpy(), "usable", "rejected"))
    for shard, kind in zip(pc.fill_null(table["shard"], "").to_pylist(), kinds.tolist(), strict=True):
        counts.setdefault(shard_stem(shard), Counter())[kind] += 1
    return table.set_column(table.schema.get_field_index(style), style, text).filter(pc.and_(there, kept))


def _place(shard: str, key: str, by_shard: bool) -> str:
    """What tells an item from all others of the data. Rows are told by their number, however the source is spelt."""
    if by_shard:
        return f"{shard}\0{key}"
    row = _ROW.fullmatch(key)
    return f"row {row[1]}" if row else key


def _hash(place: str) -> int:
    return int.from_bytes(hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _check_unique(hashes: NDArray[np.uint64]) -> None:
    """A hash of 64 bits is the same for two keys of 100 million once in 4,000 data sets: then say so, too."""
    twice = int((hashes[1:] == hashes[:-1]).sum())
    if twice:
        raise InputError(
            f"{twice} keys have several captions of one style; expected one for each item: name one set of files, "
            "and shards of different names"
        )
