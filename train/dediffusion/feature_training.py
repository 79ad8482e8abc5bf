"""Training of a diffusion model of image features, for De-Diffusion on photographs (`feature_decoder`).

    caption -> frozen sentence encoder -> token states ──────────────┐
    image -> frozen image tower -> whitened features -> noised ones ─┴─> transformer -> error of the predicted velocity

De-Diffusion writes loose words in any order, so some texts are words of an image's captions, shuffled. Some are empty:
what is learnt then is the loss without words.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.dediffusion.patch_grid import patch_grid
from ...encoders.dediffusion.vocabulary import Vocabulary
from ...encoders.saved_models import write_text
from ...errors import InputError
from ...prompting.faithfulness.content_words import caption_words
from ..data.base import Data, DataSource, Sample
from ..data.pixels import cropped, image_of
from ..engine.attention import attention_for_training
from ..engine.randomness import sample_integers, sample_noise, sample_rng
from ..engine.recipe import Count, LoopConfig, Recipe, Share
from ..engine.settings import settings
from ..engine.sharding import blocks_of
from ..text_to_image.diffusion import VALIDATION_TIMESTEPS, checked_timesteps, loss_and_gaps
from ..text_to_image.text_to_image import new_scheduler
from .feature_decoder import FeatureDecoder, FeatureDecoderConfig, FeatureSpace, denoising_errors
from .patch_cache import cached_patches
from .token_states import TokenStates

WORDS_NAME, CONTENT_WORDS_NAME = "words.txt", "content-words.txt"
_NOISE, _TIMESTEP, _TEXT = 1, 2, 3  # streams of random numbers
_BATCH = 64  # of evaluation, and of encoding


@settings
class FeatureDecoderTraining:
    """Settings of the recipe."""

    clip: str  # the image tower: folder, or open_clip's "model/tag"
    data: Data  # image-text pairs
    loop: LoopConfig
    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"  # folder or hub id of a sentence encoder
    max_tokens: Count = 64  # of a text, start and end included
    grid: Count = 3  # the tower's map is averaged to grid x grid
    channels: Count = 128  # principal components of each
    denoiser: Mapping[str, Any] = field(default_factory=dict)  # of `PixArtTransformer2DModel`; sizes are filled in
    scheduler: Mapping[str, Any] = field(default_factory=lambda: {"beta_schedule": "squaredcos_cap_v2"})
    texts: Literal["one", "joined"] = "one"  # one of an image's captions, or all of them in a random order
    loose_words: Share = 0.5  # of samples whose text is words of all captions, shuffled
    max_words: Count = 24  # most of such words; their number is drawn
    word_count: Count = 5  # captions that must have a word for it to be listed in words.txt
    content_word_count: Count = 20  # the same of content-words.txt: nouns, verbs and adjectives
    text_dropout: Share = 0.1  # of samples without text
    cache_features: bool = True  # keep those of finite data on disk; else encode in each step, randomly cropped
    statistics_images: Count = 4096  # most that the components are computed from
    timestep_range: tuple[int, int] | None = None  # first timestep to train and the one past the last; None for all
    validation_images: Count = 256


class FeatureDecoderRecipe(Recipe):
    """Images and captions -> a `FeatureDecoder`. `model` is the denoiser alone."""

    name = "feature-decoder"
    config_class = FeatureDecoderTraining

    def __init__(self, config: FeatureDecoderTraining, cache: Path) -> None:
        self.config = config
        self.source: DataSource = config.data.open()
        reader = TokenStates.from_pretrained(config.text_encoder, config.max_tokens)
        clip = Clip.from_pretrained(config.clip)
        self.source.image_size = max(clip.image_size)
        cached = config.cache_features and self.source.size is not None
        self.patches = cached_patches(self.source, clip, config.grid, cache / "features") if cached else None
        space, self.variance_kept = FeatureSpace.fitted(self._some_patches(clip), config.channels)
        self.decoder = FeatureDecoder(
            FeatureDecoderConfig(config.clip, config.text_encoder, config.grid, config.max_tokens),
            clip,
            reader,
            space,
            new_denoiser(config, reader.token_embeddings.shape[1]),
            new_scheduler(config.scheduler),
        )
        self.model: nn.Module = self.decoder.denoiser.requires_grad_(True)
        self.timesteps = checked_timesteps(config.timestep_range, self.decoder.num_timesteps)
        self.words = frozenset(Vocabulary.from_tokenizer(reader.tokenizer).words)

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """ids (B, L); latents (B, C, h, h), or where they are not kept pixels (B, 3, H, W)."""
        samples = self.source.samples(indices, seed, image=self.patches is None)
        texts = [self.text(one, sample_rng(seed, i, _TEXT)) for one, i in zip(samples, indices, strict=True)]
        ids = self.decoder.reader.tokenize(texts)
        if self.patches is not None:
            return {"ids": ids, "patches": self.patches([sample.row for sample in samples])}
        images = cropped([image_of(sample) for sample in samples], self.source.crop_scale, indices, seed)
        return {"ids": ids, "pixels": self.decoder.pixels(images)}

    def text(self, sample: Sample, rng: random.Random) -> str:
        """What a sample is trained with: nothing, loose words, or captions."""
        if rng.random() < self.config.text_dropout:
            return ""
        if rng.random() < self.config.loose_words:
            return self.loose(sample, rng, rng.randint(1, self.config.max_words))
        if self.config.texts == "one":
            return sample.text
        return " ".join(rng.sample(sample.texts, len(sample.texts)))

    def loose(self, sample: Sample, rng: random.Random, number: int) -> str:
        """`number` distinct words of the sample's captions, or all where there are fewer, shuffled."""
        found = sorted(self._words_of(" ".join(sample.texts)))
        return " ".join(rng.sample(found, min(number, len(found))))

    def _words_of(self, text: str) -> set[str]:
        """The words in a text that the text encoder has whole."""
        return set(re.findall(r"\w+", text.lower())) & self.words

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The mean squared error of the prediction."""
        decoder, seed, (low, high) = self._decoder_on(batch["ids"].device), self.config.loop.seed, self.timesteps
        with torch.no_grad():
            hidden = decoder.reader(batch["ids"])
            latents = decoder.space(batch["patches"]) if self.patches else decoder.encode_images(batch["pixels"])
        timesteps = (low + sample_integers(high - low, seed, indices, _TIMESTEP)).to(hidden.device)
        noise = sample_noise(latents.shape[1:], seed, indices, _NOISE).to(hidden.device)
        with attention_for_training(hidden.device):
            errors = denoising_errors(model, decoder.scheduler, latents, noise, timesteps, hidden)
        return {"loss": errors.mean()}

    def blocks(self) -> list[nn.Module]:
        return blocks_of(self.decoder)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out items and fixed noise: `loss` with captions, and how much greater it is with loose words of the
        captions (`words_gap`), with another item's caption (`text_gap`) and with none (`empty_gap`); over all of
        `VALIDATION_TIMESTEPS` and at each. What De-Diffusion can learn at a timestep is its gap without text."""
        latents, texts = self._validation
        if not len(latents):
            return {}
        self._decoder_on(next(self.model.parameters()).device)
        losses = {}
        for name, some in texts.items():
            hidden = [self.decoder.encode_texts(some[first : first + _BATCH]) for first in range(0, len(some), _BATCH)]
            losses[name] = [self._held_out_loss(model, latents, hidden, t) for t in VALIDATION_TIMESTEPS]
        return loss_and_gaps(losses)

    def _held_out_loss(self, model: nn.Module, latents: Tensor, hidden: Sequence[Tensor], part: int) -> float:
        """At `part` thousandths of the schedule. hidden: of the texts, in batches (B, L, D)."""
        scheduler, total = self.decoder.scheduler, 0.0
        noise = sample_noise(latents.shape[1:], 0, range(len(latents)), _NOISE)
        for states, clean, drawn in zip(hidden, latents.split(_BATCH), noise.split(_BATCH), strict=True):
            device = states.device
            timesteps = torch.full((len(states),), part * self.decoder.num_timesteps // 1000, device=device)
            total += float(
                denoising_errors(model, scheduler, clean.to(device), drawn.to(device), timesteps, states).sum()
            )
        return total / len(latents)

    @cached_property
    def _validation(self) -> tuple[Tensor, dict[str, list[str]]]:
        """latents (N, C, h, h) of held-out items, and their texts of each kind."""
        samples = self.source.held_out(self.config.validation_images)
        decoder = self._decoder_on(next(self.model.parameters()).device)
        parts = [samples[first : first + _BATCH] for first in range(0, len(samples), _BATCH)]
        pixels = (decoder.pixels([image_of(sample) for sample in part]).to(decoder.device) for part in parts)
        latents = [decoder.encode_images(part).cpu() for part in pixels]
        right = [sample.text if self.config.texts == "one" else " ".join(sample.texts) for sample in samples]
        loose = [self.loose(sample, random.Random(i), self.config.max_words) for i, sample in enumerate(samples)]
        texts = {
            "loss": right,
            "words_gap": loose,
            "text_gap": [*right[1:], *right[:1]],
            "empty_gap": [""] * len(right),
        }
        return torch.cat(latents or [torch.empty(0)]), texts

    @torch.no_grad()
    def _some_patches(self, clip: Clip) -> Tensor:
        """(N, W) patch tokens of training images, spread over those of a finite source."""
        size, number = self.source.size, self.config.statistics_images
        if self.patches is not None and size is not None:
            rows = range(0, size, -(-size // number))
            readable = [row for row in rows if row not in self.source.unreadable]
            return self.patches(readable).flatten(0, 1)
        parts = [range(first, min(first + _BATCH, number)) for first in range(0, number, _BATCH)]
        seed = self.config.loop.seed
        images = ([image_of(sample) for sample in self.source.samples(part, seed)] for part in parts)
        return torch.cat([patch_grid(clip, clip.pixels(some), self.config.grid) for some in images]).flatten(0, 1)

    def _decoder_on(self, device: torch.device) -> FeatureDecoder:
        """Its frozen parts are no sub-modules of the model that the loop moves."""
        if self.decoder.space.mean.device != device:
            self.decoder.to(device)
        return self.decoder

    def save(self, folder: Path) -> None:
        """The decoder, and of finite data the words that it knows, the most frequent first: all, and content words."""
        self.decoder.save_pretrained(folder)
        if self.source.size is None:
            return
        counts = Counter(word for text in self.source.captions() for word in self._words_of(text))
        known = [word for _, word in sorted((-count, word) for word, count in counts.items())]
        often = [word for word in known if counts[word] >= self.config.content_word_count]
        lists = {
            WORDS_NAME: [word for word in known if counts[word] >= self.config.word_count],
            CONTENT_WORDS_NAME: [word for word in often if caption_words(word).content],
        }
        for name, words in lists.items():
            write_text("".join(f"{word}\n" for word in words), folder / name)

    def record(self) -> dict[str, Any]:
        """The share of the features' variance that the components keep."""
        return {"variance_kept": round(self.variance_kept, 4)}


def new_denoiser(config: FeatureDecoderTraining, text_width: int) -> Any:
    """A `PixArtTransformer2DModel` with fresh weights, a function of the seed alone."""
    own = {"num_layers": 4, "num_attention_heads": 4, "attention_head_dim": 64, **config.denoiser}
    sizes = {
        "sample_size": config.grid,
        "patch_size": 1,
        "in_channels": config.channels,
        "out_channels": config.channels,
        "caption_channels": text_width,
        "cross_attention_dim": own["num_attention_heads"] * own["attention_head_dim"],
        "use_additional_conditions": False,
    }
    wrong = {name: value for name, value in own.items() if sizes.get(name, value) != value}
    if wrong:
        raise InputError(f"the settings of denoiser say {wrong}; grid, channels and text encoder make it {sizes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        try:
            denoiser: Any = PixArtTransformer2DModel(**{**own, **sizes})
        except (TypeError, ValueError) as error:
            raise InputError(f"diffusers cannot build a transformer from these settings: {error}") from error
    nn.init.zeros_(denoiser.proj_out.weight)  # as Peebles & Xie 2023 (arXiv 2212.09748): it starts at a loss of 1
    nn.init.zeros_(denoiser.proj_out.bias)
    return denoiser
