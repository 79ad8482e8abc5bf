"""Many images through encoders: decoding runs ahead in threads, and a bad image costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from ..errors import InputError, check_range, shortened
from .base import Description, Encoder
from .frames import load_frames
from .image_sources import DEFAULT_LIMITS, ImageError, ImageLimits, ImageSource, Network
from .images import LoadedImage, batches, load_images


class EncoderError(InputError):
    """An encoder that fails for every image: the cause is the encoder or its settings, not an image."""


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


_Attempt = tuple[Result, Exception | None]  # with what the encoder raised


def describe_stream(
    sources: Iterable[ImageSource],
    encoders: Mapping[str, Encoder],
    *,
    batch_size: int = 32,
    limits: ImageLimits | None = None,
    allow_network: Network = False,
    workers: int | None = None,
    raise_if_all_fail: bool = True,
) -> Iterator[Result]:
    """Describe each image with each encoder (spec -> encoder), in order: image by image, encoder by encoder.

    `sources` may be endless: one batch is read ahead, in `workers` threads. Batches of large images are smaller: one
    ends, and reading ahead waits, where the pixels reach `IN_FLIGHT` bytes. An image that cannot be read or described
    yields a result with its error per encoder. Other arguments: see `load_image`.
    Raises `EncoderError`, while iterating, if an encoder fails alike for all images of the first batch (two or more),
    unless `raise_if_all_fail` is False.
    """
    check_range("batch_size", batch_size, 1)
    if not encoders:
        raise InputError("no encoder was given; name at least one, such as 'coca'")
    limits = limits or DEFAULT_LIMITS
    loading = load_images(sources, limits=limits, allow_network=allow_network, workers=workers, ahead=batch_size)
    return _describe_batches(loading, encoders, batch_size, raise_if_all_fail)


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
            yield _one_result(source, spec, partial(encoder.describe_video, frames))[0]  # type: ignore[attr-defined]


def _describe_batches(
    loading: Iterator[LoadedImage], encoders: Mapping[str, Encoder], batch_size: int, raise_if_all_fail: bool
) -> Iterator[Result]:
    is_checked = raise_if_all_fail
    for batch in batches(loading, batch_size):
        columns = []
        for spec, encoder in encoders.items():
            described = _describe_readable([one for one in batch if one.image is not None], spec, encoder)
            if is_checked:
                _raise_if_all_failed(spec, [fault for _, fault in described])
            columns.append(_in_order(batch, spec, described))
        is_checked = False
        for results in zip(*columns, strict=True):
            yield from results


def describe_batch(batch: Sequence[LoadedImage], spec: str, encoder: Encoder) -> list[Result]:
    """One result for each image, in order; a batch that fails is described once more one by one."""
    return _in_order(batch, spec, _describe_readable([one for one in batch if one.image is not None], spec, encoder))


def _in_order(batch: Sequence[LoadedImage], spec: str, described: list[_Attempt]) -> list[Result]:
    """The results of the readable images, and between them those of the others."""
    results = iter(result for result, _ in described)
    return [Result(one.name, spec, None, one.error) if one.image is None else next(results) for one in batch]


def _describe_readable(batch: list[LoadedImage], spec: str, encoder: Encoder) -> list[_Attempt]:
    images = [one.image for one in batch if one.image is not None]
    if len(images) > 1:
        try:
            described = zip(batch, encoder.describe(images), strict=True)
            return [(Result(one.name, spec, text, None), None) for one, text in described]
        except Exception:  # of whatever image, or of too large a batch: once more one by one
            pass
    return [
        _one_result(one.name, spec, partial(_alone, encoder, image)) for one, image in zip(batch, images, strict=True)
    ]


def _alone(encoder: Encoder, image: Image.Image) -> Description:
    return encoder.describe([image])[0]


def _one_result(name: str, spec: str, describe: Callable[[], Description]) -> _Attempt:
    """The result of one image by itself. Models raise almost anything for what they cannot take."""
    try:
        return Result(name, spec, describe(), None), None
    except Exception as error:
        return Result(name, spec, None, f"{name}: {spec} could not describe this image: {_short(error)}"), error


def _raise_if_all_failed(spec: str, faults: list[Exception | None]) -> None:
    """One image may be at fault itself; two or more that fail alike are not."""
    first = faults[0] if faults else None
    if first is not None and len(faults) > 1 and len({type(fault) for fault in faults}) == 1:
        raise EncoderError(
            f"encoder {spec} failed for all {len(faults)} images of the first batch: {_short(first)}; "
            "choose another encoder, or other settings of it"
        ) from first


def _short(error: Exception) -> str:
    """The error on one line; its class too where the message may not be meant for users."""
    message, name = shortened(error, 300), type(error).__name__
    return message if isinstance(error, ValueError | RuntimeError) or message == name else f"{name}: {message}"
