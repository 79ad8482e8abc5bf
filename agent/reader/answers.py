"""What the reader returns: an answer with all the evidence for it, and the lines that the command line prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...encoders.base import Description
from ...prompting.rewrites import Upsampled
from ..models.base import Completion


@dataclass(frozen=True)
class Answer:
    """What a language model made of the words for one image.

    image: the source's name. question: "" for classification and captioning. answer: answer, label or caption; None
    where there is none, and `error` says why. descriptions: the words for the image. prompt: as sent; None where it
    did not come to that. completion: the raw one. llm: the model's spec. note: what else to know, such as dropped shots
    or an answer that was cut off.
    """

    image: str
    question: str
    answer: str | None
    descriptions: tuple[Description, ...]
    prompt: str | None
    completion: Completion | None
    llm: str
    error: str | None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line of `textlens ask --json`."""
        return {"image": self.image, "question": self.question, "answer": self.answer, **self._evidence()}

    def as_label_json(self) -> dict[str, Any]:
        """The line of `textlens classify --json`."""
        return {"image": self.image, "label": self.answer, **self._evidence()}

    def _evidence(self) -> dict[str, Any]:
        return {
            "descriptions": [{"encoder": one.encoder, "text": one.text} for one in self.descriptions],
            "prompt": self.prompt,
            "completion": self.completion and self.completion.as_json(),
            "llm": self.llm,
            "error": self.error,
        }


@dataclass(frozen=True)
class Upsampling:
    """A prompt upsampled (`upsampled`), with what was sent for it and what came back."""

    upsampled: Upsampled
    prompt: str | None
    completion: Completion | None
    llm: str
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line of `textlens upsample --json`."""
        made = self.upsampled
        return {
            "original": made.original,
            "prompt": made.prompt,
            "added": list(made.added),
            "changed": list(made.changed),
            "flags": list(made.flags),
            "error": made.error,
        }
