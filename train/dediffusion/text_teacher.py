"""Losses beyond the paper, off by default: a CLIP's text tower that judges the soft text, and a captioner's words.

Either needs a CLIP whose tokenizer gives the words the same ids as the decoder's: OpenAI's own tokens, as in Stable
Diffusion, or a decoder made from this very CLIP.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.dediffusion.vocabulary import Vocabulary
from ...errors import InputError
from .decoder import freeze
from .soft_tokens import mix, soft_embeddings, token_embedding
from .text_objectives import IGNORED


class TextTeacher:
    """A frozen CLIP (for captions a CoCa) that reads soft texts over `vocabulary`, or writes texts of its own in it."""

    def __init__(self, clip: Clip, vocabulary: Vocabulary) -> None:
        freeze(clip.model)
        self.clip, self.ids, self.words = clip, vocabulary.ids, vocabulary.words
        if not torch.equal(clip.tokenize(vocabulary.words)[:, 1], self.ids):
            raise InputError(
                f"the tokens of {clip.name} are not the decoder's, so it can neither judge nor teach texts; expected "
                "the same tokenizer: set clip_weight and caption_weight to 0, or take another CLIP"
            )

    def distance(self, pixels: Tensor, probabilities: Tensor) -> Tensor:
        """1 - cosine of image and soft text, mean over the batch. pixels (B, 3, H, W); probabilities (R, N, V), R / B
        texts of each image side by side. A text longer than the tower's context loses its end.
        """
        clip = self._on(pixels.device)
        with torch.no_grad():
            image = clip.embed_pixels(pixels)  # (B, D)
        text = self._embed(clip, probabilities[:, : clip.context_length - 2])
        return 1 - (image.repeat_interleave(len(text) // len(image), 0) * text).sum(-1).mean()

    @torch.no_grad()
    def caption_words(self, pixels: Tensor, length: int) -> Tensor:
        """(B, length) int64: numbers in the vocabulary of the first words that a caption has in it, then `IGNORED`."""
        clip = self._on(pixels.device)
        number = {token: i for i, token in enumerate(self.ids.tolist())}
        rows = torch.full((len(pixels), length), IGNORED)
        for row, caption in zip(rows, CocaCaptioner(clip).generate(pixels), strict=True):
            kept = [number[token] for token in caption.ids if token in number][:length]
            row[: len(kept)] = torch.tensor(kept, dtype=torch.long)
        return rows.to(pixels.device)

    def _embed(self, clip: Clip, probabilities: Tensor) -> Tensor:
        """(R, N, V) -> (R, D) unit length: start, the soft words, end and padding through the text tower."""
        tower: Any = getattr(clip.model, "text", clip.model)  # CoCa's, or that of a plain CLIP
        placeholders = " ".join(self.words[:1] * probabilities.shape[1])
        text = clip.tokenize([placeholders]).to(probabilities.device).expand(len(probabilities), -1)
        with soft_embeddings(tower, mix(probabilities, token_embedding(tower).weight[self.ids])):
            return F.normalize(clip.model.encode_text(text).float(), dim=-1)

    def _on(self, device: torch.device) -> Clip:
        if self.clip.device != device:
            self.clip.model.to(device)
        return self.clip
