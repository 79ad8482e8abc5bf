"""LangChain tools: describe, ask about, classify and redraw images, upsample prompts.

Each returns a short text for the language model, and the evidence as the message's artifact, in plain JSON types.
Wrong names and arguments go back to the model as an error message; a wrong set-up raises `InputError`.
"""

from __future__ import annotations

import base64
import io
from typing import Any

from langchain_core.tools import ToolException
from PIL.Image import Image
from pydantic import BaseModel, Field, SkipValidation

from ...encoders.images import display_name
from ...encoders.redraw.recreate import Recreation
from ...prompting.rewrites import FLAGS
from ...prompting.sanitize import clean, quoted
from ..reader.upsampler import upsample
from .base import ImageTool, Result, TextlensTool, recoverable, with_notes
from .output_folder import OutputFolder

_IMAGE = "The image: its id, such as image-1; or a path below the allowed folders, such as trip/cat.png; or a data URL."
_MAX_SEED = 2**31 - 1  # that every server takes
_SEED = "Another seed gives another result."


class DescribeImageInput(BaseModel):
    image: str = Field(description=_IMAGE)


class DescribeImage(ImageTool):
    """All encoders' descriptions of one image."""

    name: str = "describe_image"
    description: str = "Describe an image in words: what is in it, where, in which colours."
    args_schema: Any = DescribeImageInput

    def _run(self, image: str) -> Result:
        words = [{"encoder": one.encoder, "text": one.text} for one in self.descriptions(self.open(image))]
        lines = [f"{one['encoder']}: {quoted(clean(one['text']))}" for one in words]
        return "\n".join(lines), {"image": display_name(image), "descriptions": words}


class AskImageInput(BaseModel):
    image: str = Field(description=_IMAGE)
    question: str = Field(description="One short question about what is in the image.", min_length=1)
    choices: list[str] | None = Field(
        default=None, description="The only possible answers, such as yes and no, where there are such.", min_length=1
    )


class AskImage(ImageTool):
    """A question about one image, answered by the reader's language model from the encoders' words."""

    name: str = "ask_image"
    description: str = "Answer one short question about an image, such as: what colour is the star?"
    args_schema: Any = AskImageInput

    def _run(self, image: str, question: str, choices: list[str] | None = None) -> Result:
        answer = self.answer(image, lambda reader, opened: reader.ask([opened], [question], choices=choices))
        return with_notes(str(answer.answer), [answer.note]), answer.as_json()


class ClassifyImageInput(BaseModel):
    image: str = Field(description=_IMAGE)
    labels: list[str] = Field(description="The classes to choose from, two or more.", min_length=2)


class ClassifyImage(ImageTool):
    """One of the given classes for one image."""

    name: str = "classify_image"
    description: str = "Sort an image into one of several classes of your own."
    args_schema: Any = ClassifyImageInput

    def _run(self, image: str, labels: list[str]) -> Result:
        answer = self.answer(image, lambda reader, opened: reader.classify([opened], labels))
        return with_notes(str(answer.answer), [answer.note]), answer.as_label_json()


class UpsamplePromptInput(BaseModel):
    prompt: str = Field(description="A short prompt for an image generator.", min_length=1)
    seed: int = Field(default=0, ge=0, le=_MAX_SEED, description=_SEED)


class UpsamplePrompt(TextlensTool):
    """A short prompt made detailed; if that fails, the prompt itself with the reason."""

    name: str = "upsample_prompt"
    description: str = "Turn a short prompt for an image generator into a detailed one that keeps every word's meaning."
    args_schema: Any = UpsamplePromptInput

    def _run(self, prompt: str, seed: int = 0) -> Result:
        with self.models.lock:
            model = self.models.language_model
            with recoverable():
                (made,) = upsample(model, [prompt], seed=seed)
        notes = [FLAGS[flag] for flag in made.upsampled.flags] + [made.upsampled.error]
        completion = made.completion and made.completion.as_json()
        evidence = {"sent": made.prompt, "completion": completion, "llm": made.llm, "note": made.note}
        return with_notes(made.upsampled.prompt, notes), {**made.as_json(), **evidence}


class RecreateImageInput(BaseModel):
    image: str | None = Field(default=None, description=f"{_IMAGE} Leave it out to draw a text.")
    text: str | None = Field(default=None, description="The words to draw, instead of an image.")
    file_name: str | None = Field(
        default=None, description="Name of a new PNG file to save, such as red-star.png; without it none is saved."
    )
    side_by_side: bool = Field(default=False, description="Save image, words and drawing side by side in one picture.")
    seed: int = Field(default=0, ge=0, le=_MAX_SEED, description=_SEED)


class RecreateImage(ImageTool):
    """An image redrawn from the words of one encoder alone, or a drawing of given words."""

    name: str = "recreate_image"
    description: str = (
        "Draw an image from words alone: from those of another image, to see what its words keep, or from a text. "
        "The drawing gets an id by which the other tools can look at it."
    )
    args_schema: Any = RecreateImageInput
    output: SkipValidation[OutputFolder | None] = Field(default=None, exclude=True, repr=False)  # None: saves nothing
    guidance_scale: float = Field(default=3.0, ge=1)
    num_inference_steps: int = Field(default=50, ge=1)

    def _run(
        self,
        image: str | None = None,
        text: str | None = None,
        file_name: str | None = None,
        side_by_side: bool = False,
        seed: int = 0,
    ) -> Result:
        if file_name:
            with recoverable():
                self._output().check(file_name)  # before drawing
        if bool(image) == bool(text):  # models fill what they leave out with empty strings
            raise ToolException("expected either an image or a text to draw")
        opened = self.open(image) if image else None
        steps = self.num_inference_steps
        settings: dict[str, Any] = {"guidance_scale": self.guidance_scale, "num_inference_steps": steps, "seed": seed}
        with self.models.lock:
            words = (text or "") if opened is None else self.descriptions(opened, to_redraw=True)[0].text
            redrawer = self.models.redrawer
            with recoverable():
                made = Recreation(opened, words, redrawer.draw([words], **settings)[0])
        picture = made.picture if side_by_side else made.drawn
        with recoverable():
            path = self._output().save(file_name, picture) if file_name else None
            drawn = self.access.drawn.add(made.drawn)
        saved = f"saved as {file_name}, and " if path else ""
        evidence = {
            "image": image and display_name(image),
            "text": words,
            "decoder": redrawer.name,
            **settings,
            "id": drawn,
            "out": path and str(path),
            "picture": _data_url(picture),
        }
        return f"Drawn from the words {quoted(clean(words))}; {saved}kept as {drawn}.", evidence

    def _output(self) -> OutputFolder:
        if self.output is None:
            raise ToolException("no files may be written here; leave out file_name")
        return self.output


def _data_url(image: Image) -> str:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
