"""What the reader returns: an answer with its evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...encoders.base import Description
from ...prompting.rewrites import Upsampled
from ..models.base import Completion


@dataclass(frozen=True)
class Answer:
    """What a language model made of the words for one image."""

    image: str  # the source's name
    question: str  # "" for classification and captioning
    answer: str | None  # answer, label or caption; None if `error` is set
    descriptions: tuple[Description, ...]  # the words for the image
    prompt: str | None  # as sent; None if none was
    completion: Completion | None
    llm: str  # the model's spec
    error: str | None
    note: str | None = None  # dropped shots, an answer that was cut off, an encoder that is unsure

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
            "note": self.note,
        }


@dataclass(frozen=True)
class Upsampling:
    """An upsampled prompt, with what was sent for it and what came back."""

    upsampled: Upsampled
    prompt: str | None
    completion: Completion | None
    llm: str
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line of `textlens upsample --json`."""
        return asdict(self.upsampled)
