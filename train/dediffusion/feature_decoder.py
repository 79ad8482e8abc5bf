"""A diffusion model of image features as De-Diffusion's frozen decoder: text -> the features of an image.

What DALL-E 2 calls a prior (Ramesh et al. 2022, arXiv 2204.06125), of a small grid of features: for photographs where
no text-to-image model is at hand. A transformer of diffusers (PixArt, Chen et al. 2023, arXiv 2310.00426) denoises
whitened features of an image tower, given the token states of a sentence encoder. `textlens train feature-decoder`
trains it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from einops import rearrange
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.clip.clip import Clip, load_clip
from ...encoders.clip.space import clip_spec
from ...encoders.dediffusion.patch_grid import patch_grid
from ...encoders.saved_models import load_weights, read_config, relative_name, save_config, save_weights
from ...errors import InputError, shortened
from ..data.base import DataSource
from ..text_to_image.diffusion import noised_and_target, squared_errors
from .decoder import Decoder, freeze
from .patch_cache import cached_patches
from .token_states import TokenStates

KIND = "feature decoder"
SPACE_NAME, DENOISER_NAME = "space.safetensors", "denoiser"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # diffusers' own name


@dataclass(frozen=True)
class FeatureDecoderConfig:
    """The content of config.json."""

    clip: str  # whose image tower gives the features: open_clip "model/tag", or a relative folder that starts with "."
    text_encoder: str  # hub id, or a relative folder that starts with "."
    grid: int = 3  # features are averages of the tower's map, grid x grid
    max_tokens: int = 64  # of a text, start and end included; longer ones are cut


class FeatureSpace(nn.Module):
    """Patch tokens (B, h * h, W) -> C principal components of mean 0 and variance 1, (B, C, h, h) float32."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        """mean (W,); components (W, C), each divided by its standard deviation."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)

    @classmethod
    def fitted(cls, patches: Tensor, channels: int) -> tuple[FeatureSpace, float]:
        """The space of (N, W) patch tokens, and the share of their variance that it keeps."""
        if not 1 <= channels < min(patches.shape):
            raise InputError(
                f"channels is {channels}, with {patches.shape[0]} feature vectors of {patches.shape[1]} numbers; "
                "expected at least 1 and fewer than either"
            )
        mean = patches.double().mean(0)
        centred = patches.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        kept, directions = values[-channels:].flip(0), vectors[:, -channels:].flip(1)
        directions = (
            directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        )  # on any machine
        components = directions / kept.clamp(min=1e-12).sqrt()
        return cls(mean.float(), components.float()), float(kept.sum() / values.sum())

    def forward(self, patches: Tensor) -> Tensor:
        with torch.autocast(patches.device.type, enabled=False):  # bf16 would round what whitening enlarges
            found = (patches.float() - self.mean) @ self.components
        return rearrange(found, "b (h w) c -> b c h w", h=round(found.shape[1] ** 0.5))


class FeatureDecoder(Decoder):
    """Latents are features in a `FeatureSpace`; hidden states are token states, 0 past the end of a text."""

    def __init__(
        self,
        config: FeatureDecoderConfig,
        clip: Clip,
        reader: TokenStates,
        space: FeatureSpace,
        denoiser: Any,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.config, self.clip, self.tokenizer, self.scheduler = config, clip, reader.tokenizer, scheduler
        self.tower, self.reader, self.space, self.denoiser = clip.model.visual, reader, space, denoiser
        self.num_timesteps = int(scheduler.config["num_train_timesteps"])
        self.image_size = max(clip.image_size)
        freeze(self)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> FeatureDecoder:
        """Read what `save_pretrained` wrote, in float32. Raises `InputError` for what is missing or does not fit."""
        folder = Path(source)
        config = read_config(FeatureDecoderConfig, folder, KIND)
        local = config.text_encoder.startswith(".")
        clip = load_clip(config.clip, folder, KIND, "cpu")
        reader = TokenStates.from_pretrained(
            str((folder / config.text_encoder).resolve()) if local else config.text_encoder, config.max_tokens
        )
        try:
            sizes: Any = PixArtTransformer2DModel.load_config(folder / DENOISER_NAME)
            denoiser: Any = PixArtTransformer2DModel.from_config(sizes)
            scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{folder} does not load as a {KIND}: {shortened(error)}") from error
        load_weights(denoiser, folder / DENOISER_NAME / WEIGHTS_NAME)
        width, channels = clip.patch_shape[1], denoiser.config["in_channels"]
        space = FeatureSpace(torch.zeros(width), torch.zeros(width, channels))
        load_weights(space, folder / SPACE_NAME)
        return cls(config, clip, reader, space, denoiser, scheduler)

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder in fp16. Image tower and text encoder are named, not copied: local folders by their relative
        paths."""
        clip, text_encoder = clip_spec(self.clip, folder), relative_name(self.reader.name, folder)
        save_weights(self.space.state_dict(), folder / SPACE_NAME)
        save_weights(self.denoiser.state_dict(), folder / DENOISER_NAME / WEIGHTS_NAME, torch.float16)
        self.denoiser.save_config(folder / DENOISER_NAME)
        self.scheduler.save_pretrained(folder / "scheduler")
        save_config(replace(self.config, clip=clip, text_encoder=text_encoder), folder)

    @property
    def token_embeddings(self) -> Tensor:
        return self.reader.token_embeddings

    def enable_gradient_checkpointing(self) -> None:
        self.denoiser.enable_gradient_checkpointing()

    def pixels(self, images: Sequence[Image]) -> Tensor:
        return self.clip.pixels(images, device="cpu")

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.space(patch_grid(self.clip, pixels, self.config.grid))

    def cache_latents(self, source: DataSource, folder: Path) -> Callable[[Sequence[int]], Tensor]:
        """What is kept are the patch tokens, which an encoder on the same tower and grid may read too."""
        patches, space = (
            cached_patches(source, self.clip, self.config.grid, folder / "features"),
            deepcopy(self.space).cpu(),
        )
        return lambda rows: space(patches(rows))

    def encode_soft(self, embeddings: Tensor) -> Tensor:
        return self.reader.read_soft(embeddings)

    def encode_ids(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.reader(self.reader.framed(ids))
        return hidden

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """L is always `max_tokens`."""
        hidden = self.reader(self.reader.tokenize(texts).to(self.device))
        return F.pad(hidden, (0, 0, 0, self.config.max_tokens - hidden.shape[1]))

    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden_states: Tensor) -> Tensor:
        """The denoiser's squared error per feature."""
        return denoising_errors(self.denoiser, self.scheduler, latents, noise, timesteps, hidden_states)


def denoising_errors(
    denoiser: Any, scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden_states: Tensor
) -> Tensor:
    """(B,) float32. latents, noise: (B, C, h, w). timesteps: (B,). hidden_states: (B, L, D), unseen where 0."""
    noised, target = noised_and_target(scheduler, latents, noise, timesteps)
    known = hidden_states.detach().ne(0).any(-1)  # (B, L)
    predicted = denoiser(noised, hidden_states, timesteps, encoder_attention_mask=known, return_dict=False)[0]
    return squared_errors(predicted, target)
