"""Training of De-Diffusion (Wei et al., CVPR 2024, arXiv 2311.00618): an encoder writes the words from which a frozen
text-to-image model can best take the noise out of the image. Images only, no captions.

First stage: soft words by Gumbel-softmax, through which the decoder's gradient reaches the encoder. A second stage may
go on with the *exact* loss of texts that are drawn word by word, by policy gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.clip.open_clip_files import build_model, preprocess_of
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion, DediffusionConfig
from ...errors import InputError
from ...scenes.captions import caption_words
from ...scenes.scene import MAX_OBJECTS
from ..data.latents import LatentScenes, SceneSet
from ..data.pairs import PairSource, ScenePairs, load_pairs
from ..data.pixels import pixels
from ..engine.attention import attention_for_training
from ..engine.loop import LoopConfig, TrainResult, train
from ..engine.randomness import sample_integers, sample_noise
from ..engine.settings import current_commit, write_training_record
from ..text_to_image.diffusion import checked_timesteps, min_snr_weights
from .dediffusion_validation import Validation, draw_validation
from .frozen_decoder import Denoising, FrozenDecoder
from .soft_tokens import (
    gumbel_noise,
    gumbel_softmax,
    mix,
    padded_ids,
    sample_words,
    temperature_at,
    token_embedding,
    word_embeddings,
)
from .text_objectives import (
    expected_repeats,
    information,
    policy_loss,
    text_figures,
    usage_entropy,
    word_loss,
)
from .text_teacher import TextTeacher

_NOISE, _TIMESTEP, _GUMBEL = 1, 2, 3  # streams of random numbers
_STYLES = {"short": 1.0}  # captions of scenes, which nothing here reads


@dataclass(frozen=True)
class DediffusionTraining:
    """Settings of the recipe.

    decoder: folder or hub id of a diffusers `StableDiffusionPipeline`. clip: the image backbone, folder or "model/tag".
    encoder: of `DediffusionConfig`. start: folder of a trained encoder to go on from, for a second stage; `encoder` is
    then that one's. None starts anew. min_probability: with `start`, in place of that one's; training minds all words.
    caption_styles: the encoder may write none but the words of scenes' captions in these styles, those of the decoder's
    own training; words that a decoder never met mean something to it by accident. () for all words (of `start`'s).
    source, image_column: "scenes", or images as `pairs.load_pairs` reads them; captions are not read.
    curriculum, one_object: of scenes, see `latents.SceneSet`. scenes: how many there are, their latents kept on disk;
    0 for fresh scenes without end, encoded in each step as other images are.
    estimator: "gumbel" mixes words, at a temperature that goes from tau_start to tau_end; `hard` is straight-through.
    "policy" draws `samples_per_image` texts from the softmax, scores each exactly, and needs at least 2.
    samples_per_image: texts of one image, at the same noise and timestep, so that they differ in words alone.
    timestep_range: the first timestep to train and the one past the last; None for all.
    shared_noise: one noise for the whole batch. min_snr: the clamp of `diffusion.min_snr_weights`; None for no weights.
    entropy_weight, information_weight: of `usage_entropy` and `information` in `text_objectives`, as rewards.
    repeat_weight: of `expected_repeats` there, as a cost. clip_weight: of 1 - cosine of image and soft text
    in the CLIP. caption_weight: of the cross-entropy with the words of that CLIP's (a CoCa's) own captions.
    continuous: any embeddings in the place of words', the upper bound of what text could do; leaves no encoder.
    random_backbone: forget the image tower's weights first; goes with `train_backbone` in the encoder's settings.
    gradient_checkpointing: in decoder and image tower. validation_images: how many.
    """

    decoder: str
    clip: str
    loop: Mapping[str, Any]
    encoder: Mapping[str, Any] = field(default_factory=dict)
    caption_styles: Sequence[str] = ()
    start: str | None = None
    min_probability: float | None = None
    source: str = "scenes"
    image_column: str = "image"
    scenes: int = 0
    curriculum: Mapping[int, int] = field(default_factory=dict)
    one_object: float = 0.0
    estimator: Literal["gumbel", "policy"] = "gumbel"
    tau_start: float = 2.0
    tau_end: float = 0.3
    hard: bool = False
    samples_per_image: int = 1
    timestep_range: tuple[int, int] | None = None
    shared_noise: bool = False
    min_snr: float | None = None
    entropy_weight: float = 0.0
    information_weight: float = 0.0
    repeat_weight: float = 0.0
    clip_weight: float = 0.0
    caption_weight: float = 0.0
    continuous: bool = False
    random_backbone: bool = False
    gradient_checkpointing: bool = False
    validation_images: int = 256

    def __post_init__(self) -> None:
        if self.estimator not in ("gumbel", "policy"):
            raise InputError(f"unknown estimator {self.estimator!r}: expected gumbel or policy")
        least = 2 if self.estimator == "policy" else 1
        if self.samples_per_image < least or self.validation_images < 1 or self.scenes < 0:
            raise InputError(
                f"got samples_per_image={self.samples_per_image}, validation_images={self.validation_images}, "
                f"scenes={self.scenes}; expected at least {least}, 1 and 0 with the estimator {self.estimator}"
            )
        if min(self.tau_start, self.tau_end) <= 0 or (self.min_snr is not None and self.min_snr <= 0):
            raise InputError(
                f"got tau_start={self.tau_start}, tau_end={self.tau_end}, min_snr={self.min_snr}; expected "
                "temperatures above 0, and a clamp above 0 or None"
            )
        if self.scenes and self.source != "scenes":
            raise InputError(f"scenes={self.scenes} goes with the source scenes, not {self.source!r}; set it to 0")
        self._check_objective()

    def _check_objective(self) -> None:
        if self.estimator == "policy" and (self.clip_weight or self.continuous):
            raise InputError("clip_weight and continuous need soft words; expected estimator gumbel with them")
        of_words = ("entropy_weight", "information_weight", "repeat_weight", "clip_weight", "caption_weight")
        if self.continuous and (self.start or any(getattr(self, name) for name in of_words)):
            raise InputError(
                "continuous embeddings have no words to weigh and no encoder to start from; set "
                f"{', '.join(of_words)} to 0, and leave start out"
            )
        if self.random_backbone and (self.start or not self.encoder.get("train_backbone")):
            raise InputError("random_backbone needs train_backbone in the settings of encoder, and goes with no start")


class DediffusionRecipe:
    """The recipe for `loop.train`. `model` is the encoder's; the decoder stays out of its checkpoints."""

    def __init__(self, config: DediffusionTraining, cache: Path) -> None:
        self.config, loop = config, LoopConfig(**config.loop)
        self.seed, self.steps = loop.seed, loop.steps
        self.most_objects = _most_objects(config, loop.steps * loop.batch_size - 1)
        self.decoder = FrozenDecoder.from_pretrained(config.decoder)
        self.timesteps = checked_timesteps(config.timestep_range, self.decoder.num_timesteps)
        clip = Clip.from_pretrained(config.clip)
        self.encoder = (
            load_start(config.start, clip, self.decoder, config.caption_styles, config.min_probability)
            if config.start
            else new_encoder(config, clip, self.decoder)
        )
        self.clip, self.vocabulary = self.encoder.clip, self.encoder.vocabulary
        self.model: nn.Module = self.encoder.model
        self.teacher = TextTeacher(clip, self.vocabulary) if config.clip_weight or config.caption_weight else None
        if config.gradient_checkpointing:
            self._enable_gradient_checkpointing()
        padded_ids(self.decoder.tokenizer, self.vocabulary.ids[None, : self.encoder.config.num_queries])  # they fit
        self.source = self._load_source(cache)

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) for the backbone; latents (B, C, h, w), or where they are not kept images (B, 3, H', W')
        in [-1, 1] for the VAE.
        """
        if isinstance(self.source, LatentScenes):
            rows = [self.source.scenes.row(index, seed) for index in indices]
            images = [self.source.scenes.image(row) for row in rows]
            views = {"latents": self.source.latents(rows)}
        else:
            images = [self.source.pair(index, seed).image for index in indices]
            views = {"images": pixels(images, self.decoder.image_size)}
        return {"pixels": self.clip.pixels(images, device="cpu"), **views}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The loss to train on, the decoder's own beneath it (`diffusion`), and figures of the text."""
        # What is computed again in the backward pass would be so outside of the context, with another kernel.
        with nullcontext() if self.config.gradient_checkpointing else attention_for_training(batch["pixels"].device):
            return self._loss(model, batch, step, indices)

    def _loss(self, model: nn.Module, batch: dict[str, Tensor], step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        task = self._draw_task(batch, step, indices)
        written = model(batch["pixels"])  # (B, N, V) logits, or (B, N, D) of continuous embeddings
        if self.config.continuous:
            losses = task.losses(self.decoder, self.decoder.encode_soft(written))
            return {"loss": self._weighted(losses, task).mean(), "diffusion": losses.detach().mean()}
        logits, probabilities = written.float(), written.float().softmax(-1)
        draw = self._policy if self.config.estimator == "policy" else self._gumbel
        figures = draw(logits, task, batch["pixels"], step, indices)
        figures["loss"] = figures["loss"] + self._cost_of_use(probabilities)
        if self.teacher and self.config.caption_weight:
            words = self.teacher.caption_words(batch["pixels"], logits.shape[1])
            figures["loss"] = figures["loss"] + self.config.caption_weight * word_loss(logits, words)
        return {**figures, **text_figures(probabilities)}

    def _cost_of_use(self, probabilities: Tensor) -> Tensor:
        """What the settings say against words that repeat, or are alike for all images. (B, N, V) -> ()."""
        config, cost = self.config, probabilities.new_zeros(())
        if config.entropy_weight:
            cost = cost - config.entropy_weight * usage_entropy(probabilities)
        if config.information_weight:
            cost = cost - config.information_weight * information(probabilities)
        if config.repeat_weight:
            cost = cost + config.repeat_weight * expected_repeats(probabilities)
        return cost

    def _gumbel(
        self, logits: Tensor, task: Denoising, shown: Tensor, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The decoder's loss of mixed words, whose gradient comes back through the decoder."""
        config = self.config
        temperature = temperature_at(step, self.steps, config.tau_start, config.tau_end)
        noise = self._gumbel_noise(logits, indices)  # (B, K, N, V)
        words = gumbel_softmax(logits.unsqueeze(1), noise, temperature, hard=config.hard).flatten(0, 1)  # (B K, N, V)
        embeddings = mix(words, word_embeddings(self.decoder.text_encoder, self.vocabulary.ids))
        losses = task.losses(self.decoder, self.decoder.encode_soft(embeddings))
        loss = self._weighted(losses, task).mean()
        if self.teacher and config.clip_weight:
            loss = loss + config.clip_weight * self.teacher.distance(shown, words)
        return {"loss": loss, "diffusion": losses.detach().mean(), "temperature": loss.new_tensor(temperature)}

    def _policy(
        self, logits: Tensor, task: Denoising, shown: Tensor, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The decoder's exact loss of drawn texts, forward only. `spread` is how far the texts of an image differ."""
        with torch.no_grad():
            words = sample_words(logits.unsqueeze(1), self._gumbel_noise(logits, indices))  # (B, K, N)
            ids = self.vocabulary.ids.to(words.device)[words.flatten(0, 1)]
            losses = task.losses(self.decoder, self.decoder.encode_ids(ids))  # (B, K)
        loss = policy_loss(logits, words, -self._weighted(losses, task))
        return {"loss": loss, "diffusion": losses.mean(), "spread": losses.std(1).mean()}

    def _gumbel_noise(self, logits: Tensor, indices: Sequence[int]) -> Tensor:
        shape = (self.config.samples_per_image, *logits.shape[1:])
        return gumbel_noise(shape, self.seed, indices, stream=_GUMBEL, device=logits.device)

    def _draw_task(self, batch: dict[str, Tensor], step: int, indices: Sequence[int]) -> Denoising:
        device = batch["pixels"].device
        if self.decoder.device != device:
            self.decoder.to(device)
        latents = batch["latents"] if "latents" in batch else self.decoder.encode_images(batch["images"])
        low, high = self.timesteps
        timesteps = low + sample_integers(high - low, self.seed, indices, _TIMESTEP)
        keys = [step] if self.config.shared_noise else indices
        noise = sample_noise(latents.shape[1:], self.seed, keys, _NOISE).expand(len(latents), -1, -1, -1)
        return Denoising(latents, noise.to(device), timesteps.to(device))

    def _weighted(self, losses: Tensor, task: Denoising) -> Tensor:
        """(B, K) losses with the weights of their timesteps."""
        if self.config.min_snr is None:
            return losses
        return losses * min_snr_weights(self.decoder.scheduler, task.timesteps, self.config.min_snr).unsqueeze(1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`Validation.score` of the descriptions, between its bounds; of continuous embeddings the loss alone."""
        self.decoder.to(next(model.parameters()).device)
        seen = self._validation
        written = [model(part) for part in seen.pixels.split(64)]
        if self.config.continuous:
            states = torch.cat([self.decoder.encode_soft(part) for part in written])
            return {"diffusion": seen.loss_of_states(states), **seen.bounds}
        chosen = [places for logits in written for places, _ in self.encoder.choose_words(logits)]
        ids = [self.vocabulary.ids[places].tolist() for places in chosen]
        return {**seen.score(ids, self.vocabulary), **seen.bounds}

    @cached_property
    def _validation(self) -> Validation:
        return draw_validation(
            self.clip,
            self.decoder,
            self.config.validation_images,
            source=None if self.config.source == "scenes" else self._pairs(),
            most_objects=self.most_objects,
            timesteps=self.timesteps,
        )

    def _enable_gradient_checkpointing(self) -> None:
        self.decoder.enable_gradient_checkpointing()
        if self.encoder.config.train_backbone:
            self.clip.model.visual.set_grad_checkpointing(True)

    def _load_source(self, cache: Path) -> LatentScenes | PairSource:
        config = self.config
        if not config.scenes:
            return self._pairs()
        size = self.decoder.image_size
        scenes = SceneSet(config.scenes, _STYLES, "train", size, config.one_object, config.curriculum)
        self.decoder.to("cuda" if torch.cuda.is_available() else "cpu")
        return LatentScenes(scenes, self.decoder.vae, cache)

    def _pairs(self) -> PairSource:
        config = self.config
        if config.source != "scenes":
            return load_pairs(config.source, config.image_column, config.image_column)
        return ScenePairs(_STYLES, "train", self.decoder.image_size, config.curriculum, config.one_object)


def _most_objects(config: DediffusionTraining, last_index: int) -> int:
    """How many objects the scenes show at most when training ends, which validation shows too."""
    if config.one_object >= 1:
        return 1
    return min([most for most, until in config.curriculum.items() if last_index < until], default=MAX_OBJECTS)


def new_encoder(config: DediffusionTraining, clip: Clip, decoder: FrozenDecoder) -> Dediffusion:
    """An encoder with fresh weights, a function of the seed alone, over the words of the decoder's tokenizer.

    For continuous embeddings its head writes into the space of the token embeddings, at first near their mean.
    """
    embeddings = token_embedding(decoder.text_encoder).weight.detach()  # (total, D)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(LoopConfig(**config.loop).seed)
        backbone = _forgetful(clip) if config.random_backbone else clip
        settings = dict(config.encoder)
        if config.caption_styles:
            settings["words"] = caption_words(config.caption_styles)
        encoder = Dediffusion.new(DediffusionConfig(**settings), backbone, decoder.tokenizer, embeddings)
        if config.continuous:
            head = nn.Linear(encoder.config.width, embeddings.shape[1])
            nn.init.normal_(head.weight, std=float(embeddings.std()) * encoder.config.width**-0.5)
            head.bias.data = embeddings[encoder.vocabulary.ids].mean(0)
            encoder.model.head = head
    return encoder


def load_start(
    folder: str,
    clip: Clip,
    decoder: FrozenDecoder,
    caption_styles: Sequence[str] = (),
    min_probability: float | None = None,
) -> Dediffusion:
    """A trained encoder to go on with, in fp32. caption_styles: held to those of its words that such captions have.
    min_probability: in place of its own.

    Raises `InputError` where its words are not those of the decoder.
    """
    encoder = Dediffusion.from_pretrained(folder, backbone=clip)
    kept = encoder.config.vocabulary(decoder.tokenizer)
    if not torch.equal(kept.ids, encoder.vocabulary.ids) or kept.words != encoder.vocabulary.words:
        raise InputError(f"the encoder in {folder} was trained for the words of another text encoder; start anew")
    if min_probability is not None:
        encoder.model.config = replace(encoder.config, min_probability=min_probability)
    return held_to(caption_words(caption_styles), encoder, decoder) if caption_styles else encoder


def held_to(words: Sequence[str], encoder: Dediffusion, decoder: FrozenDecoder) -> Dediffusion:
    """The encoder, which can write none but these of its words any more."""
    config = replace(encoder.config, words=sorted(set(words).intersection(encoder.vocabulary.words)))
    held = Dediffusion.new(config, encoder.clip, decoder.tokenizer, token_embedding(decoder.text_encoder).weight)
    rows = torch.isin(encoder.vocabulary.ids, held.vocabulary.ids)  # both are in ascending order
    by_word = ("head.embeddings", "head.weight", "head.bias")  # the first of a tied head, the others of a linear one
    state = encoder.model.state_dict()
    held.model.load_state_dict({name: value[rows] if name in by_word else value for name, value in state.items()})
    return held


def _forgetful(clip: Clip) -> Clip:
    """A copy whose image tower has random weights."""
    copy = deepcopy(clip)
    fresh: Any = build_model(clip.model_cfg, asdict(preprocess_of(clip.model)))
    copy.model.visual = fresh.visual.eval()
    return copy


def train_dediffusion(
    config: DediffusionTraining,
    out: Path,
    *,
    cache: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> TrainResult:
    """Run the recipe in `out`. Once all steps are done the encoder is in `out/model` (fp16), with its training.json.

    cache: folder for the latents of scenes, "latents" beside `out` unless given, which all runs may share.
    """
    commit = current_commit()
    recipe = DediffusionRecipe(config, cache or out.parent / "latents")
    result = train(recipe, LoopConfig(**config.loop), out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        (out / "model").mkdir(exist_ok=True)
        if not config.continuous:
            recipe.encoder.save_pretrained(out / "model", dtype=torch.float16)
        write_training_record(out / "model", "dediffusion", asdict(config), commit, result)
    return result
