"""Base classes of the LangChain tools: images, results, and errors that go back to the language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.tools import BaseTool, ToolException
from PIL.Image import Image
from pydantic import Field, SkipValidation, ValidationError

from ...encoders.base import Description
from ...encoders.images import display_name
from ...errors import TextlensError
from ...prompting.sanitize import clean
from .image_access import ImageAccess
from .tool_models import ToolModels

if TYPE_CHECKING:
    from ..reader.answers import Answer
    from ..reader.reader import ImageReader

Result = tuple[str, dict[str, Any]]
"""Text for the language model, and the evidence in plain JSON types."""


@contextmanager
def recoverable() -> Iterator[None]:
    """Errors in here go to the language model, which may correct its call or tell the user."""
    try:
        yield
    except TextlensError as error:
        raise ToolException(str(error)) from error


def with_notes(text: str, notes: list[str | None]) -> str:
    """The text, sanitised, with the notes in parentheses."""
    known = [note for note in notes if note]
    return f"{clean(text)} ({'; '.join(known)})" if known else clean(text)


def _invalid_arguments(error: ValidationError) -> str:
    """The invalid fields, without their values, which can be very long."""
    fields = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors()]
    return f"The arguments do not fit: {'; '.join(fields)}"


class TextlensTool(BaseTool):
    """A tool that uses shared models."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = _invalid_arguments
    models: SkipValidation[ToolModels] = Field(exclude=True, repr=False)


class ImageTool(TextlensTool):
    """A tool that opens images."""

    access: SkipValidation[ImageAccess] = Field(exclude=True, repr=False)

    def open(self, reference: str) -> Image:
        with recoverable():
            return self.access.open(reference)

    def descriptions(self, image: Image, *, to_redraw: bool = False) -> tuple[Description, ...]:
        """By all encoders; to_redraw: by those whose words are drawn."""
        with self.models.lock:
            describer = self.models.redraw_describer if to_redraw else self.models.describer
            (described,) = describer.describe([image])
        if described.error is not None:
            raise ToolException(described.error)
        return described.descriptions

    def answer(self, reference: str, ask: Callable[[ImageReader, Image], list[Answer]]) -> Answer:
        """What the reader answers to `ask` about an image."""
        opened = self.open(reference)
        with self.models.lock:
            reader = self.models.reader
            with recoverable():
                (answer,) = ask(reader, opened)
        if answer.answer is None:
            raise ToolException(f"no answer: {answer.error}")
        return replace(answer, image=display_name(reference))
