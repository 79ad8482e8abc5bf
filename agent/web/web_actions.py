"""What the page can do, as plain JSON: the tools of `agent/tools/`, for images that were uploaded to memory."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ...encoders.images import DEFAULT_LIMITS, ImageLimits
from ..tools.image_access import ImageAccess
from ..tools.image_store import ImageStore
from ..tools.tool_calls import RecoverableError, ToolCalls, ToolResult, png
from ..tools.tool_inputs import ASK, CLASSIFY, DESCRIBE, MAX_CHOICES, MAX_TEXT, RECREATE, UPSAMPLE, ToolSpec
from ..tools.tool_models import ToolModels

KEPT_IMAGES = 32

_WORD = re.compile(r"\w+(?:['’-]\w+)*|\s+|[^\w\s]")


@dataclass(frozen=True)
class Sample:
    """An image that the page offers: the bytes of a file, and its name."""

    name: str
    data: bytes


class WebActions:
    """`run(action, arguments)` for the names in `ACTIONS`; `add` and `sample` take images; thread-safe.

    An image is known to those alone who were told its id, which cannot be guessed. The oldest of `KEPT_IMAGES` goes
    first; nothing is written to disk. drawing: settings of `ToolCalls`.
    """

    def __init__(
        self,
        models: ToolModels,
        limits: ImageLimits = DEFAULT_LIMITS,
        samples: Sequence[Sample] = (),
        **drawing: Any,
    ) -> None:
        self.samples = list(samples)
        self._store = ImageStore(capacity=KEPT_IMAGES, limits=limits)
        self._calls = ToolCalls(models, ImageAccess((), self._store, data_urls=False, limits=limits), **drawing)

    def add(self, data: bytes) -> dict[str, Any]:
        """Keep an image. Returns its id. Raises `ImageError`."""
        return {"image": self._store.add(data, secrets.token_urlsafe(16))}

    def sample(self, number: int) -> dict[str, Any]:
        """`add` a sample."""
        if not 0 <= number < len(self.samples):
            raise RecoverableError(f"there is no sample {number}: expected a number below {len(self.samples)}")
        return self.add(self.samples[number].data)

    def run(self, action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Raises `RecoverableError` for arguments that will not do, another `TextlensError` for a wrong set-up."""
        return ACTIONS[action](self, arguments)

    def describe(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The words of each encoder, side by side."""
        return self._call(DESCRIBE, image=self._image(arguments)).evidence

    def ask(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """An answer, with the prompt that was sent and what came back."""
        return self._call(ASK, image=self._image(arguments), question=_text(arguments, "question")).evidence

    def classify(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One of the labels."""
        labels = [label.strip() for label in _text(arguments, "labels").split(",") if label.strip()]
        if not 2 <= len(dict.fromkeys(labels)) <= MAX_CHOICES:
            raise RecoverableError(f"got {len(labels)} labels; expected 2 to {MAX_CHOICES} with commas between them")
        return self._call(CLASSIFY, image=self._image(arguments), labels=list(dict.fromkeys(labels))).evidence

    def recreate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A drawing of an image's words alone."""
        made = self._call(RECREATE, image=self._image(arguments))
        if made.picture is None:
            raise RecoverableError("nothing was drawn")
        picture = base64.b64encode(png(made.picture)).decode()
        return {"text": made.evidence["text"], "picture": f"data:image/png;base64,{picture}"}

    def upsample(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A detailed prompt, in parts that were kept and parts that were added."""
        made = self._call(UPSAMPLE, prompt=_text(arguments, "prompt")).evidence
        return {**made, "parts": marked(made["original"], made["prompt"])}

    def _call(self, tool: ToolSpec, **arguments: Any) -> ToolResult:
        return self._calls.call(tool.name, arguments)

    def _image(self, arguments: Mapping[str, Any]) -> str:
        name = arguments.get("image")
        if not isinstance(name, str) or name not in self._store.ids:
            raise RecoverableError("this image is no longer kept: choose it again")
        return name


ACTIONS = {
    "describe": WebActions.describe,
    "ask": WebActions.ask,
    "classify": WebActions.classify,
    "recreate": WebActions.recreate,
    "upsample": WebActions.upsample,
}


def marked(original: str, prompt: str) -> list[dict[str, Any]]:
    """The prompt in pieces: {"text": …, "kept": whether the original says it too}. Together they are the prompt."""
    mine, theirs = _WORD.findall(original), _WORD.findall(prompt)
    blocks = SequenceMatcher(None, [one.casefold() for one in mine], [one.casefold() for one in theirs], autojunk=False)
    kept = {place for block in blocks.get_matching_blocks() for place in range(block.b, block.b + block.size)}
    parts: list[dict[str, Any]] = []
    for place, piece in enumerate(theirs):
        same = place in kept if not piece.isspace() else bool(parts and parts[-1]["kept"])
        if parts and parts[-1]["kept"] == same:
            parts[-1]["text"] += piece
        else:
            parts.append({"text": piece, "kept": same})
    return parts


def _text(arguments: Mapping[str, Any], name: str) -> str:
    """A text among the arguments, neither blank nor too long."""
    text = arguments.get(name)
    if not isinstance(text, str) or not text.strip():
        raise RecoverableError(f"the {name} is blank; expected some words")
    if len(text) > MAX_TEXT:
        raise RecoverableError(f"the {name} has {len(text):,} characters; expected at most {MAX_TEXT:,}")
    return text.strip()
