"""What a De-Diffusion encoder is worth while it trains: fixed images, and scores of the *strings* that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.dediffusion.vocabulary import Vocabulary
from ...scenes.facts import score_texts
from ...scenes.rendering import render
from ...scenes.scene import MAX_OBJECTS, captions, scene_at
from ...scenes.world import Scene
from ..data.pairs import PairSource
from ..data.pixels import pixels
from ..engine.randomness import sample_noise, sample_rng
from .frozen_decoder import Denoising, FrozenDecoder

KINDS = ("noun", "colour", "place", "background", "pair")
_BATCH = 64


@dataclass(frozen=True)
class Validation:
    """pixels (M, 3, H, W) as the CLIP takes them; task: M latents with fixed noise and timesteps; scenes: what the
    images show, where that is known. All on the decoder's device.
    """

    decoder: FrozenDecoder
    pixels: Tensor
    task: Denoising
    scenes: Sequence[Scene]

    def score(self, ids: Sequence[Sequence[int]], vocabulary: Vocabulary) -> dict[str, float]:
        """M rows of ids -> figures of the decoded strings: diffusion loss, F1 of facts, the share whose ids survive
        being decoded and encoded again, words in a text, and the share of distinct ones.
        """
        texts = vocabulary.texts(ids)
        scores = score_texts(texts, self.scenes) if self.scenes else {}
        return {
            "diffusion": self.loss(texts),
            **{f"{kind}_f1": scores[kind].f1 for kind in KINDS if scores},
            "surviving": vocabulary.share_surviving(ids),
            "words": fmean(map(len, ids)),
            "distinct": fmean(len(set(row)) / len(row) for row in ids),
        }

    def loss(self, texts: Sequence[str]) -> float:
        """The decoder's loss with these M strings."""
        parts = [self.decoder.encode_texts(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        return self.loss_of_states(torch.cat(parts))

    @torch.no_grad()
    def loss_of_states(self, hidden_states: Tensor) -> float:
        """The decoder's loss with hidden states (M, L, D)."""
        task = self.task
        whole = (task.latents, task.noise, task.timesteps, hidden_states)
        parts = zip(*(tensor.split(_BATCH) for tensor in whole), strict=True)
        return float(torch.cat([self.decoder.loss(*part) for part in parts]).mean())

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The loss without words and, of scenes, with the descriptive caption: between the two lies what words do."""
        bounds = {"diffusion_without_words": self.loss([""] * len(self.pixels))}
        if self.scenes:
            written = [captions(scene, "descriptive", sample_rng(0, i)) for i, scene in enumerate(self.scenes)]
            bounds["diffusion_with_captions"] = self.loss(written)
        return bounds


@torch.no_grad()
def draw_validation(
    clip: Clip,
    decoder: FrozenDecoder,
    number: int,
    *,
    source: PairSource | None = None,
    most_objects: int = MAX_OBJECTS,
    timesteps: tuple[int, int],
) -> Validation:
    """`number` images: scenes of the validation split, or the first of a `source`, which are no others than training
    sees. Noise of seed 0; timesteps spread evenly from the first of `timesteps` to before the second.
    """
    scenes = [] if source else draw_scenes(number, most_objects)
    images = (
        [source.pair(index, 0).image for index in range(number)]
        if source
        else [Image.fromarray(render(scene, decoder.image_size)) for scene in scenes]
    )
    device = decoder.device
    views = pixels(images, decoder.image_size)
    latents = torch.cat([decoder.encode_images(part.to(device)) for part in views.split(_BATCH)])
    noise = sample_noise(latents.shape[1:], 0, range(number)).to(device)
    first, end = timesteps
    spread = first + torch.arange(number, device=device) * (end - first) // number
    return Validation(decoder, clip.pixels(images, device=device), Denoising(latents, noise, spread), scenes)


def draw_scenes(number: int, most_objects: int = MAX_OBJECTS) -> list[Scene]:
    """Validation scenes; with a limit on objects each number up to it comes equally often."""
    limited = most_objects < MAX_OBJECTS
    return [scene_at(i, "val", num_objects=1 + i % most_objects if limited else None) for i in range(number)]
