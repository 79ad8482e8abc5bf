"""Serves the page until Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...encoders.images import ImageLimits, expand_images, load_image
from ...errors import InputError
from ...prompting.sanitize import clean
from ..call_queue import serving_queue
from ..http_serving import HttpSettings, serve_app
from ..tools.tool_models import ToolModels
from .web_actions import Sample, WebActions
from .web_app import WebApp

_MOST_SAMPLES = 24
_KNOWS = (
    "The decoder that comes along draws coloured symbols alone, as textlens scenes makes them. For photographs start "
    "textlens web with --encoder and --decoder."
)


def offered(images: Sequence[str], limits: ImageLimits) -> list[Sample]:
    """The first `_MOST_SAMPLES` of these files and folders. Raises `ImageError` for one that cannot be read."""
    names = expand_images(images)[:_MOST_SAMPLES]
    for name in names:
        load_image(name, limits=limits)
    return [Sample(clean(os.path.basename(name)), _bytes(name)) for name in names]


def serve_web(
    models: ToolModels,
    settings: HttpSettings,
    limits: ImageLimits,
    samples: Sequence[Sample],
    announce: Callable[[str], object],
    **drawing: Any,
) -> None:
    """Serve until Ctrl-C. announce: called with the page's URL once it can be opened. drawing: of `ToolCalls`.

    Raises `InputError` for an address in use.
    """
    with serving_queue(models.answers_elsewhere) as queue:
        actions = WebActions(models, limits, samples, **drawing)
        serve_app(WebApp(actions, queue, about(models), limits).app(settings), settings, "/", announce)


def about(models: ToolModels) -> dict[str, Any]:
    """What the page says of the models, which may not be loaded yet."""
    knows = _KNOWS if models.has_own_decoder else ""
    return {"encoders": models.encoder_names, "llm": models.language_model_name, "decoder_note": knows}


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be offered ({error.strerror}); expected files, folders or globs") from error
