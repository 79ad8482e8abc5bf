"""The tools as a language model sees them: names, descriptions, typed arguments. LangChain and MCP offer the same."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

_IMAGE = "The image: its id, such as image-1; or a path below the allowed folders, such as trip/cat.png; or a data URL."
_MAX_SEED = 2**31 - 1  # that every server takes
_SEED = "Another seed gives another result."


class DescribeImageInput(BaseModel):
    image: str = Field(description=_IMAGE)


class AskImageInput(BaseModel):
    image: str = Field(description=_IMAGE)
    question: str = Field(description="One short question about what is in the image.", min_length=1)
    choices: list[str] | None = Field(
        default=None, description="The only possible answers, such as yes and no, where there are such.", min_length=1
    )


class ClassifyImageInput(BaseModel):
    image: str = Field(description=_IMAGE)
    labels: list[str] = Field(description="The classes to choose from, two or more.", min_length=2)


class UpsamplePromptInput(BaseModel):
    prompt: str = Field(description="A short prompt for an image generator.", min_length=1)
    seed: int = Field(default=0, ge=0, le=_MAX_SEED, description=_SEED)


class RecreateImageInput(BaseModel):
    image: str | None = Field(default=None, description=f"{_IMAGE} Leave it out to draw a text.")
    text: str | None = Field(default=None, description="The words to draw, instead of an image.")
    file_name: str | None = Field(
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
    """The invalid fields, without their values, which can be very long."""
    fields = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors()]
    return f"The arguments do not fit: {'; '.join(fields)}"
