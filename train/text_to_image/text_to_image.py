"""Training of a text-to-image model in Stable Diffusion's form (Rombach et al. 2022, arXiv 2112.10752).

A U-Net learns to take the noise out of latents, given the hidden states of a text. The text encoder is the text tower
of a trained CoCa and stays frozen, as does the autoencoder. Some captions are left empty, for classifier-free guidance
(Ho & Salimans 2022, arXiv 2207.12598).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.redraw.stable_diffusion import WITHOUT_CHECKER, load_pipeline
from ...errors import InputError
from ..data.latents import LatentScenes, SceneSet, encode
from ..data.pairs import PairSource, ScenePairs, load_pairs
from ..data.pixels import pixels
from ..engine.attention import attention_for_training
from ..engine.loop import LoopConfig, TrainResult, train
from ..engine.randomness import sample_integers, sample_noise, sample_rng
from ..engine.settings import current_commit, write_training_record
from .autoencoder import latent_factor
from .diffusion import checked_timesteps, min_snr_weights, noised_and_target, squared_errors
from .text_tower import export_text_encoder

VALIDATION_SCENES = 256
VALIDATION_TIMESTEPS = (200, 500, 800, 950)  # thousandths of the schedule
_NOISE, _TIMESTEP, _DROPOUT = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class TextToImageConfig:
    """Settings of the recipe.

    clip: folder of a CoCa. autoencoder: folder of an `AutoencoderKL`; its `sample_size` is the images' side in pixels.
    unet: of `UNet2DConditionModel`; the sizes that follow from the two above are filled in.
    scheduler: of `DDIMScheduler`, the noise schedule to train on and to sample with; v-prediction if it says nothing.
    start: in the place of all four, the folder or hub id of a trained `StableDiffusionPipeline` to go on from.
    source, image_column, text_column: "scenes", or image-text pairs as `pairs.load_pairs` reads them.
    styles, one_object, curriculum: of scenes, see `latents.SceneSet`. scenes: how many there are, their latents kept
    on disk; 0 for fresh scenes without end, encoded in each step.
    caption_dropout: share of samples whose caption is left empty.
    min_snr: the clamp of `diffusion.min_snr_weights`; None weighs all timesteps alike.
    timestep_range: the first timestep to train and the one past the last; None for all.
    """

    loop: Mapping[str, Any]
    clip: str | None = None
    autoencoder: str | None = None
    unet: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    source: str = "scenes"
    image_column: str = "image"
    text_column: str = "text"
    styles: Mapping[str, float] = field(default_factory=lambda: {"short": 0.2, "descriptive": 0.4, "loose": 0.4})
    scenes: int = 50_000
    one_object: float = 0.0
    curriculum: Mapping[int, int] = field(default_factory=dict)
    caption_dropout: float = 0.1
    min_snr: float | None = None
    timestep_range: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        anew = bool(self.clip and self.autoencoder and self.unet)
        parts = [name for name in ("clip", "autoencoder", "unet", "scheduler") if getattr(self, name)]
        if bool(self.start) == anew or (self.start and parts):
            got = [*parts, *(["start"] if self.start else [])]
            raise InputError(f"got {got}; expected clip, autoencoder and unet for a new model, or start alone to go on")
        if not 0 <= self.caption_dropout < 1 or (self.min_snr is not None and self.min_snr <= 0) or self.scenes < 0:
            raise InputError(
                f"got caption_dropout={self.caption_dropout}, min_snr={self.min_snr}, scenes={self.scenes}; expected "
                "a share of at least 0 and less than 1, a clamp above 0 or None, and no negative number of scenes"
            )


class TextToImageRecipe:
    """The recipe for `loop.train`. `model` is the U-Net alone: what is frozen stays out of its checkpoints."""

    def __init__(self, config: TextToImageConfig, cache: Path) -> None:
        self.config = config
        self.seed = LoopConfig(**config.loop).seed
        if config.start:
            self._load_start(config.start)
        else:
            self._build()
        self.timesteps = checked_timesteps(config.timestep_range, self.scheduler.config.num_train_timesteps)
        self.source = self._load_source(cache)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.vae.config["sample_size"])

    def _build(self) -> None:
        """A fresh U-Net between a trained autoencoder and the text tower of a trained CoCa."""
        config = self.config
        assert config.clip is not None  # `TextToImageConfig` has seen to it, here as below
        assert config.autoencoder is not None
        self.vae = _frozen(_load_autoencoder(Path(config.autoencoder)))
        text_encoder, self.tokenizer = export_text_encoder(Clip.from_pretrained(Path(config.clip)))
        self.text_encoder = _frozen(text_encoder)
        self.scheduler = new_scheduler(config.scheduler)
        self.model: nn.Module = self._new_unet()

    def _load_start(self, start: str) -> None:
        """All parts of a trained pipeline."""
        pipeline = load_pipeline(start, **WITHOUT_CHECKER)
        self.vae, self.text_encoder = _frozen(pipeline.vae), _frozen(pipeline.text_encoder)
        self.tokenizer, self.scheduler, self.model = pipeline.tokenizer, pipeline.scheduler, pipeline.unet

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """ids (B, L); latents (B, C, h, w), or where they are not kept pixels (B, 3, H, W) in [-1, 1]."""
        if isinstance(self.source, LatentScenes):
            scenes = self.source.scenes
            rows = [scenes.row(index, seed) for index in indices]
            texts = [scenes.caption(row, index, seed) for row, index in zip(rows, indices, strict=True)]
            images = {"latents": self.source.latents(rows)}
        else:
            pairs = [self.source.pair(index, seed) for index in indices]
            texts = [pair.text for pair in pairs]
            images = {"pixels": pixels([pair.image for pair in pairs], self.image_size)}
        return {
            "ids": self.tokenize([self._dropped(t, i, seed) for t, i in zip(texts, indices, strict=True)]),
            **images,
        }

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The mean squared error of the prediction, weighted where the settings say so."""
        device = batch["ids"].device
        latents = batch["latents"] if "latents" in batch else encode(self.vae.to(device), batch["pixels"])
        low, high = self.timesteps
        timesteps = (low + sample_integers(high - low, self.seed, indices, _TIMESTEP)).to(device)
        noise = sample_noise(latents.shape[1:], self.seed, indices, _NOISE).to(device)
        errors = self.errors(model, latents, self.hidden_states(batch["ids"]), noise, timesteps)
        if self.config.min_snr is not None:
            errors = errors * min_snr_weights(self.scheduler, timesteps, self.config.min_snr)
        return {"loss": errors.mean()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On validation scenes and fixed noise: the loss, and how much greater it is with another scene's caption
        (`text_gap`), over all of `VALIDATION_TIMESTEPS` and at each. Without a gap the text is not used.
        """
        if self.config.source != "scenes":
            return {}
        device = next(model.parameters()).device
        latents, ids = (tensor.to(device) for tensor in self._validation)
        noise = sample_noise(latents.shape[1:], 0, range(len(latents)), _NOISE).to(device)
        hidden = self.hidden_states(ids)
        figures: dict[str, float] = {}
        for part in VALIDATION_TIMESTEPS:
            timesteps = torch.full((len(ids),), part * self.scheduler.config.num_train_timesteps // 1000, device=device)
            right, wrong = (
                float(self.errors(model, latents, text, noise, timesteps).mean())
                for text in (hidden, hidden.roll(1, 0))
            )
            figures |= {f"loss_{part}": right, f"text_gap_{part}": wrong - right}
        means = {
            name: sum(figures[f"{name}_{part}"] for part in VALIDATION_TIMESTEPS) / len(VALIDATION_TIMESTEPS)
            for name in ("loss", "text_gap")
        }
        return means | figures

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

    def _dropped(self, text: str, index: int, seed: int) -> str:
        return "" if sample_rng(seed, index, _DROPOUT).random() < self.config.caption_dropout else text

    @cached_property
    def _validation(self) -> tuple[Tensor, Tensor]:
        """latents (N, C, h, w) and ids (N, L) of validation scenes."""
        scenes = ScenePairs({"descriptive": 1.0}, "val", self.image_size)
        pairs = [scenes.pair(index, 0) for index in range(VALIDATION_SCENES)]
        images = pixels([pair.image for pair in pairs], self.image_size)
        latents = torch.cat([encode(self.vae, part) for part in images.split(64)])
        return latents, self.tokenize([pair.text for pair in pairs])

    def _load_source(self, cache: Path) -> LatentScenes | PairSource:
        config = self.config
        if config.source != "scenes":
            return load_pairs(config.source, config.image_column, config.text_column)
        if not config.scenes:
            return ScenePairs(config.styles, "train", self.image_size, config.curriculum, config.one_object)
        scenes = SceneSet(config.scenes, config.styles, "train", self.image_size, config.one_object, config.curriculum)
        return LatentScenes(scenes, self.vae.to("cuda" if torch.cuda.is_available() else "cpu"), cache)

    def _new_unet(self) -> Any:
        channels = self.vae.config["latent_channels"]
        sizes = {
            "sample_size": self.image_size // latent_factor(self.vae),
            "in_channels": channels,
            "out_channels": channels,
            "cross_attention_dim": self.text_encoder.config.hidden_size,
        }
        wrong = {name: value for name, value in self.config.unet.items() if sizes.get(name, value) != value}
        if wrong:
            raise InputError(f"the settings of unet say {wrong}; autoencoder and text encoder make it {sizes}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                return UNet2DConditionModel(**{**self.config.unet, **sizes})
            except (TypeError, ValueError) as error:
                raise InputError(f"diffusers cannot build a U-Net from these settings: {error}") from error


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


def train_text_to_image(
    config: TextToImageConfig,
    out: Path,
    *,
    cache: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> TrainResult:
    """Run the recipe in `out`. Once all steps are done the pipeline is in `out/model`, with its training.json.

    cache: folder for the latents of scenes, "latents" beside `out` unless given, which all runs may share.
    """
    commit = current_commit()
    recipe = TextToImageRecipe(config, cache or out.parent / "latents")
    result = train(recipe, LoopConfig(**config.loop), out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        modules = {"vae": recipe.vae, "text_encoder": recipe.text_encoder, "unet": recipe.model}
        save_pipeline(out / "model", modules, recipe.tokenizer, recipe.scheduler)
        write_training_record(out / "model", "text-to-image", asdict(config), commit, result)
        before = Path(config.start) / "vae" if config.start else Path(config.autoencoder or "")
        if (before / "training.json").exists():
            shutil.copy(before / "training.json", out / "model" / "vae" / "training.json")
    return result


def save_pipeline(folder: Path, modules: Mapping[str, nn.Module], tokenizer: Any, scheduler: Any) -> None:
    """Write a `StableDiffusionPipeline` folder of "vae", "text_encoder" and "unet": in fp16, or in bf16 where a weight
    is too large for it. Loaded without a dtype, all of it computes in float32."""
    fits = all(p.abs().max() < torch.finfo(torch.float16).max for m in modules.values() for p in m.parameters())
    dtype = torch.float16 if fits else torch.bfloat16
    stored: dict[str, Any] = {name: deepcopy(module).cpu().to(dtype) for name, module in modules.items()}
    pipeline: Any = StableDiffusionPipeline(
        **stored, tokenizer=tokenizer, scheduler=scheduler,
        **WITHOUT_CHECKER,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    # Of all parts transformers' alone is loaded as it is stored unless its config says otherwise, and would not fit.
    config = folder / "text_encoder" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _load_autoencoder(folder: Path) -> Any:
    try:
        return AutoencoderKL.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no AutoencoderKL could be loaded from {str(folder)!r} ({error}); expected a folder that "
            "`textlens train autoencoder` wrote"
        ) from error


def _frozen(module: Any) -> Any:
    """In eval mode, its weights out of reach of the gradient."""
    return module.eval().requires_grad_(False)
