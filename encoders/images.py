"""Safe image loading: any source -> 8-bit RGB pixels, or one clear error. For training and for describing."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..errors import InputError
from .image_sources import (
    DEFAULT_LIMITS,
    ImageError,
    ImageLimits,
    ImageSource,
    Network,
    display_name,
    read_source,
    url_scheme,
)
from .loading.decoding_process import decode_apart
from .loading.pixel_budget import IN_FLIGHT, PixelBudget, num_bytes
from .loading.pixel_decoding import Reserve, copied, decode
from .signatures import is_picture

Source = TypeVar("Source")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class LoadedImage:
    """One image of a batch; either `image` or `error` is set."""

    name: str  # `display_name` of the source
    image: Image.Image | None  # RGB
    error: str | None


def load_image(
    source: ImageSource,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: Network = False,
    trusted: bool = True,
    reserve: Reserve | None = None,
) -> Image.Image:
    """Load one image as 8-bit RGB at its own size: EXIF orientation applied, transparency on white.

    source: a path, the bytes of a file, a Pillow image (left unchanged, its current frame), a data URL, or an http(s)
    URL if `allow_network`. All of them give the same pixels. Of animations and many-page files the first frame is
    taken. 16-bit grey is divided by 257; 32-bit and float grey by the first full scale that fits (float 1, 255, 65535),
    else it is stretched from its least to its greatest value.
    trusted: False for files of strangers, such as an agent's. They, and all downloads, are decoded in a process of
    their own, which is ended after `limits.decode_seconds`.
    Raises `ImageError` for anything but a whole image within `limits`; nothing else.
    """
    with named_errors(source):
        if isinstance(source, Image.Image):
            return copied(source, limits, reserve)
        data = read_source(source, limits, allow_network)
        return decoded(data, limits, trusted=trusted and not _is_remote(source), reserve=reserve)


def decoded(data: bytes, limits: ImageLimits, *, trusted: bool, reserve: Reserve | None = None) -> Image.Image:
    """The pixels of an image file, as `load_image`, but its errors do not name the image."""
    if trusted:
        return decode(data, limits, reserve)
    image = decode_apart(data, limits)
    if reserve:  # no helper process is held while this waits
        reserve(image.width * image.height)
    return image


@contextmanager
def named_errors(source: ImageSource) -> Iterator[None]:
    """`ImageError`s get the name of their image."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{display_name(source)}: {error}") from error.__cause__


def _is_remote(source: ImageSource) -> bool:
    return isinstance(source, str) and url_scheme(source) in ("http", "https")


def load_images(
    sources: Iterable[ImageSource],
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: Network = False,
    trusted: bool = True,
    workers: int | None = None,
    ahead: int = 16,
    in_flight: int = IN_FLIGHT,
) -> Iterator[LoadedImage]:
    """Load images in order, at most `ahead` of the consumer, in `workers` threads (by default the cores, at most 4).

    in_flight: bytes of pixels that wait for the consumer, above which at most one image more is decoded, of untrusted
    images one for each worker.
    A bad image becomes a `LoadedImage` with its error. The threads end when the iterator is exhausted or closed. Other
    arguments: see `load_image`.
    """
    if ahead < 1 or in_flight < 1 or (workers is not None and workers < 1):
        raise InputError(f"got workers={workers}, ahead={ahead}, in_flight={in_flight}; each must be at least 1")
    budget = PixelBudget(in_flight)

    def load(numbered: tuple[int, ImageSource]) -> LoadedImage:
        number, source = numbered
        reserve = partial(budget.reserve, number)
        try:
            image = load_image(source, limits=limits, allow_network=allow_network, trusted=trusted, reserve=reserve)
        except ImageError as error:
            return LoadedImage(display_name(source), None, str(error))
        return LoadedImage(display_name(source), image, None)

    return budget.released(run_ahead(load, enumerate(sources), workers=workers, ahead=ahead, at_end=budget.close))


def batches(loading: Iterable[LoadedImage], size: int, in_flight: int = IN_FLIGHT) -> Iterator[list[LoadedImage]]:
    """Lists of at most `size` images, ended where their pixels reach `in_flight` bytes."""
    batch: list[LoadedImage] = []
    held = 0
    for one in loading:
        batch.append(one)
        held += num_bytes(one.image.width * one.image.height) if one.image else 0
        if len(batch) == size or held >= in_flight:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def expand_images(patterns: Sequence[str], *, recursive: bool = False) -> list[str]:
    """Files, folders (their pictures, sorted), globs and URLs -> image names.

    recursive: the pictures of a folder's subfolders too. Pictures of formats that are not read are among them, and a
    pattern without a match is kept, so that the batch reports their errors.
    """
    return [name for pattern in patterns for name in _expand(pattern, recursive) or [pattern]]


def folders_inside(patterns: Sequence[str]) -> list[str]:
    """The subfolders, with pictures in them, of those patterns that are folders."""
    folders = [Path(pattern) for pattern in patterns if not url_scheme(pattern) and os.path.isdir(pattern)]
    inside = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir() and _is_shown(path)]
    return [str(path) for path in inside if next(_pictures(path, recursive=True), None)]


def _expand(pattern: str, recursive: bool) -> list[str]:
    if url_scheme(pattern) or os.path.isfile(pattern):  # a file's name may look like a glob
        return [pattern]
    if os.path.isdir(pattern):
        return list(_pictures(Path(pattern), recursive=recursive))
    if "\0" in pattern or not glob.has_magic(pattern):
        return []
    return sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))


def _pictures(folder: Path, *, recursive: bool) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if not _is_shown(path):
            continue
        if path.is_file() and is_picture(path):
            yield str(path)
        elif recursive and path.is_dir() and not path.is_symlink():  # a link may lead back to where we are
            yield from _pictures(path, recursive=True)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def run_ahead(
    load: Callable[[Source], Loaded],
    sources: Iterable[Source],
    *,
    workers: int | None = None,
    ahead: int = 16,
    at_end: Callable[[], object] | None = None,
) -> Generator[Loaded]:
    """`load` of each source, in order, in threads; see `load_images`.

    at_end: called before the threads are waited for, however the end came.
    """
    pending: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="textlens-images")
    try:
        for source in sources:
            pending.append(pool.submit(load, source))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if at_end:
            at_end()
        pool.shutdown(cancel_futures=True)
