"""Training of the autoencoder (diffusers' `AutoencoderKL`) in whose latents the text-to-image model works.

Squared error and a weak pull of the latents to a normal distribution (Rombach et al. 2022, arXiv 2112.10752), without
their perceptual and adversarial losses: enough for flat drawings; photographs come out soft.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...errors import InputError
from ..data.base import Data, DataSource
from ..data.pixels import image_of, pixels, training_pixels
from ..engine.randomness import sample_noise
from ..engine.recipe import Count, LoopConfig, NonNegative, Recipe
from ..engine.settings import settings

_SCALED_ON = 512  # training images whose latents get unit variance
_BATCH = 64


@settings
class AutoencoderConfig:
    """Settings of the recipe."""

    vae: Mapping[str, Any]  # of `AutoencoderKL`; `sample_size`: side of the training images in pixels
    loop: LoopConfig
    data: Data  # images; texts are not read
    kl_weight: NonNegative = 1e-6  # of the divergence per latent value, beside the squared error per pixel value
    validation_images: Count = 256

    def __post_init__(self) -> None:
        if "sample_size" not in self.vae:
            raise InputError("vae has no sample_size; expected the side of the training images in pixels")


class AutoencoderObjective(nn.Module):
    """Image to latents to image, as training needs it."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W) in [-1, 1]; noise (B, C, h, w), None for the mean -> images (B, 3, H, W), KL ()."""
        found = self.vae.encode(images).latent_dist
        latents = found.mean if noise is None else found.mean + found.std * noise
        variance = found.logvar.float().exp()
        divergence = (found.mean.float().square() + variance - 1 - found.logvar.float()).mean() / 2
        return self.vae.decode(latents).sample, divergence


class AutoencoderRecipe(Recipe):
    """Images -> an `AutoencoderKL`."""

    name = "autoencoder"
    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, cache: Path) -> None:
        self.config, self.image_size = config, int(config.vae["sample_size"])
        self.source: DataSource = config.data.open(image_size=self.image_size, texts=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            self.vae: Any = AutoencoderKL.from_config(dict(config.vae))  # diffusers declares no types
        self.model: nn.Module = AutoencoderObjective(self.vae)

    def batch(self, indices: Sequence[int], seed: int) -> Tensor:
        """images (B, 3, H, W) in [-1, 1], randomly cropped where the source says so."""
        samples = self.source.samples(indices, seed)
        return training_pixels(samples, self.image_size, self.source.crop_scale, indices, seed)

    def loss(
        self, model: nn.Module, batch: Tensor, *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The weighted sum, the squared error, and the divergence."""
        side = self.image_size // latent_factor(self.vae)
        shape = (self.vae.config["latent_channels"], side, side)
        images, divergence = model(batch, sample_noise(shape, self.config.loop.seed, indices).to(batch.device))
        error = F.mse_loss(images.float(), batch)
        return {
            "loss": error + self.config.kl_weight * divergence,
            "squared_error": error.detach(),
            "divergence": divergence.detach(),
        }

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB of held-out images, from the latents' means."""
        samples = self.source.held_out(self.config.validation_images)
        found = []
        for first in range(0, len(samples), _BATCH):
            images = pixels([image_of(sample) for sample in samples[first : first + _BATCH]], self.image_size)
            found.append(psnr(model(images.to(self.vae.device), None)[0].float().cpu(), images))
        return {"psnr": float(torch.cat(found).mean())} if found else {}

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """A diffusers folder in fp16, whose `scaling_factor` gives the latents of 512 training images unit variance."""
        vae, seed = self.vae, self.config.loop.seed
        parts = (self.batch(range(first, first + _BATCH), seed) for first in range(0, _SCALED_ON, _BATCH))
        means = torch.cat([vae.encode(part.to(vae.device)).latent_dist.mean for part in parts])
        vae.register_to_config(scaling_factor=round(float(1 / means.float().std()), 5))
        vae.to(torch.float16).save_pretrained(folder)


def psnr(found: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB; both (B, 3, H, W) in [-1, 1], `found` clamped to it -> (B,)."""
    error = (found.clamp(-1, 1) - images).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def latent_factor(vae: Any) -> int:
    """Pixels per latent cell, along one side."""
    return int(2 ** (len(vae.config["block_out_channels"]) - 1))
