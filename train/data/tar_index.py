"""Where the samples of a tar shard lie: read from its headers once, then kept in a small file of a cache folder.

A sample is all members of one name up to the first dot: photos/0001.jpg and photos/0001.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache import cache_folder
from ...errors import InputError
from .held_out import key_hashes

MISSING, DAMAGED = -1, -2  # offsets: a sample without such a member; an entry for what stood behind the damage
_VERSION = 1
# np.load parses a header with `ast`, which is not safe in several threads before Python 3.12: SystemError, "AST
# constructor recursion depth mismatch" (github.com/python/cpython/issues/106905).
_LOADING = threading.Lock()


@dataclass(frozen=True)
class Endings:
    """Endings of the members that count, those that come first preferred."""

    image: Sequence[str]
    text: Sequence[str]


def shard_index(path: str, endings: Endings) -> NDArray[np.void]:
    """One row a sample in order of the shard: "image" and "text" (int64 offsets, or `MISSING`), "image_size" and
    "text_size" (bytes), "ending" (number of the text's), "hash" (of the key) and "key".

    Raises `InputError` for a file that cannot be opened as a tar file.
    """
    cached = index_file(path, endings)
    try:
        with _LOADING:
            rows: NDArray[np.void] = np.load(cached, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        rows = _rows(_samples(path, endings))
        with contextlib.suppress(OSError):  # a folder that cannot be written: the headers are read again
            save_index(cached, rows)
    return rows


def index_file(path: str, endings: Endings) -> Path:
    """The cache file of a shard, another one as soon as the shard or the endings are others."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"shard {path} cannot be read ({error})") from error
    named = [_VERSION, os.path.abspath(path), status.st_size, status.st_mtime_ns, *endings.image, "", *endings.text]
    name = hashlib.blake2b("\n".join(map(str, named)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder("shards") / f"{name}.npy"


def save_index(path: Path, rows: NDArray[np.void]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # several processes may be at it at once
    with open(temporary, "wb") as file:
        np.save(file, rows, allow_pickle=False)
    os.replace(temporary, path)


def make_rows(samples: Sequence[tuple[bytes, int, int, int, int, int]]) -> NDArray[np.void]:
    """Rows of (key, image offset and size, text offset, size and number of the ending)."""
    width = max((len(sample[0]) for sample in samples), default=1)
    kinds = [("key", f"S{width}"), ("image", "<i8"), ("image_size", "<u4"), ("text", "<i8"), ("text_size", "<u4")]
    rows = np.empty(len(samples), [*kinds, ("ending", "u1"), ("hash", "<u4")])
    rows["hash"] = key_hashes(sample[0] for sample in samples)
    for name, values in zip(
        ("key", "image", "image_size", "text", "text_size", "ending"), zip(*samples, strict=True), strict=False
    ):
        rows[name] = values
    return rows


def member_endings(path: str) -> list[str]:
    """The endings that the members of a shard have."""
    return sorted({ending for member in _members(path) if member and (ending := _parts(member.name)[1])})


def repeated_members(path: str) -> list[str]:
    """Names that more than one file of a shard has; of a sample's files the first one counts."""
    names = Counter(member.name for member in _members(path) if member and member.isfile())
    return [name for name, number in names.items() if number > 1]


@dataclass
class _Sample:
    image: tuple[int, int, int] | None = None  # number of the ending, offset, bytes
    text: tuple[int, int, int] | None = None
    damaged: bool = False


def _samples(path: str, endings: Endings) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    last = ""
    for member in _members(path):
        if member is None:
            samples[f"after {last}"] = _Sample(damaged=True)
            break
        last, ending = _parts(member.name)
        if not member.isfile() or os.path.basename(last).startswith(("__", "._")) or not ending:
            continue
        sample = samples.setdefault(last, _Sample())
        for kind, known in (("image", endings.image), ("text", endings.text)):
            held = getattr(sample, kind)
            if ending in known and (held is None or known.index(ending) < held[0]):
                setattr(sample, kind, (known.index(ending), member.offset_data, member.size))
    return samples


def _rows(samples: dict[str, _Sample]) -> NDArray[np.void]:
    made = []
    for key, sample in samples.items():
        missing = (0, DAMAGED if sample.damaged else MISSING, 0)
        _, image, image_size = sample.image or missing
        ending, text, text_size = sample.text or missing
        sizes = [min(size, 2**32 - 1) for size in (image_size, text_size)]
        made.append((key.encode("utf-8", "surrogateescape"), image, sizes[0], text, sizes[1], ending))
    return make_rows(made)


def _parts(name: str) -> tuple[str, str]:
    """ "photos/0001.seg.png" -> "photos/0001", "seg.png"."""
    folder, file = os.path.split(name)
    stem, _, ending = file.partition(".")
    return os.path.join(folder, stem), ending.lower()


def _members(path: str) -> Iterator[tarfile.TarInfo | None]:
    """The members in order; None at the end of a shard that is damaged or cut off behind them."""
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise tarfile.ReadError("compressed; decompress it, for samples are read by their place in it")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield from _whole_members(tar)
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    yield None
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise InputError(
            f"shard {path} cannot be opened ({error}); expected an uncompressed tar file of KEY.jpg and KEY.txt or "
            "KEY.json: mend or remove it"
        ) from error


def _whole_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, ValueError, OSError):
            return  # what follows is damaged
        if member is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
        yield member
