"""De-Diffusion as an encoder: pixels -> patch tokens -> pooler -> word logits -> words that can redraw the image.

Source: Wei et al., "De-Diffusion Makes Text a Strong Cross-Modal Interface", CVPR 2024, arXiv 2311.00618.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError, check_range
from ..base import Description
from ..clip.clip import Clip
from ..clip.space import space_name
from ..loading.guard import loading
from .dediffusion_checkpoint import KIND, load_model, push_model, save_model
from .dediffusion_model import DediffusionConfig, DediffusionModel
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase

__all__ = ["Dediffusion", "DediffusionConfig", "DediffusionModel"]


@dataclass(frozen=True, eq=False)
class Dediffusion:
    """An `Encoder`: the likeliest word of each query, in order; words below `min_probability` are left out.

    Scores: "log_probability", summed over the words. Build it with `new` (to train) or `from_pretrained`.
    """

    model: DediffusionModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    spec: str = field(default="dediffusion", kw_only=True)  # the `encoder` of descriptions
    batch_size: int = field(default=64, kw_only=True)  # images per forward pass

    def __post_init__(self) -> None:
        if len(self.vocabulary) != self.config.vocabulary_size:
            raise InputError(
                f"the tokenizer gives {len(self.vocabulary):,} words, but this {KIND} was made for "
                f"{self.config.vocabulary_size:,}; use the tokenizer that it was trained with"
            )
        check_range("batch_size", self.batch_size, 1)
        if self.config.word_bias is not None and len(self.config.word_bias) != len(self.vocabulary):
            raise InputError(
                f"word_bias has {len(self.config.word_bias):,} numbers for {len(self.vocabulary):,} words; "
                "expected one for each"
            )
        self.model.eval()

    @classmethod
    def new(
        cls,
        config: DediffusionConfig,
        clip: Clip,
        tokenizer: PreTrainedTokenizerBase,
        token_embeddings: Tensor | None = None,
    ) -> Dediffusion:
        """Random weights (torch's global generator) on the CLIP's device, to be trained.

        clip: the backbone. tokenizer, token_embeddings (total, W): of the text encoder that will read the words; the
        embeddings are for the tied head alone. These fill in the last fields of `config`.
        """
        vocabulary = config.vocabulary(tokenizer)
        kept = None if token_embeddings is None else _kept_rows(token_embeddings, vocabulary)
        config = replace(
            config,
            backbone=space_name(clip),
            patch_width=clip.patch_shape[1],
            vocabulary_size=len(vocabulary),
            text_width=kept.shape[1] if kept is not None and config.head == "tied" else 0,
        )
        return cls(DediffusionModel(config, clip, kept).to(clip.device), tokenizer, vocabulary)

    @property
    def config(self) -> DediffusionConfig:
        return self.model.config

    @property
    def clip(self) -> Clip:
        """The backbone, with its preprocessing."""
        return self.model.clip

    def describe(self, images: Sequence[Image], *, num_tokens: int | None = None) -> list[Description]:
        """One `Description` per RGB image of any size, in order; num_tokens: use the first queries alone."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [
            one for batch in batches for one in self.describe_pixels(self.clip.pixels(batch), num_tokens=num_tokens)
        ]

    def describe_pixels(self, pixels: Tensor, *, num_tokens: int | None = None) -> list[Description]:
        """Describe one batch of `clip.pixels(images)`, (B, 3, H, W)."""
        chosen = self.choose_words(self.word_logits(pixels, num_tokens))
        return [self._description(places, score) for places, score in chosen]

    @torch.inference_mode()
    def word_logits(self, pixels: Tensor, num_tokens: int | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, N, V): logits over the kept words for the first `num_tokens` queries (default: all)."""
        number = self.config.num_queries if num_tokens is None else num_tokens
        check_range("num_tokens", number, 1, self.config.num_queries)
        patches = self.model.patch_tokens(pixels)  # (B, P, patch_width)
        hidden = self.model.read(patches)  # (B, num_queries, width)
        return self.model.head(hidden[:, :number])  # (B, N, V)

    def choose_words(self, logits: Tensor) -> list[tuple[list[int], float]]:
        """(B, N, V) -> for each image its words (indices into the vocabulary) and their log probability."""
        if self.config.word_bias is not None:
            logits = logits.float() + logits.new_tensor(self.config.word_bias, dtype=torch.float)
        if self.config.distinct:
            log_probabilities, chosen = distinct_words(logits.float().log_softmax(-1))  # (B, N) each
        else:
            best, chosen = logits.float().max(dim=-1)
            log_probabilities = best - logits.float().logsumexp(dim=-1)
        wanted = math.log(self.config.min_probability) if self.config.min_probability else -math.inf
        kept = log_probabilities >= log_probabilities.amax(1, keepdim=True).clamp(max=wanted)  # the surest word stays
        rows = zip(chosen.tolist(), log_probabilities.tolist(), kept.tolist(), strict=True)
        return [(list(compress(places, keep)), sum(compress(scores, keep))) for places, scores, keep in rows]

    def _description(self, places: list[int], score: float) -> Description:
        words = tuple(self.vocabulary.words[place] for place in places)
        return Description(" ".join(words), words, self.spec, {"log_probability": score})

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors (in `dtype` if given) and the tokenizer's files.

        A frozen backbone is named, not copied: a local folder by its path relative to `folder`.
        """
        save_model(self.model, self.tokenizer, Path(folder), dtype)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, dtype: torch.dtype | None = None) -> str:
        """Upload what `save_pretrained` writes, with a local backbone; returns the commit's URL.

        Raises `InputError` without network, or without the right to write there.
        """
        return push_model(self.model, self.tokenizer, repo_id, private, dtype)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        backbone: Clip | None = None,
        device: str | torch.device = "cpu",
        spec: str = "dediffusion",
    ) -> Dediffusion:
        """Read what `save_pretrained` wrote, from a folder or a Hugging Face hub id.

        backbone: by default loaded as the config names it. spec: the `encoder` of descriptions.
        Raises `InputError` for anything that is missing or does not fit.
        """
        with loading(source, KIND):
            model, tokenizer = load_model(source, backbone, device)
            return cls(model, tokenizer, model.config.vocabulary(tokenizer), spec=spec)


def distinct_words(log_probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, V) -> log probability and index of a word for each query, (B, N) each, none twice: the surest query
    chooses first."""
    number, size = log_probabilities.shape[1:]
    if number > size:
        raise InputError(f"{number} queries cannot write different words of {size}; set distinct to false")
    left = log_probabilities.clone()
    rows = torch.arange(len(left), device=left.device)
    values, indices = left.new_zeros(left.shape[:2]), torch.zeros(left.shape[:2], dtype=torch.long, device=left.device)
    for _ in range(number):
        value, place = left.flatten(1).max(-1)
        query, word = place // size, place % size
        values[rows, query], indices[rows, query] = value, word
        left[rows, query] = -math.inf
        left[rows, :, word] = -math.inf
    return values, indices


def _kept_rows(token_embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
    if token_embeddings.ndim != 2 or len(token_embeddings) < vocabulary.total:
        raise InputError(
            f"token embeddings have shape {tuple(token_embeddings.shape)}; expected ({vocabulary.total}, width), "
            "a row for each of the tokenizer's tokens"
        )
    return token_embeddings.detach()[vocabulary.ids.to(token_embeddings.device)]
