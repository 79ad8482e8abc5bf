"""The interface of every encoder, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Description:
    """The words for one image."""

    text: str  # what a language model reads
    tokens: tuple[str, ...]  # the words or word pieces of `text`, without special tokens
    encoder: str  # spec of the encoder, such as "coca"
    scores: Mapping[str, float] = field(default_factory=dict)  # such as {"log_probability": -3.2}
    note: str | None = None  # for the user: a warning that the text may be wrong; language models do not see it
    cut_off: bool | None = None  # the text met the length limit before its end; None where the encoder cannot tell


class Encoder(Protocol):
    """Anything that turns images into words."""

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """One `Description` per RGB image (of any size), in order."""
        ...
