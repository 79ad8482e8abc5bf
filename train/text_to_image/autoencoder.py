"""Training of the autoencoder (diffusers' `AutoencoderKL`) in whose latents the text-to-image model works.

Squared error and a weak pull of the latents to a normal distribution (Rombach et al. 2022, arXiv 2112.10752), without
their perceptual and adversarial losses, which made scenes do not need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...errors import InputError
from ..data.pairs import PairSource, ScenePairs, load_pairs
from ..data.pixels import pixels
from ..engine.loop import LoopConfig, TrainResult, train
from ..engine.randomness import sample_noise
from ..engine.settings import current_commit, write_training_record

VALIDATION_IMAGES = 256


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of the recipe.

    vae: of `AutoencoderKL`; `sample_size` is the side of the training images in pixels.
    source, image_column: "scenes", or images as `pairs.load_pairs` reads them. Texts are not read.
    curriculum, one_object: see `pairs.ScenePairs`.
    kl_weight: of the divergence per latent value, beside the squared error per pixel value.
    """

    vae: Mapping[str, Any]
    loop: Mapping[str, Any]
    source: str = "scenes"
    image_column: str = "image"
    curriculum: Mapping[int, int] = field(default_factory=dict)
    one_object: float = 0.0
    kl_weight: float = 1e-6


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


class AutoencoderRecipe:
    """The recipe for `loop.train`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.seed = LoopConfig(**config.loop).seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.vae: Any = AutoencoderKL.from_config(dict(config.vae))  # diffusers declares no types
        self.image_size = int(config.vae["sample_size"])
        self.model: nn.Module = AutoencoderObjective(self.vae)
        self.source: PairSource = (
            ScenePairs({"short": 1.0}, "train", self.image_size, config.curriculum, config.one_object)
            if config.source == "scenes"
            else load_pairs(config.source, config.image_column, config.image_column)
        )

    def batch(self, indices: Sequence[int], seed: int) -> Tensor:
        """images (B, 3, H, W) in [-1, 1]."""
        return pixels([self.source.pair(index, seed).image for index in indices], self.image_size)

    def loss(self, model: nn.Module, batch: Tensor, *, step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """The weighted sum, the squared error, and the divergence."""
        side = self.image_size // latent_factor(self.vae)
        noise = sample_noise((self.vae.config["latent_channels"], side, side), self.seed, indices).to(batch.device)
        images, divergence = model(batch, noise)
        error = F.mse_loss(images.float(), batch)
        return {
            "loss": error + self.config.kl_weight * divergence,
            "squared_error": error.detach(),
            "divergence": divergence.detach(),
        }

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB of validation scenes, from the latents' means."""
        if not isinstance(self.source, ScenePairs):
            return {}
        scenes = ScenePairs({"short": 1.0}, "val", self.image_size)
        images = pixels([scenes.pair(index, 0).image for index in range(VALIDATION_IMAGES)], self.image_size)
        device = self.vae.device
        found = torch.cat([model(part.to(device), None)[0].float().cpu() for part in images.split(64)])
        return {"psnr": float(psnr(found, images).mean())}


def psnr(found: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB; both (B, 3, H, W) in [-1, 1], `found` clamped to it -> (B,)."""
    error = (found.clamp(-1, 1) - images).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def latent_factor(vae: Any) -> int:
    """Pixels per latent cell, along one side."""
    return int(2 ** (len(vae.config["block_out_channels"]) - 1))


@torch.no_grad()
def latent_scale(vae: Any, images: Tensor) -> float:
    """What to multiply latents of `images` (B, 3, H, W) with, so that all values together have unit variance."""
    means = torch.cat([vae.encode(part.to(vae.device)).latent_dist.mean for part in images.split(64)])
    return float(1 / means.float().std())


def train_autoencoder(
    config: AutoencoderConfig, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Run the recipe in `out`. Once all steps are done the model is in `out/model` (fp16), with its training.json.

    Its `scaling_factor` gives the latents of 512 training images unit variance.
    """
    if "sample_size" not in config.vae:
        raise InputError("the settings of vae have no sample_size; expected the side of the training images in pixels")
    recipe, commit = AutoencoderRecipe(config), current_commit()
    loop = LoopConfig(**config.loop)
    result = train(recipe, loop, out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        images = recipe.batch(range(512), loop.seed)
        recipe.vae.register_to_config(scaling_factor=round(latent_scale(recipe.vae, images), 5))
        recipe.vae.to(torch.float16).save_pretrained(out / "model")
        write_training_record(out / "model", "autoencoder", asdict(config), commit, result)
    return result
