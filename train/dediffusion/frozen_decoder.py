"""Stable Diffusion as De-Diffusion's frozen decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from PIL.Image import Image
from torch import Tensor

from ...encoders.redraw.stable_diffusion import WITHOUT_CHECKER, load_pipeline
from ..data.base import DataSource
from ..data.latents import LatentCache, encode
from ..data.pixels import pixels
from ..text_to_image.diffusion import noised_and_target, squared_errors
from .decoder import Decoder, freeze
from .soft_tokens import padded_ids, soft_embeddings, token_embedding


class FrozenDecoder(Decoder):
    """VAE, text encoder, U-Net and noise schedule of a diffusers `StableDiffusionPipeline`.

    Hidden states are the text encoder's last, padding positions included: the U-Net attends to those too.
    """

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.vae, self.text_encoder, self.unet = vae, text_encoder, unet
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.num_timesteps = int(scheduler.config["num_train_timesteps"])
        self.image_size = int(unet.config["sample_size"]) * 2 ** (len(vae.config["block_out_channels"]) - 1)
        freeze(self)

    @classmethod
    def from_pretrained(cls, source: str | Path, dtype: torch.dtype = torch.float32) -> FrozenDecoder:
        """Load a pipeline's folder or hub id in `dtype`; raises `InputError` as `load_pipeline` does."""
        return cls.of(load_pipeline(source, dtype=dtype, **WITHOUT_CHECKER))

    @classmethod
    def of(cls, pipeline: Any) -> FrozenDecoder:
        """The parts of a loaded pipeline."""
        schedule = training_schedule(pipeline)
        return cls(pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet, schedule)

    @property
    def token_embeddings(self) -> Tensor:
        return token_embedding(self.text_encoder).weight

    def enable_gradient_checkpointing(self) -> None:
        self.unet.enable_gradient_checkpointing()
        self._checkpoint_texts(self.text_encoder)

    @staticmethod
    def _checkpoint_texts(text_encoder: Any) -> None:
        # The second name is that of transformers before 5.23.
        getattr(text_encoder, "activation_checkpointing_enable", text_encoder.gradient_checkpointing_enable)()
        if not text_encoder.config.attention_dropout:
            text_encoder.train()  # transformers checkpoints in training mode alone; nothing else changes

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """In [-1, 1]."""
        return pixels(images, self.image_size)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Scaled as the U-Net knows them."""
        return encode(self.vae, pixels)

    def cache_latents(self, source: DataSource, folder: Path) -> Callable[[Sequence[int]], Tensor]:
        return LatentCache(source, self.vae, self.image_size, folder).latents

    def encode_soft(self, embeddings: Tensor) -> Tensor:
        placeholders = embeddings.new_full(embeddings.shape[:2], self.tokenizer.eos_token_id, dtype=torch.long)
        with soft_embeddings(self.text_encoder, embeddings):
            return self.encode_ids(placeholders)

    def encode_ids(self, ids: Tensor) -> Tensor:
        known = torch.arange(self.tokenizer.model_max_length, device=ids.device) < ids.shape[1] + 2  # (L,)
        return self._hidden_states(padded_ids(self.tokenizer, ids), known.long().expand(len(ids), -1))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Tokenised, cut and padded as the pipeline does it."""
        length = self.tokenizer.model_max_length
        found = self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self._hidden_states(found.input_ids.to(self.device), found.attention_mask.to(self.device))

    def _hidden_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mask counts only where the text encoder's config says so, which is how the pipeline does it."""
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        hidden: Tensor = self.text_encoder(ids, attention_mask=mask if masked else None).last_hidden_state
        return hidden

    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden_states: Tensor) -> Tensor:
        """The U-Net's squared error per latent value."""
        noised, target = noised_and_target(self.scheduler, latents, noise, timesteps)
        noised, states = noised.to(self.unet.dtype), hidden_states.to(self.unet.dtype)
        return squared_errors(self.unet(noised, timesteps, states, return_dict=False)[0], target)


def training_schedule(pipeline: Any) -> DDPMScheduler:
    """Whatever sampler a pipeline names: this one computes the noise schedule of training from its settings."""
    return DDPMScheduler.from_config(pipeline.scheduler.config)
