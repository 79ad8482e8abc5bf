"""What a De-Diffusion encoder is worth while it trains: scores of the strings that it writes about held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.dediffusion.vocabulary import Vocabulary
from ..data.base import Evaluator, Sample
from ..data.pixels import image_of
from ..engine.randomness import sample_noise
from .decoder import Decoder, Denoising

_BATCH = 64


@dataclass(frozen=True)
class Validation:
    """M held-out samples. All tensors are on the decoder's device."""

    decoder: Decoder
    samples: Sequence[Sample]
    pixels: Tensor  # (M, 3, H, W) as the CLIP takes them
    task: Denoising  # M latents with fixed noise and timesteps
    evaluators: Sequence[Evaluator] = ()  # of the source

    def score(self, ids: Sequence[Sequence[int]], vocabulary: Vocabulary) -> dict[str, float]:
        """M rows of ids -> figures of the decoded strings: diffusion loss with an image's own words and with those of
        the next image, the share whose ids survive being decoded and encoded again, words in a text, the share of
        distinct ones, and what the source's evaluators say.
        """
        texts = vocabulary.texts(ids)
        figures = {
            "diffusion": self.loss(texts),
            "diffusion_with_other_words": self.loss([*texts[1:], *texts[:1]]),
            "surviving": vocabulary.share_surviving(ids),
            "words": fmean(map(len, ids)),
            "distinct": fmean(len(set(row)) / len(row) for row in ids),
        }
        for evaluator in self.evaluators:
            figures |= evaluator.score_texts(texts, self.samples)
        return figures

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The loss without words and, where every sample has captions, with its longest: words work between the two."""
        bounds = {"diffusion_without_words": self.loss([""] * len(self.samples))}
        if all(sample.texts for sample in self.samples):
            bounds["diffusion_with_captions"] = self.loss([max(sample.texts, key=len) for sample in self.samples])
        return bounds

    def loss(self, texts: Sequence[str]) -> float:
        """The decoder's loss with these M strings."""
        parts = [self.decoder.encode_texts(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        return self.loss_of_states(torch.cat(parts))

    @torch.no_grad()
    def loss_of_states(self, hidden_states: Tensor) -> float:
        """The decoder's loss with hidden states (M, L, D)."""
        whole = (self.task.latents, self.task.noise, self.task.timesteps, hidden_states)
        parts = zip(*(tensor.split(_BATCH) for tensor in whole), strict=True)
        return float(torch.cat([self.decoder.loss(*part) for part in parts]).mean())


@torch.no_grad()
def draw_validation(
    clip: Clip,
    decoder: Decoder,
    samples: Sequence[Sample],
    *,
    timesteps: tuple[int, int],
    evaluators: Sequence[Evaluator] = (),
) -> Validation:
    """Samples with images, noise of seed 0, and timesteps spread evenly from the first of `timesteps` to before the
    second."""
    images, device = [image_of(sample) for sample in samples], decoder.device
    latents = torch.cat([decoder.encode_images(part.to(device)) for part in decoder.pixels(images).split(_BATCH)])
    noise = sample_noise(latents.shape[1:], 0, range(len(images))).to(device)
    first, end = timesteps
    spread = first + torch.arange(len(images), device=device) * (end - first) // len(images)
    pixels = clip.pixels(images, device=device)
    return Validation(decoder, samples, pixels, Denoising(latents, noise, spread), evaluators)
