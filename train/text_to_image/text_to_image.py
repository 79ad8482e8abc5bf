"""Training of a text-to-image model in Stable Diffusion's form (Rombach et al. 2022, arXiv 2112.10752).

    caption -> ids -> frozen text encoder -> hidden states ───┐
    image -> frozen autoencoder -> latents -> noised latents ─┴─> U-Net -> error of the predicted noise or velocity

The text encoder is the text tower of a trained CoCa. Some captions are left empty, for classifier-free guidance (Ho &
Salimans 2022, arXiv 2207.12598). `TextToImageRecipe.loss` is the method; the rest is what it needs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.redraw.stable_diffusion import WITHOUT_CHECKER, load_pipeline
from ...errors import InputError
from ..data.base import Data, DataSource
from ..data.latents import LatentCache, encode
from ..data.pixels import image_of, pixels, training_pixels
from ..engine.attention import attention_for_training
from ..engine.randomness import sample_integers, sample_noise, sample_rng
from ..engine.recipe import Count, LoopConfig, Positive, Recipe, Share
from ..engine.run import RECORD
from ..engine.settings import settings
from ..engine.sharding import blocks_of
from .autoencoder import latent_factor
from .diffusion import (
    VALIDATION_TIMESTEPS,
    checked_timesteps,
    loss_and_gaps,
    min_snr_weights,
    noised_and_target,
    squared_errors,
)
from .text_tower import export_text_encoder
from .unet import new_unet, reset_modules

_BATCH = 64  # of evaluation
_NOISE, _TIMESTEP, _DROPOUT = 1, 2, 3  # streams of random numbers


@settings
class TextToImageConfig:
    """Settings of the recipe: `clip`, `autoencoder` and `unet` for a new model, or a trained one to `start` from."""

    loop: LoopConfig
    data: Data  # image-text pairs
    clip: str | None = None  # folder of a CoCa
    autoencoder: str | None = None  # folder or hub id of an `AutoencoderKL`; `sample_size`: the images' side in pixels
    unet: Mapping[str, Any] = field(default_factory=dict)  # of `UNet2DConditionModel`; sizes that follow are filled in
    scheduler: Mapping[str, Any] = field(default_factory=dict)  # of `DDIMScheduler`; v-prediction if it says nothing
    start: str | None = None  # folder or hub id of a trained `StableDiffusionPipeline`
    # of its U-Net, the modules that begin anew, by a part of their dotted names; "attn2" is how it reads the text
    reset: tuple[str, ...] = ()
    # keep the latents of a source with a fixed number of items on disk, without random crops; a source without end is
    # encoded in each step
    cache_latents: bool = True
    caption_dropout: Share = 0.1  # of samples whose caption is left empty
    min_snr: Positive | None = None  # clamp of `diffusion.min_snr_weights`; None weighs all timesteps alike
    timestep_range: tuple[int, int] | None = None  # first timestep to train and the one past the last; None for all
    validation_images: Count = 256

    def __post_init__(self) -> None:
        parts = [name for name in ("clip", "autoencoder", "unet", "scheduler") if getattr(self, name)]
        anew = {"clip", "autoencoder", "unet"} <= set(parts)
        if (self.start and parts) or not (self.start or anew):
            got = [*parts, *(["start"] if self.start else [])]
            raise InputError(f"got {got}; expected clip, autoencoder and unet for a new model, or start alone to go on")
        if self.reset and not self.start:
            raise InputError(f"reset is {list(self.reset)}, but without start all weights are new; leave it out")


class TextToImageRecipe(Recipe):
    """Images and captions -> a `StableDiffusionPipeline`. `model` is the U-Net alone: what is frozen stays out of its
    checkpoints."""

    name = "text-to-image"
    config_class = TextToImageConfig

    def __init__(self, config: TextToImageConfig, cache: Path) -> None:
        self.config = config
        self.source: DataSource = config.data.open()  # first: its errors should not wait for the models
        if config.start:
            pipeline = load_pipeline(config.start, **WITHOUT_CHECKER)
            vae, text_encoder, self.tokenizer = pipeline.vae, pipeline.text_encoder, pipeline.tokenizer
            self.scheduler, unet = pipeline.scheduler, pipeline.unet
            reset_modules(unet, config.reset, config.loop.seed)
        else:
            vae = _load_autoencoder(str(config.autoencoder))
            text_encoder, self.tokenizer = export_text_encoder(Clip.from_pretrained(str(config.clip)))
            self.scheduler = new_scheduler(config.scheduler)
            unet = new_unet(config.unet, vae, text_encoder, config.loop.seed)
        self.model: nn.Module = unet
        self.vae, self.text_encoder = _frozen(vae), _frozen(text_encoder)
        self.image_size: int = unet.config["sample_size"] * latent_factor(vae)
        self.timesteps = checked_timesteps(config.timestep_range, self.scheduler.config.num_train_timesteps)
        self.source.image_size = self.image_size
        cached = config.cache_latents and self.source.size is not None
        self.cache = LatentCache(self.source, self.vae, self.image_size, cache) if cached else None

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """ids (B, L); latents (B, C, h, w), or where they are not kept pixels (B, 3, H, W) in [-1, 1]."""
        samples = self.source.samples(indices, seed, image=self.cache is None)
        kept = [sample_rng(seed, index, _DROPOUT).random() >= self.config.caption_dropout for index in indices]
        ids = self.tokenize([sample.text if keep else "" for sample, keep in zip(samples, kept, strict=True)])
        if self.cache is not None:
            return {"ids": ids, "latents": self.cache.latents([sample.row for sample in samples])}
        return {"ids": ids, "pixels": training_pixels(samples, self.image_size, self.source.crop_scale, indices, seed)}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The mean squared error of the prediction, weighted where the settings say so."""
        hidden = self.hidden_states(batch["ids"])  # (B, L) -> (B, L, D)
        latents = batch["latents"] if self.cache else encode(self.vae.to(hidden.device), batch["pixels"])
        seed, (low, high) = self.config.loop.seed, self.timesteps
        timesteps = (low + sample_integers(high - low, seed, indices, _TIMESTEP)).to(hidden.device)
        noise = sample_noise(latents.shape[1:], seed, indices, _NOISE).to(hidden.device)
        errors = self.errors(model, latents, hidden, noise, timesteps)  # (B,)
        if self.config.min_snr is not None:
            errors = errors * min_snr_weights(self.scheduler, timesteps, self.config.min_snr)
        return {"loss": errors.mean()}

    def errors(self, model: nn.Module, latents: Tensor, hidden: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(B,) squared error of the prediction from latents and noise (B, C, h, w), text (B, L, D), timesteps (B,)."""
        noised, target = noised_and_target(self.scheduler, latents, noise, timesteps)
        with attention_for_training(latents.device):
            predicted = model(noised, timesteps, hidden, return_dict=False)[0]
        return squared_errors(predicted, target)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """(B, L) ids, padded to the full context just as the pipeline pads them when it draws."""
        length = self.tokenizer.model_max_length
        found = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)
        return torch.tensor(found.input_ids)

    @torch.no_grad()
    def hidden_states(self, ids: Tensor) -> Tensor:
        """(B, L) -> (B, L, D), after the final layer norm."""
        return self.text_encoder.to(ids.device)(ids).last_hidden_state

    def blocks(self) -> list[nn.Module]:
        return [*super().blocks(), *blocks_of(self.vae), *blocks_of(self.text_encoder)]

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out items and fixed noise: `loss`, and how much greater it is with another item's caption
        (`text_gap`) and with none (`empty_gap`); over all of `VALIDATION_TIMESTEPS` and at each. Without gaps the text
        is not used."""
        latents, right, empty = self._validation
        if not len(latents):
            return {}
        captions = {"loss": right, "text_gap": right.roll(1, 0), "empty_gap": empty}
        losses = {
            name: [self._held_out_loss(model, latents, ids, t) for t in VALIDATION_TIMESTEPS]
            for name, ids in captions.items()
        }
        return loss_and_gaps(losses)

    def _held_out_loss(self, model: nn.Module, latents: Tensor, ids: Tensor, part: int) -> float:
        """At `part` thousandths of the schedule."""
        device = next(self.model.parameters()).device
        noise = sample_noise(latents.shape[1:], 0, range(len(latents)), _NOISE)
        timesteps = torch.full((len(ids),), part * self.scheduler.config.num_train_timesteps // 1000)
        errors = []
        for rows in zip(*(tensor.split(_BATCH) for tensor in (latents, ids, noise, timesteps)), strict=True):
            some_latents, some_ids, *drawn = (tensor.to(device) for tensor in rows)
            errors.append(self.errors(model, some_latents, self.hidden_states(some_ids), *drawn))
        return float(torch.cat(errors).mean())

    @cached_property
    def _validation(self) -> tuple[Tensor, Tensor, Tensor]:
        """latents (N, C, h, w), ids (N, L) and ids of empty captions (N, L) of held-out items."""
        samples = self.source.held_out(self.config.validation_images)
        vae = self.vae.to(next(self.model.parameters()).device)
        parts = [samples[first : first + _BATCH] for first in range(0, len(samples), _BATCH)]
        latents = [encode(vae, pixels([image_of(one) for one in part], self.image_size)).cpu() for part in parts]
        ids = self.tokenize([*(sample.text for sample in samples), ""])
        return torch.cat(latents or [torch.empty(0)]), ids[:-1], ids[-1].expand(len(samples), -1)

    def save(self, folder: Path) -> None:
        """A `StableDiffusionPipeline` folder, the autoencoder's training.json in it."""
        modules = {"vae": self.vae, "text_encoder": self.text_encoder, "unet": self.model}
        save_pipeline(folder, modules, self.tokenizer, self.scheduler)
        before = Path(self.config.start) / "vae" if self.config.start else Path(str(self.config.autoencoder))
        if (before / RECORD).exists():
            shutil.copy(before / RECORD, folder / "vae" / RECORD)


def new_scheduler(settings: Mapping[str, Any]) -> Any:
    """A `DDIMScheduler` that leaves latents unclipped, as Stable Diffusion's do. Raises `InputError` for bad settings.

    A schedule that ends in pure noise (`rescale_betas_zero_snr`; Lin et al. 2023, arXiv 2305.08891) leaves no image to
    learn from the noise, so it goes with v-prediction alone.
    """
    settings = {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1, **settings}
    if settings.get("rescale_betas_zero_snr") and settings.get("prediction_type") != "v_prediction":
        raise InputError("rescale_betas_zero_snr needs prediction_type v_prediction")
    try:
        return DDIMScheduler(**settings)
    except (TypeError, NotImplementedError) as error:  # the second is how diffusers refuses a beta_schedule
        raise InputError(f"diffusers cannot build a DDIMScheduler from these settings: {error}") from error


def save_pipeline(folder: Path, modules: Mapping[str, nn.Module], tokenizer: Any, scheduler: Any) -> None:
    """Write a `StableDiffusionPipeline` folder of "vae", "text_encoder" and "unet": in fp16, or in bf16 where a weight
    is too large for it. Loaded without a dtype, all of it computes in float32."""
    fits = all(p.abs().max() < torch.finfo(torch.float16).max for m in modules.values() for p in m.parameters())
    dtype = torch.float16 if fits else torch.bfloat16
    stored: dict[str, Any] = {name: deepcopy(module).cpu().to(dtype) for name, module in modules.items()}
    pipeline: Any = StableDiffusionPipeline(**stored, tokenizer=tokenizer, scheduler=scheduler, **WITHOUT_CHECKER)
    pipeline.save_pretrained(folder)
    # transformers alone loads a model as it is stored unless its config says otherwise; the parts would not fit
    config = folder / "text_encoder" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _load_autoencoder(source: str) -> Any:
    try:
        return AutoencoderKL.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no AutoencoderKL could be loaded from {source!r} ({error}); expected a hub id, or a folder that "
            "`textlens train autoencoder` wrote"
        ) from error


def _frozen(module: Any) -> Any:
    """In eval mode, its weights out of reach of the gradient."""
    return module.eval().requires_grad_(False)
