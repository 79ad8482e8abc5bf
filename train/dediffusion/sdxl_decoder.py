"""SDXL (Podell et al. 2023, arXiv 2307.01952) as De-Diffusion's frozen decoder, with both its text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..text_to_image.diffusion import noised_and_target, squared_errors
from .frozen_decoder import FrozenDecoder, training_schedule
from .soft_tokens import padded_ids, soft_embeddings, token_embedding


class SDXLDecoder(FrozenDecoder):
    """VAE, both text encoders, U-Net and noise schedule of a diffusers `StableDiffusionXLPipeline`.

    Token embeddings of both stand side by side, (total, D1 + D2), as do their last but one hidden states. States are
    (B, L + 1, D1 + D2): behind the L tokens one row holds the second encoder's pooled text, filled up with zeros.
    """

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        scheduler: Any,
        text_encoder_2: Any,
        tokenizer_2: Any,
    ) -> None:
        super().__init__(vae, text_encoder, tokenizer, unet, scheduler)
        self.text_encoder_2, self.tokenizer_2 = text_encoder_2.requires_grad_(False).eval(), tokenizer_2

    @classmethod
    def of(cls, pipeline: Any) -> SDXLDecoder:
        schedule, second = training_schedule(pipeline), (pipeline.text_encoder_2, pipeline.tokenizer_2)
        return cls(pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet, schedule, *second)

    @property
    def token_embeddings(self) -> Tensor:
        return torch.cat([token_embedding(one).weight for one in (self.text_encoder, self.text_encoder_2)], dim=1)

    def enable_gradient_checkpointing(self) -> None:
        super().enable_gradient_checkpointing()
        self._checkpoint_texts(self.text_encoder_2)

    def encode_soft(self, embeddings: Tensor) -> Tensor:
        width = token_embedding(self.text_encoder).embedding_dim
        word = next(i for i in range(len(self.tokenizer)) if i not in self.tokenizer.all_special_ids)
        # No end of text among them: that is where the pooled text is read.
        placeholders = embeddings.new_full(embeddings.shape[:2], word, dtype=torch.long)
        first = soft_embeddings(self.text_encoder, embeddings[..., :width])
        second = soft_embeddings(self.text_encoder_2, embeddings[..., width:])
        with first, second:
            return self.encode_ids(placeholders)

    def encode_ids(self, ids: Tensor) -> Tensor:
        return self._states(padded_ids(self.tokenizer, ids), padded_ids(self.tokenizer_2, ids))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        length = self.tokenizer.model_max_length
        read = (
            one(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
            for one in (self.tokenizer, self.tokenizer_2)
        )
        return self._states(*(ids.to(self.device) for ids in read))

    def _states(self, ids: Tensor, ids_2: Tensor) -> Tensor:
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids_2, output_hidden_states=True)
        tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)  # (B, L, D1 + D2)
        pooled = second.text_embeds.unsqueeze(1)  # (B, 1, D2')
        return torch.cat([tokens, F.pad(pooled, (0, tokens.shape[-1] - pooled.shape[-1]))], dim=1)

    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden_states: Tensor) -> Tensor:
        """The U-Net's squared error per latent value, for an image that was not cropped."""
        noised, target = noised_and_target(self.scheduler, latents, noise, timesteps)
        states = hidden_states.to(self.unet.dtype)
        size = self.image_size
        sizes = states.new_tensor([size, size, 0, 0, size, size]).expand(len(states), -1)  # original, crop, target
        pooled = states[:, -1, : self.text_encoder_2.config.projection_dim]
        predicted = self.unet(
            noised.to(self.unet.dtype),
            timesteps,
            states[:, :-1],
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
            return_dict=False,
        )[0]
        return squared_errors(predicted, target)
