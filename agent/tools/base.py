"""What the LangChain tools of this package have in common: errors that a language model can mend, images, results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from langchain_core.tools import BaseTool, ToolException
from PIL.Image import Image
from pydantic import Field, SkipValidation, ValidationError

from ...errors import TextlensError
from ...prompting.sanitize import clean
from .image_access import ImageAccess
from .tool_models import ToolModels

Result = tuple[str, dict[str, Any]]
"""What the language model reads, and the evidence, in plain JSON types."""


@contextmanager
def recoverable() -> Iterator[None]:
    """What goes wrong in here is the language model's to mend, or to pass on to the user."""
    try:
        yield
    except TextlensError as error:
        raise ToolException(str(error)) from error


def with_notes(text: str, notes: list[str | None]) -> str:
    """The text, fit to be read by a language model, and what else it should know."""
    known = [note for note in notes if note]
    return f"{clean(text)} ({'; '.join(known)})" if known else clean(text)


def _invalid_arguments(error: ValidationError) -> str:
    """The fields and what is wrong with them, without the values: they can be very long."""
    wrong = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors()]
    return f"The arguments do not fit: {'; '.join(wrong)}"


class TextlensTool(BaseTool):
    """A tool that computes with shared models."""

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
