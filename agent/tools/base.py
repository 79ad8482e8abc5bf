"""Base classes of the LangChain tools: shared models, and errors that go back to the language model."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field, SkipValidation

from .image_access import ImageAccess
from .tool_calls import RecoverableError, ToolCalls, ToolResult
from .tool_inputs import ToolSpec, invalid_arguments
from .tool_models import ToolModels

Result = tuple[str, dict[str, Any]]
"""Text for the language model, and the evidence in plain JSON types."""


class TextlensTool(BaseTool):
    """A tool that uses shared models. `calls` does its work."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = invalid_arguments
    models: SkipValidation[ToolModels] = Field(exclude=True, repr=False)

    @property
    def calls(self) -> ToolCalls:
        return ToolCalls(self.models)


class ImageTool(TextlensTool):
    """A tool that opens images."""

    access: SkipValidation[ImageAccess] = Field(exclude=True, repr=False)

    @property
    def calls(self) -> ToolCalls:
        return ToolCalls(self.models, self.access)


def run(calls: ToolCalls, tool: ToolSpec, **arguments: Any) -> ToolResult:
    """The result of a call. Its recoverable errors become LangChain's, which the language model reads."""
    try:
        return calls.call(tool.name, arguments)
    except RecoverableError as error:
        raise ToolException(str(error)) from error


def as_message(result: ToolResult) -> Result:
    return result.text, result.evidence
