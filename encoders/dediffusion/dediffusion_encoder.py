"""De-Diffusion: the words from which a text-to-image model can redraw an image.

Source: Wei et al., "De-Diffusion Makes Text a Strong Cross-Modal Interface", CVPR 2024, arXiv 2311.00618.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError
from .. import saved_models as checkpoint
from ..base import Description
from ..decap.memory import space_name
from .dediffusion_model import DediffusionConfig, DediffusionModel
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import CLIPTokenizer

    from ..clip.clip import Clip

__all__ = ["Dediffusion", "DediffusionConfig", "DediffusionModel"]

KIND = "De-Diffusion"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer"
BACKBONE_NAME = "backbone"  # of a pushed checkpoint, whose backbone was a local folder


@dataclass(frozen=True, eq=False)
class Dediffusion:
    """An `Encoder`: one word for each of the model's queries, in order, the likeliest of the vocabulary.
    Where the config says so, words that it is not sure of are left out.

    Make one with `new`, to train it, or with `from_pretrained`. batch_size: images in one forward pass.
    A description's scores hold "log_probability", the sum over its words.
    """

    model: DediffusionModel
    tokenizer: CLIPTokenizer
    vocabulary: Vocabulary
    spec: str = field(default="dediffusion", kw_only=True)
    batch_size: int = field(default=64, kw_only=True)

    def __post_init__(self) -> None:
        if len(self.vocabulary) != self.config.vocabulary_size:
            raise InputError(
                f"the tokenizer gives {len(self.vocabulary):,} words, but this {KIND} was made for "
                f"{self.config.vocabulary_size:,}; use the tokenizer that it was trained with"
            )
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; expected at least 1")
        self.model.eval()

    @classmethod
    def new(
        cls,
        config: DediffusionConfig,
        clip: Clip,
        tokenizer: CLIPTokenizer,
        token_embeddings: Tensor | None = None,
    ) -> Dediffusion:
        """One to be trained, on the CLIP's device: random weights, of torch's global generator.

        clip: the backbone. tokenizer, token_embeddings (total, W): of the text encoder that will read the words; the
        second is for the tied head alone. `config` may leave out what these decide.
        """
        vocabulary = config.vocabulary(tokenizer)
        kept = None if token_embeddings is None else _kept_rows(token_embeddings, vocabulary)
        filled = config.filled_in(clip, len(vocabulary), 0 if kept is None else kept.shape[1])
        return cls(DediffusionModel(filled, clip, kept).to(clip.device), tokenizer, vocabulary)

    @property
    def config(self) -> DediffusionConfig:
        return self.model.config

    @property
    def clip(self) -> Clip:
        """The backbone, with the preprocessing of images."""
        return self.model.clip

    def describe(self, images: Sequence[Image], *, num_tokens: int | None = None) -> list[Description]:
        """Describe RGB images of any size; one `Description` each, in the same order.

        num_tokens: only the words of the first queries, as many; of all of them unless given.
        """
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [
            text for batch in batches for text in self.describe_pixels(self.clip.pixels(batch), num_tokens=num_tokens)
        ]

    def describe_pixels(self, pixels: Tensor, *, num_tokens: int | None = None) -> list[Description]:
        """Describe one batch of `clip.pixels(images)`, (B, 3, H, W)."""
        return [self._description(*chosen) for chosen in self.choose_words(self._logits(pixels, num_tokens))]

    def choose_words(self, logits: Tensor) -> list[tuple[list[int], float]]:
        """(B, N, V) of the model -> for each description its words, at least one, as places in the vocabulary, and the
        sum of their log probabilities.
        """
        best = logits.float().max(dim=-1)
        log_probabilities = best.values - logits.float().logsumexp(dim=-1)  # (B, N)
        wanted = math.log(self.config.min_probability) if self.config.min_probability else -math.inf
        kept = log_probabilities >= log_probabilities.amax(1, keepdim=True).clamp(max=wanted)  # the surest stays always
        rows = zip(best.indices.tolist(), log_probabilities.tolist(), kept.tolist(), strict=True)
        return [(list(compress(places, keep)), sum(compress(scores, keep))) for places, scores, keep in rows]

    @torch.inference_mode()
    def _logits(self, pixels: Tensor, num_tokens: int | None) -> Tensor:
        """(B, 3, H, W) -> (B, N, V)."""
        number = self.config.num_queries if num_tokens is None else num_tokens
        if not 1 <= number <= self.config.num_queries:
            raise InputError(f"num_tokens is {number}; expected 1 to {self.config.num_queries}, this {KIND}'s queries")
        hidden = self.model.read(self.model.patch_tokens(pixels))
        return self.model.head(hidden[:, :number])  # the other words cost nothing

    def _description(self, places: list[int], score: float) -> Description:
        words = tuple(self.vocabulary.words[place] for place in places)
        return Description(" ".join(words), words, self.spec, {"log_probability": score})

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors (in `dtype`, or as it is) and the tokenizer's files.

        A frozen backbone is named, not copied: one from a local folder by its path relative to `folder`.
        """
        self._save(Path(folder), checkpoint.clip_spec(self.clip, Path(folder)), dtype)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, dtype: torch.dtype | None = None) -> str:
        """Upload what `save_pretrained` writes, with a backbone from a local folder beside it; returns the address.

        Raises `InputError` without network, or without the right to write there.
        """
        with tempfile.TemporaryDirectory() as name:
            folder, backbone = Path(name), self.clip.name
            if Path(backbone).is_dir():
                self.clip.save_pretrained(folder / BACKBONE_NAME, dtype=dtype)
                backbone = f"./{BACKBONE_NAME}"
            self._save(folder, backbone, dtype)
            return checkpoint.push_folder(folder, repo_id, private=private)

    def _save(self, folder: Path, backbone: str, dtype: torch.dtype | None) -> None:
        checkpoint.save_weights(self.model.state_dict(), folder / WEIGHTS_NAME, dtype)
        self.tokenizer.save_pretrained(folder / TOKENIZER_NAME)
        checkpoint.save_config(replace(self.config, backbone=backbone), folder)

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

        backbone: loaded as the config names it unless given here. spec: what descriptions name as their encoder.
        Raises `InputError` for anything that is missing or does not fit.
        """
        folder = checkpoint.checkpoint_folder(source, KIND)
        config = checkpoint.read_config(DediffusionConfig, folder, KIND)
        tokenizer = _load_tokenizer(folder / TOKENIZER_NAME)
        clip = backbone or checkpoint.load_clip(config.backbone, folder, KIND, device)
        _check_backbone(config, clip)
        vocabulary = config.vocabulary(tokenizer)
        model = DediffusionModel(config, clip, torch.zeros(config.vocabulary_size, config.text_width))
        checkpoint.load_weights(model, folder / WEIGHTS_NAME)
        return cls(model.to(device), tokenizer, vocabulary, spec=spec)


def _kept_rows(token_embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
    if token_embeddings.ndim != 2 or len(token_embeddings) < vocabulary.total:
        raise InputError(
            f"token embeddings have shape {tuple(token_embeddings.shape)}; expected ({vocabulary.total}, width), "
            "a row for each of the tokenizer's tokens"
        )
    return token_embeddings.detach()[vocabulary.ids.to(token_embeddings.device)]


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    if not (folder / "tokenizer.json").is_file():  # transformers would make a tokenizer without a single word
        raise InputError(f"{folder} has no tokenizer.json; expected the tokenizer's files there, as {KIND} saves them")
    try:
        return CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = checkpoint.shortened(error)
        raise InputError(f"{folder} holds no CLIPTokenizer that can be read: {message}") from error


def _check_backbone(config: DediffusionConfig, clip: Clip) -> None:
    if (clip.patch_shape[1], space_name(clip)) != (config.patch_width, config.space):
        raise InputError(
            f"this {KIND} was trained on CLIP {config.space!r} (patch tokens of {config.patch_width} numbers), but "
            f"{space_name(clip)!r} ({clip.patch_shape[1]}) is in use; load that one, or train {KIND} again"
        )
