"""The models that tools compute with, each built when the first tool needs it, and shared by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING

from ...encoders.base import Encoder
from ...encoders.images import DEFAULT_LIMITS, ImageLimits
from ...encoders.registry import ASK_ENCODERS, load_encoder
from ..models.base import DEFAULT_LANGUAGE_MODEL, LanguageModel, load_language_model

if TYPE_CHECKING:
    from ...encoders.redraw.redrawer import Redrawer
    from ..reader.describer import Describer
    from ..reader.reader import ImageReader


class ToolModels:
    """encoders, language_model, decoder: specs as the command line takes them, or what they name, ready made.

    Agents call several tools at once, in threads. Models and caches are not made for that: hold `lock` for any use.
    Raises `InputError`, at the first use, for a spec that is wrong.
    """

    def __init__(
        self,
        encoders: Sequence[str] | Mapping[str, Encoder] | None = None,
        language_model: str | LanguageModel = DEFAULT_LANGUAGE_MODEL,
        decoder: str | Redrawer | None = None,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> None:
        self.lock = RLock()
        self._encoders, self._language_model, self._decoder = encoders or ASK_ENCODERS, language_model, decoder
        self._limits = limits

    @cached_property
    def describer(self) -> Describer:
        from ..reader.describer import Describer

        given = self._encoders
        encoders = given if isinstance(given, Mapping) else {spec: load_encoder(spec) for spec in given}
        return Describer(encoders, limits=self._limits)

    @cached_property
    def language_model(self) -> LanguageModel:
        given = self._language_model
        return load_language_model(given) if isinstance(given, str) else given

    @cached_property
    def reader(self) -> ImageReader:
        from ..reader.reader import ImageReader

        reader = ImageReader(self.describer.encoders, self.language_model)
        reader.describer = self.describer  # so that an image is described once, whichever tool came first
        return reader

    @cached_property
    def redrawer(self) -> Redrawer:
        from ...encoders.redraw.redrawer import DEFAULT_DECODER, Redrawer

        given = self._decoder or DEFAULT_DECODER
        return Redrawer.from_pretrained(given) if isinstance(given, str) else given
