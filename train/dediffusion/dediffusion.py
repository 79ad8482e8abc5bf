"""De-Diffusion (Wei et al., CVPR 2024, arXiv 2311.00618): an encoder learns to write the words from which a frozen
text-to-image model can best denoise the image. Images only, no captions.

    pixels -> patch tokens -> pooler -> word logits             encoders/dediffusion/dediffusion_model.py
    logits -> Gumbel-softmax -> soft tokens                     soft_tokens.py
    soft tokens -> frozen text encoder -> frozen U-Net -> loss  frozen_decoder.py; for features feature_decoder.py

The gradient comes back the same way. A later stage may go on with the exact loss of texts that are drawn word by word,
by policy gradient. `dediffusion_config` holds the settings, `dediffusion_validation` the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.redraw.stable_diffusion import WITHOUT_CHECKER, load_pipeline
from ...encoders.saved_models import CONFIG_NAME
from ..data.base import DataSource
from ..data.pixels import cropped, image_of
from ..engine.attention import attention_for_training
from ..engine.randomness import sample_integers, sample_noise
from ..engine.recipe import Recipe
from ..engine.sharding import blocks_of
from ..text_to_image.diffusion import checked_timesteps, min_snr_weights
from .build_encoder import build_encoder
from .decoder import Decoder, Denoising
from .dediffusion_config import DediffusionTraining
from .dediffusion_validation import Validation, draw_validation
from .feature_decoder import FeatureDecoder
from .frozen_decoder import FrozenDecoder
from .patch_cache import cached_patches
from .sdxl_decoder import SDXLDecoder
from .soft_tokens import gumbel_noise, gumbel_softmax, mix, sample_words, temperature_at
from .text_objectives import (
    expected_repeats,
    mutual_information,
    policy_loss,
    usage_entropy,
    word_figures,
    word_loss,
)
from .text_teacher import TextTeacher

_NOISE, _TIMESTEP, _GUMBEL = 1, 2, 3  # streams of random numbers
_BATCH = 64  # of evaluation


class DediffusionRecipe(Recipe):
    """Images -> a De-Diffusion encoder. `model` is the encoder's; the decoder stays out of its checkpoints."""

    name = "dediffusion"
    config_class = DediffusionTraining
    source: DataSource

    def __init__(self, config: DediffusionTraining, cache: Path) -> None:
        self.config = config
        self.source = config.data.open(texts=config.captions)
        frozen = torch.bfloat16 if config.frozen_weights == "bf16" else torch.float32
        self.decoder = load_decoder(config.decoder, frozen)
        self.timesteps = checked_timesteps(config.timestep_range, self.decoder.num_timesteps)
        clip = Clip.from_pretrained(config.clip, dtype=torch.float32 if config.encoder.train_backbone else frozen)
        self.encoder = build_encoder(config, clip, self.decoder)
        self.clip, self.vocabulary = self.encoder.clip, self.encoder.vocabulary
        self.model: nn.Module = self.encoder.model
        with torch.no_grad():  # an error where so many words do not fit
            self.decoder.encode_ids(self.vocabulary.ids[:1].expand(1, self.encoder.config.num_queries))
        self.teacher = TextTeacher(clip, self.vocabulary) if config.clip_weight or config.caption_weight else None
        if config.gradient_checkpointing:
            self.decoder.enable_gradient_checkpointing()
            if self.encoder.config.train_backbone:
                self.clip.model.visual.set_grad_checkpointing(True)
        self.source.image_size = self.decoder.image_size
        cached = config.cache_latents and self.source.size is not None
        self.cached_latents = self.decoder.cache_latents(self.source, cache) if cached else None
        self.cached_patches = None
        if cached and config.cache_patches and not self.encoder.config.train_backbone:
            folder = cache / "features"
            self.cached_patches = cached_patches(self.source, self.clip, self.encoder.config.grid, folder)

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) for the image tower, or where they are cached its patches (B, P, W); latents
        (B, C, h, w), or where they are not cached images (B, 3, H', W') for the decoder, both of the same random
        crop."""
        samples = self.source.samples(indices, seed, image=self.cached_patches is None)
        rows = [sample.row for sample in samples]
        if self.cached_latents is not None and self.cached_patches is not None:
            return {"patches": self.cached_patches(rows), "latents": self.cached_latents(rows)}
        images = [image_of(sample) for sample in samples]
        if self.cached_latents is None:
            images = cropped(images, self.source.crop_scale, indices, seed)
        pixels = self.clip.pixels(images, device="cpu")  # a forked worker may use no GPU
        if self.cached_latents is not None:
            return {"pixels": pixels, "latents": self.cached_latents(rows)}
        return {"pixels": pixels, "images": self.decoder.pixels(images)}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The loss to train on, the decoder's own beneath it (`diffusion`), and figures of the words."""
        config, seen = self.config, {name: batch[name] for name in ("pixels", "patches") if name in batch}
        device = next(iter(seen.values())).device
        # Checkpointing recomputes in the backward pass, outside of the context, with another kernel.
        with nullcontext() if config.gradient_checkpointing else attention_for_training(device):
            task = self._denoising(batch, step, indices)
            written = model(**seen)  # (B, N, V) logits, or (B, N, D) continuous embeddings
            if config.continuous:
                losses = task.losses(self.decoder, self.decoder.encode_soft(written))
                return {"loss": self._weighted(losses, task).mean(), "diffusion": losses.detach().mean()}
            logits, probabilities = written.float(), written.float().softmax(-1)
            estimate = self._drawn_words if config.estimator == "policy" else self._soft_words
            figures = estimate(logits, task, batch, step, indices)
            figures["loss"] = figures["loss"] + self._word_costs(logits, probabilities, batch)
            return {**figures, **word_figures(probabilities)}

    def _soft_words(
        self, logits: Tensor, task: Denoising, batch: dict[str, Tensor], step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The decoder's loss of soft words, whose gradient comes back through the decoder."""
        config, decoder = self.config, self.decoder
        temperature = temperature_at(step, config.loop.steps, config.tau_start, config.tau_end)
        noise = self._gumbel_noise(logits, indices)  # (B, K, N, V)
        words = gumbel_softmax(logits.unsqueeze(1), noise, temperature, hard=config.hard).flatten(0, 1)  # (B K, N, V)
        embeddings = mix(words, decoder.token_embeddings[self.vocabulary.ids].float())  # (B K, N, D)
        losses = task.losses(decoder, decoder.encode_soft(embeddings))  # (B, K)
        loss = self._weighted(losses, task).mean()
        if self.teacher and config.clip_weight:
            loss = loss + config.clip_weight * self.teacher.distance(batch["pixels"], words)
        return {"loss": loss, "diffusion": losses.detach().mean(), "temperature": loss.new_tensor(temperature)}

    def _drawn_words(
        self, logits: Tensor, task: Denoising, batch: dict[str, Tensor], step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The decoder's exact loss of drawn texts, forward only. `spread`: how far the texts of one image differ."""
        with torch.no_grad():
            words = sample_words(logits.unsqueeze(1), self._gumbel_noise(logits, indices))  # (B, K, N)
            ids = self.vocabulary.ids.to(words.device)[words.flatten(0, 1)]
            losses = task.losses(self.decoder, self.decoder.encode_ids(ids))  # (B, K)
        loss = policy_loss(logits, words, -self._weighted(losses, task))
        return {"loss": loss, "diffusion": losses.mean(), "spread": losses.std(1).mean()}

    def _word_costs(self, logits: Tensor, probabilities: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What the settings ask of the words themselves. (B, N, V) -> ()."""
        config, cost = self.config, logits.new_zeros(())
        if config.entropy_weight:
            cost = cost - config.entropy_weight * usage_entropy(probabilities)
        if config.information_weight:
            cost = cost - config.information_weight * mutual_information(probabilities)
        if config.repeat_weight:
            cost = cost + config.repeat_weight * expected_repeats(probabilities)
        if self.teacher and config.caption_weight:
            captions = self.teacher.caption_words(batch["pixels"], logits.shape[1])
            cost = cost + config.caption_weight * word_loss(logits, captions)
        return cost

    def _denoising(self, batch: dict[str, Tensor], step: int, indices: Sequence[int]) -> Denoising:
        """Latents of the batch, each with its noise and timestep."""
        seed, device, (low, high) = self.config.loop.seed, next(iter(batch.values())).device, self.timesteps
        self._move_decoder(device)
        latents = batch["latents"] if "latents" in batch else self.decoder.encode_images(batch["images"])
        timesteps = low + sample_integers(high - low, seed, indices, _TIMESTEP)
        keys = [step] if self.config.shared_noise else indices
        noise = sample_noise(latents.shape[1:], seed, keys, _NOISE).expand(len(latents), -1, -1, -1)
        return Denoising(latents, noise.to(device), timesteps.to(device))

    def _gumbel_noise(self, logits: Tensor, indices: Sequence[int]) -> Tensor:
        shape = (self.config.samples_per_image, *logits.shape[1:])
        return gumbel_noise(shape, self.config.loop.seed, indices, stream=_GUMBEL, device=logits.device)

    def _weighted(self, losses: Tensor, task: Denoising) -> Tensor:
        """(B, K) losses with the weights of their timesteps."""
        if self.config.min_snr is None:
            return losses
        return losses * min_snr_weights(self.decoder.scheduler, task.timesteps, self.config.min_snr).unsqueeze(1)

    def _move_decoder(self, device: torch.device) -> None:
        """It is no sub-module of the model that the loop moves."""
        if self.decoder.device != device:
            self.decoder.to(device)

    def after_step(self) -> None:
        self.encoder.model.clamp_scale()

    def blocks(self) -> list[nn.Module]:
        return [*super().blocks(), *blocks_of(self.decoder), *blocks_of(self.clip.model.visual)]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out samples, `Validation.score` of the words between its bounds; of continuous embeddings the loss
        alone."""
        self._move_decoder(next(model.parameters()).device)
        seen = self._validation
        if seen is None:
            return {}
        if self._validation_patches is not None:
            written = (model(patches=part) for part in self._validation_patches.split(_BATCH))
        else:
            written = (model(part) for part in seen.pixels.split(_BATCH))
        if self.config.continuous:
            states = torch.cat([self.decoder.encode_soft(part) for part in written])
            return {"diffusion": seen.loss_of_states(states), **seen.bounds}
        chosen = [places for logits in written for places, _ in self.encoder.choose_words(logits)]
        ids = [self.vocabulary.ids[places].tolist() for places in chosen]
        return {**seen.score(ids, self.vocabulary), **seen.bounds}

    @cached_property
    def _validation(self) -> Validation | None:
        """None where nothing is held out."""
        samples = self.source.held_out(self.config.validation_images)
        if not samples:
            return None
        return draw_validation(
            self.clip, self.decoder, samples, timesteps=self.timesteps, evaluators=self.source.evaluators
        )

    @cached_property
    def _validation_patches(self) -> Tensor | None:
        """(M, P, W) where those of the training images are cached too."""
        seen = self._validation
        if self.cached_patches is None or seen is None:
            return None
        return torch.cat([self.encoder.model.patch_tokens(part) for part in seen.pixels.split(_BATCH)])

    def save(self, folder: Path) -> None:
        """The encoder in fp16; continuous embeddings leave none."""
        if not self.config.continuous:
            self.encoder.save_pretrained(folder, dtype=torch.float16)


def load_decoder(source: str, dtype: torch.dtype = torch.float32) -> Decoder:
    """A `FeatureDecoder`'s folder (small, always in float32), or a text-to-image pipeline in `dtype`."""
    if (Path(source) / CONFIG_NAME).is_file():  # a pipeline's is model_index.json
        return FeatureDecoder.from_pretrained(source)
    pipeline = load_pipeline(source, dtype=dtype, **WITHOUT_CHECKER)
    kind = SDXLDecoder if isinstance(pipeline, StableDiffusionXLPipeline) else FrozenDecoder
    return kind.of(pipeline)
