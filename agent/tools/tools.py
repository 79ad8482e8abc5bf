"""LangChain tools: describe, ask about, classify and redraw images, upsample prompts.

Each returns a short text for the language model, and the evidence as the message's artifact, in plain JSON types.
Wrong names and arguments go back to the model as an error message; a wrong set-up raises `InputError`.
"""

from __future__ import annotations

import base64
from typing import Any

from PIL.Image import Image
from pydantic import Field, SkipValidation

from .base import ImageTool, Result, TextlensTool, as_message, run
from .output_folder import OutputFolder
from .tool_calls import ToolCalls, png
from .tool_inputs import ASK, CLASSIFY, DESCRIBE, RECREATE, UPSAMPLE


class DescribeImage(ImageTool):
    """All encoders' descriptions of one image."""

    name: str = DESCRIBE.name
    description: str = DESCRIBE.description
    args_schema: Any = DESCRIBE.arguments

    def _run(self, image: str) -> Result:
        return as_message(run(self.calls, DESCRIBE, image=image))


class AskImage(ImageTool):
    """A question about one image, answered by the reader's language model from the encoders' words."""

    name: str = ASK.name
    description: str = ASK.description
    args_schema: Any = ASK.arguments

    def _run(self, image: str, question: str, choices: list[str] | None = None) -> Result:
        return as_message(run(self.calls, ASK, image=image, question=question, choices=choices))


class ClassifyImage(ImageTool):
    """One of the given classes for one image."""

    name: str = CLASSIFY.name
    description: str = CLASSIFY.description
    args_schema: Any = CLASSIFY.arguments

    def _run(self, image: str, labels: list[str]) -> Result:
        return as_message(run(self.calls, CLASSIFY, image=image, labels=labels))


class UpsamplePrompt(TextlensTool):
    """A short prompt made detailed; if that fails, the prompt itself with the reason."""

    name: str = UPSAMPLE.name
    description: str = UPSAMPLE.description
    args_schema: Any = UPSAMPLE.arguments

    def _run(self, prompt: str, seed: int = 0) -> Result:
        return as_message(run(self.calls, UPSAMPLE, prompt=prompt, seed=seed))


class RecreateImage(ImageTool):
    """An image redrawn from the words of one encoder alone, or a drawing of given words."""

    name: str = RECREATE.name
    description: str = RECREATE.description
    args_schema: Any = RECREATE.arguments
    output: SkipValidation[OutputFolder | None] = Field(default=None, exclude=True, repr=False)  # None: saves nothing
    guidance_scale: float = Field(default=3.0, ge=1)
    num_inference_steps: int = Field(default=50, ge=1)

    @property
    def calls(self) -> ToolCalls:
        return ToolCalls(self.models, self.access, self.output, self.guidance_scale, self.num_inference_steps)

    def _run(
        self,
        image: str | None = None,
        text: str | None = None,
        file_name: str | None = None,
        side_by_side: bool = False,
        seed: int = 0,
    ) -> Result:
        arguments = {"image": image, "text": text, "file_name": file_name, "side_by_side": side_by_side, "seed": seed}
        made = run(self.calls, RECREATE, **arguments)
        assert made.picture is not None
        return made.text, {**made.evidence, "picture": _data_url(made.picture)}


def _data_url(image: Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
