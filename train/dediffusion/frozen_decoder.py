"""The decoder's side of De-Diffusion: a frozen Stable Diffusion pipeline, whose own diffusion loss says how well a text
lets it redraw an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ...encoders.redraw.stable_diffusion import WITHOUT_CHECKER, load_pipeline
from ..data.latents import encode
from ..engine.attention import attention_for_training
from ..text_to_image.autoencoder import latent_factor
from ..text_to_image.diffusion import noised_and_target, squared_errors
from .soft_tokens import padded_ids, soft_embeddings


def freeze(module: nn.Module) -> None:
    """No gradients for its weights, no dropout. Gradients still pass through to its inputs."""
    module.requires_grad_(False).eval()


class FrozenDecoder(nn.Module):
    """VAE, text encoder, U-Net and noise schedule of a diffusers `StableDiffusionPipeline`.

    Text enters as ids, as strings or as soft tokens; hidden states (B, L, D) are the text encoder's last, padding
    positions included, because the U-Net attends to those too.
    """

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.vae, self.text_encoder, self.unet = vae, text_encoder, unet
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.num_timesteps: int = scheduler.config["num_train_timesteps"]
        self.image_size = int(unet.config["sample_size"]) * latent_factor(vae)
        freeze(self)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> FrozenDecoder:
        """Load a pipeline's folder or hub id in float32; raises `InputError` as `load_pipeline` does."""
        pipeline = load_pipeline(source, **WITHOUT_CHECKER)
        # Whatever sampler the pipeline names: this one computes the noise schedule of training from its settings.
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        return cls(pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet, scheduler)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    def enable_gradient_checkpointing(self) -> None:
        """Keep fewer activations, compute them again in the backward pass."""
        self.unet.enable_gradient_checkpointing()
        text_encoder = self.text_encoder
        # The second name is that of transformers before 5.23.
        getattr(text_encoder, "activation_checkpointing_enable", text_encoder.gradient_checkpointing_enable)()
        if not text_encoder.config.attention_dropout:
            text_encoder.train()  # transformers checkpoints in training mode alone; nothing else changes

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32, scaled as the U-Net knows them."""
        return encode(self.vae, images)

    def encode_soft(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, N, D) in the place of N words -> hidden states (B, L, D)."""
        placeholders = embeddings.new_full(embeddings.shape[:2], self.tokenizer.eos_token_id, dtype=torch.long)
        with soft_embeddings(self.text_encoder, embeddings):
            return self.encode_ids(placeholders)

    def encode_ids(self, ids: Tensor) -> Tensor:
        """Words (B, N), without start and end -> hidden states (B, L, D)."""
        known = torch.arange(self.tokenizer.model_max_length, device=ids.device) < ids.shape[1] + 2  # (L,)
        return self._hidden_states(padded_ids(self.tokenizer, ids), known.long().expand(len(ids), -1))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> hidden states (B, L, D), tokenised, cut and padded as the pipeline does it."""
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
        """The diffusion loss of each sample, (B,) float32: the U-Net's squared error per latent value.

        latents, noise: (B, C, h, w). timesteps: (B,) int64. hidden_states: (B, L, D).
        """
        noised, target = noised_and_target(self.scheduler, latents, noise, timesteps)
        # What is computed again in the backward pass would be so outside of the context, with another kernel.
        again = self.unet.is_gradient_checkpointing
        with nullcontext() if again else attention_for_training(latents.device):
            predicted = self.unet(noised, timesteps, hidden_states, return_dict=False)[0]
        return squared_errors(predicted, target)


@dataclass(frozen=True)
class Denoising:
    """What texts are scored on: B latents, each with one noise (both (B, C, h, w)) and one timestep (B,)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor

    def losses(self, decoder: FrozenDecoder, hidden_states: Tensor) -> Tensor:
        """(B * K, L, D), the K texts of one image side by side -> (B, K); the K differ in nothing but their words."""
        texts = len(hidden_states) // len(self.latents)
        latents, noise, timesteps = (t.repeat_interleave(texts, 0) for t in (self.latents, self.noise, self.timesteps))
        return decoder.loss(latents, noise, timesteps, hidden_states).view(-1, texts)
