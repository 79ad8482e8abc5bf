"""Contrastive and captioning training of an open_clip CoCa (Yu et al. 2022, arXiv 2205.01917).

Every sample trains the contrastive loss, over the whole batch of all parts and processes. Beside it a linear classifier
may tell a caption's words from either embedding (SuperClass; Huang et al. 2024, arXiv 2411.03313), so that the
embeddings hold all of them; it is dropped afterwards. Where a source names styles, the captioning loss may be trained
on some of them alone, so that the captioner has one voice while the text tower meets every wording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ..encoders.clip.clip import Clip, put_part
from ..encoders.clip.open_clip_files import build_model, preprocess_of
from ..encoders.clip.timm_tokens import TimmTokens
from ..encoders.coca.captioner import CocaCaptioner
from ..errors import InputError
from ..plugins import load, registered
from .augmented import augmented_pixels
from .caption_tokenizer import learn_tokenizer
from .contrastive import MAX_LOG_SCALE, batch_contrastive_loss, contrastive_loss
from .data.base import Data, DataSource, Sample
from .data.pixels import image_of
from .engine.attention import attention_for_training
from .engine.distributed import sum_over_processes
from .engine.randomness import sample_integers, sample_rng
from .engine.recipe import Count, LoopConfig, NonNegative, Recipe, Share
from .engine.settings import settings
from .engine.sharding import gather_blocks
from .evaluators import retrieval_figures, text_figures
from .frozen_features import ImageFeatures
from .locked_towers import grid_features

_CAPTIONED, _VIEW = 2, 3  # streams of random numbers
_BATCH = 64  # of evaluation


@settings
class CocaConfig:
    """Settings of the recipe: a new `model`, or a trained one to `start` from."""

    loop: LoopConfig
    data: Data  # image-text pairs
    model: Mapping[str, Any] | str | None = None  # open_clip's `model_cfg`, or its name, such as "coca_ViT-B-32"
    # of a new model with `text_cfg.hf_tokenizer_name`: folder of a transformers tokenizer, or a plug-in's name for one;
    # None learns one from the source's captions where that name is "local"
    tokenizer: str | None = None
    start: str | None = None  # folder of a trained model, or open_clip's "model/tag"
    context_length: Count | None = None  # tokens of a text, where a trained model is to read and write longer ones
    # folder of a trained CLIP with a timm image tower, which a new model of the same tower shares, frozen
    image_tower: str | None = None
    views: Count = 1  # of an image by that tower, augmented but for the first; their features are kept on disk
    captioned: Sequence[str] = ()  # styles that train the captioner; () for all, as of a source without styles
    captioned_share: Annotated[float, Field(ge=0, le=1)] = 1.0  # of those samples
    position_std: float | None = None  # of the image tower's first position embeddings; None: open_clip's own
    caption_weight: NonNegative = 2.0
    contrastive_weight: NonNegative = 1.0
    word_weight: NonNegative = 0.0  # of the word classifier's loss; 0 leaves it out
    label_smoothing: Share = 0.0  # of the captioning loss
    dropout: Share = 0.0  # of what each block of the text tower and of the decoder adds, which open_clip has not
    validation_images: Count = 256

    def __post_init__(self) -> None:
        if self.start is not None and self.image_tower is not None:
            raise InputError("got start and image_tower; expected image_tower for a new model alone")
        if (self.model is None) == (self.start is None):
            got = "neither" if self.model is None else "both"
            raise InputError(f"got {got} of model and start; expected one: a new model, or a trained one to go on from")
        if self.model is not None and self.context_length is not None:
            raise InputError("got model and context_length; expected that of a new model in its text_cfg")


class CocaObjective(nn.Module):
    """The model as training needs it: both embeddings of all rows, caption logits of the captioned rows alone.

    words: a classifier of (.., D) embeddings over the V token ids, or None.
    """

    def __init__(self, coca: nn.Module, words: nn.Module | None = None) -> None:
        super().__init__()
        self.coca, self.words = coca, words

    def forward(
        self, pixels: Tensor, text: Tensor, captioned: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """pixels (B, 3, H, W), text (B, L), captioned (C,) row numbers -> image (B, D), text (B, D), logits (C, l, V),
        scale (), word logits (2, B, V) of images and texts or None. The caption logits reach as far as the longest
        captioned text: l <= L - 1. Text may have several rows for each image, side by side, where there is no word
        classifier.
        """
        coca: Any = self.coca
        image_latent, image_tokens = coca._encode_image(pixels)
        text_latent, text_tokens = coca._encode_text(text)
        length = int(text[captioned].ne(coca.pad_id).sum(1).max()) if len(captioned) else 1
        images = captioned // (len(text) // len(pixels))
        logits = coca.text_decoder(image_tokens[images], text_tokens[captioned, : length - 1])
        words = None
        if self.words is not None:
            both = torch.stack([image_latent, text_latent]) * image_latent.shape[1] ** 0.5  # values of about unit size
            words = self.words(both)
        return image_latent, text_latent, logits, coca.logit_scale.exp(), words


class CocaRecipe(Recipe):
    """Images and captions -> an open_clip CoCa."""

    name = "coca"
    config_class: type[Any] = CocaConfig
    source: DataSource

    def __init__(self, config: CocaConfig, cache: Path) -> None:
        self.config = self._settings = config
        self.source = config.data.open()
        tower = Clip.from_pretrained(config.image_tower) if config.image_tower is not None else None
        self.clip = (
            with_context(Clip.from_pretrained(config.start), config.context_length)
            if config.start is not None
            else new_clip(
                config.model or {},
                config.loop.seed,
                config.position_std,
                config.tokenizer,
                self.source.captions,
                asdict(preprocess_of(tower.model)) if tower else None,
            )
        )
        if not self.clip.is_coca:
            raise InputError(f"{self.clip.name} is no CoCa; expected a model_cfg with multimodal_cfg")
        self.source.image_size = self.clip.image_size[0]
        self._features = self._share_tower(tower, cache / "features") if tower else None
        add_dropout(self.clip.model, config.dropout)
        self.model: nn.Module = CocaObjective(self.clip.model, self._new_classifier())
        self.pad_id: int = self.clip.model.pad_id
        self._special_ids = [id_ for id_ in (self.clip.bos_id, self.clip.eos_id, self.pad_id) if id_ is not None]

    def _share_tower(self, other: Clip, folder: Path) -> ImageFeatures:
        """Take the frozen tower of another CLIP, and compute its features of every image."""
        tower: Any = self.clip.model.visual
        if not isinstance(tower, TimmTokens):
            raise InputError("image_tower is given, but vision_cfg is none of timm; expected its timm_model_name")
        for place in ("visual.trunk", "visual.head"):
            put_part(self.clip.model, place, other)
            self.clip.model.get_submodule(place).requires_grad_(False)
            self.clip.weights_from[place] = str(Path(other.name).resolve())
        return self._tower_features(folder)

    def _tower_features(self, folder: Path) -> ImageFeatures:
        """Of the frozen trunk of a timm tower, of every image."""
        tower: Any = self.clip.model.visual
        frozen = grid_features(tower.trunk, tower.grid)
        return ImageFeatures(self.source, self.clip, frozen, self._settings.views, folder)

    def _new_classifier(self) -> nn.Module | None:
        if not self._settings.word_weight:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._settings.loop.seed)
            return nn.Linear(self.clip.embed_dim, self.clip.model_cfg["text_cfg"]["vocab_size"])

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) float32, randomly cropped where the source says so, or a shared tower's features; text
        (B, L) ids; captioned (C,) row numbers."""
        samples = self.source.samples(indices, seed, image=self._features is None)
        chosen = [self._is_captioned(sample, index, seed) for sample, index in zip(samples, indices, strict=True)]
        return {
            "pixels": self._pixels(samples, indices, seed),
            "text": self.clip.tokenize([sample.text for sample in samples]),
            "captioned": torch.tensor(chosen).nonzero().flatten(),
        }

    def _pixels(self, samples: Sequence[Sample], indices: Sequence[int], seed: int) -> Tensor:
        if self._features is None:
            return augmented_pixels(self.clip, self.source, samples, indices, seed)
        views = sample_integers(self._settings.views, seed, indices, stream=_VIEW)
        return self._features([sample.row for sample in samples], views.tolist())

    def _is_captioned(self, sample: Sample, index: int, seed: int) -> bool:
        settings = self._settings
        wanted = not settings.captioned or not sample.style or sample.style in settings.captioned
        share = settings.captioned_share
        return wanted and (share == 1 or sample_rng(seed, index, _CAPTIONED).random() < share)

    @torch.no_grad()
    def share(self, model: nn.Module, parts: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Any]]:
        """Caption tokens and word counts of the whole batch; and, with several parts, the features of all of them (as
        open_clip's --accum-freq)."""
        device, ids = self.clip.device, torch.cat([part["text"] for part in parts])
        labels = torch.cat([part["text"][part["captioned"], 1:] for part in parts])
        tokens = sum_over_processes(labels.ne(self.pad_id).sum().float().to(device), mean=True) / len(parts)
        shared: dict[str, Any] = {"tokens": tokens.clamp(min=1.0)}
        if isinstance(self.model, CocaObjective) and self.model.words is not None:
            counts = words_in(ids, self.model.words.out_features, self._special_ids).sum(0).to(device)  # type: ignore[arg-type]
            rows = torch.tensor(float(len(ids)), device=device)
            shared["rarity"] = (1 + sum_over_processes(rows) / sum_over_processes(counts).clamp(min=1.0)).log()
        if len(parts) == 1:
            return [shared]
        coca = self.clip.model
        encoders = (("pixels", coca._encode_image), ("text", coca._encode_text))
        features = [tuple(encode(part[name].to(device))[0] for name, encode in encoders) for part in parts]
        return [{**shared, "features": features, "part": part} for part in range(len(parts))]

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The weighted sum, each loss, and the share of caption tokens that are predicted right."""
        with attention_for_training(batch["pixels"].device):
            outputs = model(batch["pixels"], batch["text"], batch["captioned"])
        return self._losses(batch, *outputs, **shared)

    def _losses(
        self,
        batch: dict[str, Tensor],
        image: Tensor,
        text: Tensor,
        logits: Tensor,
        scale: Tensor,
        word_logits: Tensor | None,
        *,
        tokens: Tensor,
        rarity: Tensor | None = None,
        features: Sequence[tuple[Tensor, Tensor]] = (),
        part: int = 0,
    ) -> dict[str, Tensor]:
        """Losses of one part of a batch, from the outputs of `CocaObjective` and what `share` says of the whole."""
        labels = batch["text"][batch["captioned"], 1 : logits.shape[1] + 1]
        weight = labels.ne(self.pad_id).float()
        smoothing = self._settings.label_smoothing
        per_token = F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
        ).view_as(weight)
        losses = {
            "contrastive": batch_contrastive_loss(image, text, scale, features, part),
            "caption": (per_token * weight).sum() / tokens,
        }
        if word_logits is not None and rarity is not None:
            losses["word"] = words_loss(word_logits, batch["text"], rarity, self._special_ids)
        total = sum(getattr(self._settings, f"{name}_weight") * loss for name, loss in losses.items())
        right = (logits.argmax(-1).eq(labels) * weight).sum() / tokens
        return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}, "token_accuracy": right}

    @torch.no_grad()
    def after_step(self) -> None:
        """In place: a clamp in the forward pass has no gradient above the cap, so the scale could not come back."""
        self.clip.model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out samples: the losses, recall at 1, 5 and 10 both ways (all captions), and scores of the captions
        that the model writes."""
        samples = self.source.held_out(self._settings.validation_images)
        if not samples:
            return {}
        captioner = CocaCaptioner(self.clip)
        gather_blocks(self.clip.model.text, self.clip.model.text_decoder)
        parts, written = [], []
        for first in range(0, len(samples), _BATCH):
            part = samples[first : first + _BATCH]
            pixels = self.clip.pixels([image_of(sample) for sample in part])
            text = self.clip.tokenize([sample.text for sample in part]).to(self.clip.device)
            outputs = model(pixels, text, torch.arange(len(part), device=pixels.device))
            parts.append((outputs[0], outputs[1], self._caption_figures(text, outputs[2])))
            written += [description.text for description in captioner.describe_pixels(pixels)]
        image, text = (torch.cat([part[side] for part in parts]).float() for side in (0, 1))
        sums = torch.stack([part[2] for part in parts]).sum(0)  # loss, right tokens, tokens
        figures = {
            "contrastive": float(contrastive_loss(image, text, self.clip.model.logit_scale.detach().exp())),
            "caption": float(sums[0] / sums[2]),
            "token_accuracy": float(sums[1] / sums[2]),
        }
        every = self.clip.embed_texts([text for sample in samples for text in sample.texts])
        return figures | retrieval_figures(image, every, samples) | self._text_figures(written, samples)

    def _text_figures(self, written: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
        return text_figures(self.source, written, samples)

    def _caption_figures(self, text: Tensor, logits: Tensor) -> Tensor:
        """Texts (B, L) and logits (B, l, V) -> (3,): sums of cross-entropy and right tokens, and their number."""
        labels = text[:, 1 : logits.shape[1] + 1]
        kept = labels.ne(self.pad_id)
        loss = F.cross_entropy(logits[kept].float(), labels[kept], reduction="sum")
        return torch.stack([loss, logits.argmax(-1).eq(labels)[kept].sum(), kept.sum()])

    def save(self, folder: Path) -> None:
        """An open_clip folder, in bf16."""
        self.clip.save_pretrained(folder, dtype=torch.bfloat16)


def with_context(clip: Clip, length: int | None) -> Clip:
    """The same CoCa with texts of up to `length` tokens; the positions that it did not have begin as its last one."""
    if length is None or length == clip.context_length:
        return clip
    if length < clip.context_length or clip.model_cfg["text_cfg"].get("embed_cls"):
        raise InputError(
            f"context_length is {length}, but {clip.name} was trained with {clip.context_length}"
            f"{' and a class token behind them' if length > clip.context_length else ''}; leave it out"
        )
    longer = {name: {**clip.model_cfg[name], "context_length": length} for name in ("text_cfg", "multimodal_cfg")}
    config = clip.model_cfg | longer
    model = build_model(config, asdict(preprocess_of(clip.model)))
    weights = clip.model.state_dict()
    known = weights["text.positional_embedding"]  # (L, W)
    more = known[-1:].expand(length - len(known), -1)
    model.load_state_dict(weights | {"text.positional_embedding": torch.cat([known, more])})
    tokenizer = copy(clip.tokenizer)
    tokenizer.context_length = length
    return Clip(model, tokenizer, config, name=clip.name, weights_from=clip.weights_from)


def add_dropout(coca: Any, share: float) -> None:
    """Drop out a share of what each attention and each MLP of the text blocks adds, in training."""
    blocks = [*coca.text.transformer.resblocks, *coca.text_decoder.resblocks, *coca.text_decoder.cross_attn]
    for block in blocks if share else ():
        for name in ("ls_1", "ls_2"):
            if isinstance(getattr(block, name), nn.Identity):  # layer scale, which few models have, keeps its place
                setattr(block, name, nn.Dropout(share))


def words_in(ids: Tensor, vocabulary: int, left_out: Sequence[int]) -> Tensor:
    """ids (B, L) -> (B, V): 1 for each word of a text. left_out: special ids."""
    present = torch.zeros(len(ids), vocabulary, device=ids.device).scatter_(1, ids, 1.0)
    present[:, list(left_out)] = 0.0
    return present


def words_loss(logits: Tensor, ids: Tensor, rarity: Tensor, left_out: Sequence[int]) -> Tensor:
    """SuperClass's cross-entropy of word logits (..., B, V) with the words of texts, ids (B, L), rare words counting
    most: rarity (V,), the logarithm of their inverse frequency in the batch. left_out: special ids.
    """
    weights = words_in(ids, logits.shape[-1], left_out) * rarity
    shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    return -(shares * logits.float().log_softmax(-1)).sum(-1).mean()


def new_clip(
    model: Mapping[str, Any] | str,
    seed: int,
    position_std: float | None = None,
    tokenizer: str | None = None,
    captions: Callable[[], Iterable[str]] = tuple,
    preprocess: Mapping[str, Any] | None = None,
) -> Clip:
    """A CoCa with fresh weights, a function of the seed alone.

    tokenizer: as of `CocaConfig`. captions: to learn one from. preprocess: open_clip's `preprocess_cfg`.
    """
    text: Mapping[str, Any] = {} if isinstance(model, str) else model["text_cfg"]
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        builder = registered("TOKENIZERS").get(tokenizer or "")
        sizes = text.get("vocab_size", 49408), text.get("context_length", 77)
        if builder is not None:
            load(builder)(*sizes).save_pretrained(folder)
        elif tokenizer is None and text.get("hf_tokenizer_name") == "local":
            learn_tokenizer(captions(), *sizes).save_pretrained(folder)
        learnt = any(Path(folder).iterdir())
        torch.manual_seed(seed)
        clip = Clip.from_config(model, tokenizer_folder=folder if learnt else tokenizer, preprocess=preprocess)
        if position_std is not None:
            nn.init.normal_(clip.model.visual.positional_embedding, std=position_std)
    return clip
