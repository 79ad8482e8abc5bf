"""CoCa as an encoder: pixels -> image tokens -> caption (Yu et al. 2022, arXiv 2205.01917)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...errors import InputError, check_range
from ..base import Description
from ..clip.clip import Clip
from ..decoding import Hypothesis, Search, search
from ..loading.guard import loading
from ..saved_models import read_config
from .coca_decoder import CachedCoca, check_cacheable

SETTINGS_NAME = "captioner.json"
UNSURE = "the captioner is unsure: this image may be unlike those that it was trained on"


@dataclass(frozen=True)
class CaptionerSettings:
    """How the captions of a trained CoCa are decoded, see `CocaCaptioner`; and what they are."""

    num_beams: int = 1
    note_below: float | None = None
    style: str | None = None


class CocaCaptioner:
    """An `Encoder` that captions images with a CoCa. Scores: "log_probability", summed over tokens and end token.

    max_tokens: new tokens at most, end token included; by default the context length less the start token.
    min_tokens: words before a caption may end. num_beams: 1 is greedy, more is beam search. note_below: captions of a
    lower "confidence", the mean log probability of a token, get a note; None for no notes. style: of the captions that
    it was trained to write ("short", "descriptive"); None where it has none.
    """

    def __init__(
        self,
        clip: Clip,
        *,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        num_beams: int = 1,
        batch_size: int = 32,
        note_below: float | None = None,
        style: str | None = None,
        spec: str = "coca",
    ) -> None:
        check_cacheable(clip.model)
        room = min(clip.context_length, clip.model.context_length) - 1
        max_tokens = room if max_tokens is None else max_tokens
        check_range("max_tokens", max_tokens, 1, room)
        check_range("min_tokens", min_tokens, 0, max_tokens)
        check_range("num_beams", num_beams, 1, clip.model.text.vocab_size // 3)
        check_range("batch_size", batch_size, 1)
        if clip.bos_id is None or clip.eos_id is None:
            raise InputError(f"the tokenizer of {clip.name} has no start or end token; captions need both")
        # Padding is never a training target, so it ends a caption too, as in open_clip's `generate`.
        ends = (clip.eos_id,) if clip.pad_id in (None, clip.eos_id) else (clip.eos_id, clip.pad_id)
        self.search = Search(clip.bos_id, ends, max_tokens, min_tokens, num_beams)
        self.clip, self.batch_size, self.spec = clip, batch_size, spec
        self.note_below, self.style = note_below, style

    @classmethod
    def from_pretrained(
        cls, checkpoint: str, *, device: str | torch.device = "cpu", spec: str = "coca"
    ) -> CocaCaptioner:
        """Load any CoCa that `Clip.from_pretrained` reads. A folder may hold `SETTINGS_NAME`, a `CaptionerSettings`."""
        folder = Path(checkpoint)
        settings = CaptionerSettings()
        if os.path.lexists(folder / SETTINGS_NAME):
            settings = read_config(CaptionerSettings, folder, "CoCa captioner", SETTINGS_NAME)
        with loading(checkpoint, "CoCa"):
            return cls(Clip.from_pretrained(checkpoint, device=device), spec=spec, **asdict(settings))

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """Caption RGB images of any size, in order."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [text for batch in batches for text in self.describe_pixels(self.clip.pixels(batch))]

    def describe_pixels(self, pixels: Tensor) -> list[Description]:
        """Caption one batch of `clip.pixels(images)`, (B, 3, H, W)."""
        return [self._description(text) for text in self.generate(pixels)]

    @torch.inference_mode()
    def generate(self, pixels: Tensor) -> list[Hypothesis]:
        """(B, 3, H, W) -> B captions as token ids with log probabilities."""
        _, image_tokens = self.clip.model.visual(pixels)  # (B, N, W)
        return self.decode(image_tokens)

    @torch.inference_mode()
    def decode(self, image_tokens: Tensor) -> list[Hypothesis]:
        """Image tokens, (B, N, W), the second output of the image tower -> B captions."""
        settings = self.search
        decoder = CachedCoca(self.clip.model, image_tokens, capacity=settings.max_tokens, num_beams=settings.num_beams)
        return search(decoder, len(image_tokens), settings, image_tokens.device)

    def _description(self, text: Hypothesis) -> Description:
        confidence = text.log_probability / (len(text.ids) + 1)  # the end is a token too
        scores = {"log_probability": text.log_probability, "confidence": confidence}
        note = UNSURE if self.note_below is not None and confidence < self.note_below else None
        cut_off = text.is_cut_off(self.search.max_tokens)
        words, pieces = self.clip.decode(text.ids), self.clip.pieces(text.ids)
        return Description(words, pieces, self.spec, scores, note, cut_off)
