"""The tools as a language model sees them: names, descriptions, typed arguments. LangChain and MCP offer the same.

Every argument has a limit in its schema, and is text that can be encoded, without null characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from ...errors import encoding_error
from ...prompting.sanitize import clean, told

MAX_REFERENCE = 44 * 2**20  # characters: a data URL of an image of 32 MB
MAX_TEXT = 2000  # characters of a question, a prompt, or words to draw
MAX_CHOICES, MAX_CHOICE = 50, 200  # how many choices or labels, and characters of each
MAX_NAME = 104  # characters of a file's name
_MOST_TOLD = 5  # errors
_IMAGE = "The image: its id, such as image-1; or a path below the allowed folders, such as trip/cat.png; or a data URL."
_MAX_SEED = 2**31 - 1  # that every server takes
_SEED = "Another seed gives another result."


def _text(value: Any) -> Any:
    """Refuses what no path, prompt or message can hold."""
    if isinstance(value, str):
        if reason := encoding_error(value, "this text"):
            raise ValueError(reason)
        if "\0" in value:
            raise ValueError("this text holds a null character; leave it out")
    return value


def _choice(value: str) -> str:
    """A language model writes a choice as it stands, so it holds nothing that `clean` would change."""
    if value != clean(value):
        raise ValueError("this choice cannot stand in a prompt; expected one line of plain text")
    return value


_Text = Annotated[str, BeforeValidator(_text)]
_Reference = Annotated[_Text, Field(max_length=MAX_REFERENCE)]
_Words = Annotated[_Text, Field(max_length=MAX_TEXT)]
_Choice = Annotated[_Text, Field(min_length=1, max_length=MAX_CHOICE)]


class DescribeImageInput(BaseModel):
    image: _Reference = Field(description=_IMAGE)


class AskImageInput(BaseModel):
    image: _Reference = Field(description=_IMAGE)
    question: _Words = Field(description="One short question about what is in the image.", min_length=1)
    choices: list[Annotated[_Choice, AfterValidator(_choice)]] | None = Field(
        default=None,
        description="The only possible answers, such as yes and no, where there are such.",
        min_length=1,
        max_length=MAX_CHOICES,
    )


class ClassifyImageInput(BaseModel):
    image: _Reference = Field(description=_IMAGE)
    labels: list[_Choice] = Field(
        description="The classes to choose from, two or more.", min_length=2, max_length=MAX_CHOICES
    )


class UpsamplePromptInput(BaseModel):
    prompt: _Words = Field(description="A short prompt for an image generator.", min_length=1)
    seed: int = Field(default=0, ge=0, le=_MAX_SEED, description=_SEED)


class RecreateImageInput(BaseModel):
    image: _Reference | None = Field(default=None, description=f"{_IMAGE} Leave it out to draw a text.")
    text: _Words | None = Field(default=None, description="The words to draw, instead of an image.")
    file_name: Annotated[_Text, Field(max_length=MAX_NAME)] | None = Field(
        default=None, description="Name of a new PNG file to save, such as red-star.png; without it none is saved."
    )
    side_by_side: bool = Field(default=False, description="Save image, words and drawing side by side in one picture.")
    seed: int = Field(default=0, ge=0, le=_MAX_SEED, description=_SEED)


@dataclass(frozen=True)
class ToolSpec:
    """One tool; `ToolCalls` has a method of its `method` name that takes `arguments`."""

    name: str
    method: str
    description: str
    arguments: type[BaseModel]


DESCRIBE = ToolSpec(
    "describe_image",
    "describe",
    "Describe an image in words: what is in it, where, in which colours.",
    DescribeImageInput,
)
ASK = ToolSpec(
    "ask_image", "ask", "Answer one short question about an image, such as: what colour is the star?", AskImageInput
)
CLASSIFY = ToolSpec(
    "classify_image", "classify", "Sort an image into one of several classes of your own.", ClassifyImageInput
)
UPSAMPLE = ToolSpec(
    "upsample_prompt",
    "upsample",
    "Turn a short prompt for an image generator into a detailed one that keeps every word's meaning.",
    UpsamplePromptInput,
)
RECREATE = ToolSpec(
    "recreate_image",
    "recreate",
    "Draw an image from words alone: from those of another image, to see what its words keep, or from a text. "
    "The drawing gets an id by which the other tools can look at it.",
    RecreateImageInput,
)
TOOLS = {tool.name: tool for tool in (DESCRIBE, ASK, CLASSIFY, UPSAMPLE, RECREATE)}


def invalid_arguments(error: ValidationError) -> str:
    """The first invalid fields, without their values, which can be very long."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    fields = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in found[:_MOST_TOLD]]
    more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return told(f"The arguments do not fit: {'; '.join(fields)}{more}")
