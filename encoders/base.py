"""What every encoder returns, and the one method that makes something an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Description:
    """The words for one image.

    text: what a language model reads.
    tokens: the words or word pieces that `text` was decoded from, without special tokens.
    encoder: the spec of the encoder that wrote it, such as "coca".
    scores: figures of the encoder about this text, such as {"log_probability": -3.2}; empty where there are none.
    """

    text: str
    tokens: tuple[str, ...]
    encoder: str
    scores: Mapping[str, float] = field(default_factory=dict)


class Encoder(Protocol):
    """Anything that turns images into words."""

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """Describe a batch of RGB images of any size; one `Description` each, in the same order."""
        ...
