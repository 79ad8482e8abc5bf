"""Many images through encoders: decoding runs ahead in threads, and a bad image costs only itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..errors import InputError, check_range
from .base import Description, Encoder
from .frames import load_frames
from .images import DEFAULT_LIMITS, ImageError, ImageLimits, ImageSource, LoadedImage, load_images

# What a model raises for an image it cannot take or a batch too large (CUDA out of memory is a RuntimeError). Anything
# else is a bug and must surface.
_PER_IMAGE_ERRORS = (ValueError, RuntimeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Result:
    """One image through one encoder; either `description` or `error` is set."""

    image: str  # path, URL or short name
    encoder: str  # spec
    description: Description | None
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """The line of `textlens describe --json`: image, encoder, text, tokens, note, error (null on success)."""
        one = self.description
        words = {"text": one.text, "tokens": list(one.tokens)} if one else {"text": None, "tokens": None}
        named = {"image": self.image, "encoder": self.encoder, **words}
        return {**named, "note": one.note if one else None, "error": self.error}


def describe_stream(
    sources: Iterable[ImageSource],
    encoders: Mapping[str, Encoder],
    *,
    batch_size: int = 32,
    limits: ImageLimits | None = None,
    allow_network: bool = False,
    workers: int | None = None,
) -> Iterator[Result]:
    """Describe each image with each encoder (spec -> encoder), in order: image by image, encoder by encoder.

    `sources` may be endless: one batch is read ahead, in `workers` threads. An image that cannot be read or described
    yields a result with its error per encoder. Other arguments: see `load_image`.
    """
    check_range("batch_size", batch_size, 1)
    if not encoders:
        raise InputError("no encoder was given; name at least one, such as 'coca'")
    limits = limits or DEFAULT_LIMITS
    loading = load_images(sources, limits=limits, allow_network=allow_network, workers=workers, ahead=batch_size)
    return _describe_batches(loading, encoders, batch_size)


def describe_videos(
    sources: Sequence[str], encoders: Mapping[str, Encoder], *, limits: ImageLimits | None = None
) -> Iterator[Result]:
    """Describe each video (an animated image, or a folder of frames) with encoders that have `describe_video`.

    A video that cannot be read yields its error. Raises `InputError` for other encoders.
    """
    for spec, encoder in encoders.items():
        if not hasattr(encoder, "describe_video"):
            raise InputError(f"encoder {spec!r} describes single images; for videos use decap, or leave out --video")
    for source in sources:
        try:
            frames = load_frames(source, limits=limits or DEFAULT_LIMITS)
        except ImageError as error:
            yield from (Result(source, spec, None, str(error)) for spec in encoders)
            continue
        for spec, encoder in encoders.items():
            yield Result(source, spec, encoder.describe_video(frames), None)  # type: ignore[attr-defined]


def _describe_batches(
    loading: Iterator[LoadedImage], encoders: Mapping[str, Encoder], batch_size: int
) -> Iterator[Result]:
    while batch := list(islice(loading, batch_size)):
        columns = [describe_batch(batch, spec, encoder) for spec, encoder in encoders.items()]
        for results in zip(*columns, strict=True):
            yield from results


def describe_batch(batch: Sequence[LoadedImage], spec: str, encoder: Encoder) -> list[Result]:
    """One result for each image, in order; a batch that fails is described once more one by one."""
    described = iter(_describe_readable([one for one in batch if one.image is not None], spec, encoder))
    return [Result(one.name, spec, None, one.error) if one.image is None else next(described) for one in batch]


def _describe_readable(batch: list[LoadedImage], spec: str, encoder: Encoder) -> list[Result]:
    if not batch:
        return []
    try:
        described = encoder.describe([one.image for one in batch if one.image is not None])
    except _PER_IMAGE_ERRORS as error:
        if len(batch) == 1:
            return [Result(batch[0].name, spec, None, f"{spec} could not describe this image: {error}")]
        # Once more one by one, so that the good images get their words.
        return [result for one in batch for result in _describe_readable([one], spec, encoder)]
    return [Result(one.name, spec, text, None) for one, text in zip(batch, described, strict=True)]
