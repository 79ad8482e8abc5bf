"""What De-Diffusion needs of a decoder: a frozen model that reads words and scores how well they restore an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from ..data.base import DataSource


def freeze(module: nn.Module) -> None:
    """No gradients for its weights, no dropout. Gradients still pass through to its inputs."""
    module.requires_grad_(False).eval()


class Decoder(nn.Module, ABC):
    """A frozen diffusion model over latents (B, C, h, w), conditioned on the hidden states (B, L, D) of its own text
    encoder: `frozen_decoder.FrozenDecoder` is Stable Diffusion, `sdxl_decoder.SDXLDecoder` SDXL,
    `feature_decoder.FeatureDecoder` draws image features.
    """

    tokenizer: Any  # of transformers, CLIP's or BERT's, whose whole words are the vocabulary
    scheduler: Any  # diffusers' noise schedule
    num_timesteps: int
    image_size: int  # side of the images in pixels

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    @abstractmethod
    def token_embeddings(self) -> Tensor:
        """(total, D): the text encoder's input embedding of every token."""

    @abstractmethod
    def pixels(self, images: Sequence[Image]) -> Tensor:
        """RGB images of any size -> (B, 3, H, W) on the CPU, as `encode_images` takes them."""

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> latents (B, C, h, w) float32; no gradient."""

    @abstractmethod
    def cache_latents(self, source: DataSource, folder: Path) -> Callable[[Sequence[int]], Tensor]:
        """Encode all items of a finite source, once, into `folder`: a function of B rows -> latents (B, C, h, w)."""

    @abstractmethod
    def encode_soft(self, embeddings: Tensor) -> Tensor:
        """Mixed token embeddings (B, N, D) in the place of N words -> hidden states (B, L, D); differentiable."""

    @abstractmethod
    def encode_ids(self, ids: Tensor) -> Tensor:
        """Words (B, N), without start and end -> hidden states (B, L, D). `InputError` where N words do not fit."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings, cut where they are too long -> hidden states (B, L, D)."""

    @abstractmethod
    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden_states: Tensor) -> Tensor:
        """The diffusion loss of each sample, (B,) float32. latents, noise: (B, C, h, w). timesteps: (B,) int64."""

    @abstractmethod
    def enable_gradient_checkpointing(self) -> None:
        """Keep fewer activations, compute them again in the backward pass."""


@dataclass(frozen=True)
class Denoising:
    """What texts are scored on: B latents, each with one noise (both (B, C, h, w)) and one timestep (B,)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor

    def losses(self, decoder: Decoder, hidden_states: Tensor) -> Tensor:
        """(B * K, L, D), the K texts of one image side by side -> (B, K); the K differ in nothing but their words."""
        texts = len(hidden_states) // len(self.latents)
        latents, noise, timesteps = (t.repeat_interleave(texts, 0) for t in (self.latents, self.noise, self.timesteps))
        return decoder.loss(latents, noise, timesteps, hidden_states).view(-1, texts)
