"""The models that the tools share, each loaded at first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING

from ...encoders.base import Encoder
from ...encoders.images import DEFAULT_LIMITS, ImageLimits
from ...encoders.registry import ASK_ENCODERS, REDRAW_ENCODER, load_encoder
from ..models.base import LanguageModel
from ..models.registry import default_language_model, is_server, load_language_model
from ..models.server import ServerModel

if TYPE_CHECKING:
    from ...encoders.redraw.redrawer import Redrawer
    from ..reader.describer import Describer
    from ..reader.reader import ImageReader


class ToolModels:
    """encoders, language_model, decoder: specs of the command line, or ready-made objects.

    What is redrawn is described by the first encoder; where none is given, by `REDRAW_ENCODER`.

    Agents call tools in parallel threads, and most models are not thread-safe: hold `lock` to get one, `answering()` to
    use the language model, and `drawing` to draw; describers have a lock of their own.
    A wrong spec raises `InputError` at first use.
    """

    def __init__(
        self,
        encoders: Sequence[str] | Mapping[str, Encoder] | None = None,
        language_model: str | LanguageModel | None = None,
        decoder: str | Redrawer | None = None,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> None:
        self.lock, self.drawing, self._answering = RLock(), RLock(), RLock()
        self._encoders, self._language_model, self._decoder = encoders, language_model, decoder
        self.limits = limits

    @property
    def encoder_names(self) -> list[str]:
        """Of what describes images; nothing is loaded for it."""
        return [*(self._encoders or ASK_ENCODERS)]

    @property
    def language_model_name(self) -> str:
        """Its spec; nothing is loaded for it."""
        given = self._language_model
        return default_language_model() if given is None else given if isinstance(given, str) else given.spec

    @property
    def answers_elsewhere(self) -> bool:
        """Whether the language model is a server, which takes several requests at a time; nothing is loaded for it."""
        given = self._language_model
        return is_server(given) if isinstance(given, str) else isinstance(given, ServerModel)

    def answering(self) -> AbstractContextManager[object]:
        """Holds the language model, unless it is a server."""
        return nullcontext() if self.answers_elsewhere else self._answering

    @property
    def has_own_decoder(self) -> bool:
        """Whether drawings are by the small decoder that comes along."""
        return self._decoder is None

    @cached_property
    def describer(self) -> Describer:
        return self._describer(self._encoders or ASK_ENCODERS)

    @cached_property
    def redraw_describer(self) -> Describer:
        """Writes the words from which an image is redrawn."""
        return self.describer if self._encoders else self._describer([REDRAW_ENCODER])

    def _describer(self, given: Sequence[str] | Mapping[str, Encoder]) -> Describer:
        from ..reader.describer import Describer

        encoders = given if isinstance(given, Mapping) else {spec: load_encoder(spec) for spec in given}
        return Describer(encoders, limits=self.limits)

    @cached_property
    def language_model(self) -> LanguageModel:
        given = self._language_model
        return load_language_model(given) if given is None or isinstance(given, str) else given

    @cached_property
    def reader(self) -> ImageReader:
        from ..reader.reader import ImageReader

        reader = ImageReader(self.describer.encoders, self.language_model)
        reader.describer = self.describer  # shares its cache
        return reader

    @cached_property
    def redrawer(self) -> Redrawer:
        from ...encoders.redraw.redrawer import DEFAULT_DECODER, Redrawer

        given = self._decoder or DEFAULT_DECODER
        return Redrawer.from_pretrained(given) if isinstance(given, str) else given
