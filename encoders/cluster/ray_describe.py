"""`describe_stream` on Ray: the workers read the images, and the results come in the order of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from ...errors import InputError
from ..base import Description
from ..image_sources import DEFAULT_LIMITS, ImageLimits, ImageSource, Network
from ..pipeline import Result, describe_stream
from ..registry import load_encoder
from .ray_actors import Work, ray_cluster

_BATCHES = 4  # of a task: few enough for an even share, enough to read ahead


def describe_on_ray(
    sources: Sequence[ImageSource],
    specs: Sequence[str],
    *,
    prompt: str | None = None,
    batch_size: int = 32,
    limits: ImageLimits = DEFAULT_LIMITS,
    allow_network: Network = False,
    workers: int | None = None,
) -> Iterator[Result]:
    """The results of `describe_stream`, in its order. Files and encoders must have the same path on all machines.

    Raises `InputError`, while iterating, where Ray is not installed, for sources that are no names, and for specs that
    do not load; `EncoderError`'s message if an encoder fails alike for all images of the first batch.
    """
    names = [source for source in sources if isinstance(source, str)]
    if len(names) < len(sources):
        raise InputError("--engine ray takes names of images, which its workers read; leave it out for stdin")
    size = _BATCHES * batch_size
    tasks = [{"names": names[first : first + size], "is_first": first == 0} for first in range(0, len(names), size)]
    make = partial(_worker, tuple(specs), prompt, batch_size, limits, allow_network)
    with ray_cluster() as cluster:
        for _, results in cluster.outcomes(make, tasks, workers=workers, in_order=True):
            yield from map(_result, results)


def _worker(
    specs: Sequence[str], prompt: str | None, batch_size: int, limits: ImageLimits, allow_network: Network
) -> Work:
    encoders = {spec: load_encoder(spec, prompt=prompt) for spec in specs}

    def describe(task: dict[str, Any]) -> list[dict[str, Any]]:
        found = describe_stream(
            task["names"], encoders, batch_size=batch_size, limits=limits, allow_network=allow_network,
            raise_if_all_fail=task["is_first"],
        )  # fmt: skip
        return [asdict(result) for result in found]

    return describe


def _result(told: dict[str, Any]) -> Result:
    one = told["description"]
    return Result(**told | {"description": one and Description(**one | {"tokens": tuple(one["tokens"])})})
