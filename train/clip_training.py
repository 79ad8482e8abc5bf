"""Contrastive training of an open_clip CLIP, with towers that may be locked (LiT; Zhai et al. 2022, arXiv 2111.07991).

    image -> tower, locked but for its head ─┐
                                             ├─> symmetric cross-entropy of the batch
    caption -> tower, locked but for its head┘

What a locked tower gives is computed once: of every image in several augmented views, of every caption. Training then
costs no more than the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.clip.clip import Clip
from ..encoders.clip.parts import LazyTransformer, load_transformer
from ..errors import InputError
from .augmented import augmented_pixels
from .contrastive import MAX_LOG_SCALE, batch_contrastive_loss, contrastive_loss
from .data.base import Data, DataSource, Sample
from .engine.attention import attention_for_training
from .engine.randomness import sample_integers, sample_rng
from .engine.recipe import Count, LoopConfig, Recipe, Share
from .engine.settings import settings
from .evaluators import image_embeddings, retrieval_figures
from .frozen_features import ImageFeatures, TextFeatures
from .locked_towers import image_tower, text_tower
from .trunk_weights import fill_trunk

_VIEW, _MIX = 1, 2  # streams of random numbers
TEXT_TRANSFORMER = "text.transformer"


@settings
class ClipConfig:
    """Settings of the recipe: a new `model`, or a trained one to `start` from."""

    loop: LoopConfig
    data: Data  # image-text pairs
    model: Mapping[str, Any] | str | None = None  # open_clip's `model_cfg`, or its name, such as "ViT-B-32"
    preprocess: Mapping[str, Any] | None = None  # of a new model: open_clip's `preprocess_cfg`
    start: str | None = None  # folder of a trained model, or open_clip's "model/tag"
    trunk: str | None = None  # file with the weights of a timm image tower's trunk, see `trunk_weights.fill_trunk`
    lock_image: bool = True  # of a timm tower all but its head, of any other the whole tower
    lock_text: bool = True  # of a tower of transformers all but its projection, of any other the whole tower
    views: Count = 8  # of an image by a locked tower, augmented but for the first; kept on disk
    caption_mix: Share = 0.0  # greatest share of another caption of the image, mixed into a locked tower's features
    dropout: Share = 0.0  # of a locked text tower's features
    validation_images: Count = 1000

    def __post_init__(self) -> None:
        if (self.model is None) == (self.start is None):
            got = "neither" if self.model is None else "both"
            raise InputError(f"got {got} of model and start; expected one: a new model, or a trained one to go on from")


class ClipObjective(nn.Module):
    """Embeddings (B, D), L2-normalised, of images and texts: of features where a tower is locked, else of what the
    tower reads."""

    def __init__(
        self, clip: nn.Module, image_head: nn.Module | None, text_head: nn.Module | None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.clip, self.dropout = clip, nn.Dropout(dropout)
        self._heads = (image_head, text_head)  # a tuple: they are sub-modules of the CLIP already

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> image (B, D), text (B, D), scale ()."""
        clip: Any = self.clip
        image_head, text_head = self._heads
        images = image_head(image) if image_head is not None else clip.encode_image(image)
        texts = text_head(self.dropout(text)) if text_head is not None else clip.encode_text(text)
        return F.normalize(images, dim=-1), F.normalize(texts, dim=-1), clip.logit_scale.exp()


class ClipRecipe(Recipe):
    """The recipe "clip". Features of locked towers are kept in `cache`."""

    name = "clip"
    config_class = ClipConfig
    source: DataSource

    def __init__(self, config: ClipConfig, cache: Path) -> None:
        self.config = config
        self.source = config.data.open()
        self.clip = self._new_clip() if config.start is None else Clip.from_pretrained(config.start)
        if self.clip.is_coca:
            raise InputError(f"{self.clip.name} is a CoCa; expected a CLIP: train it by the recipe coca")
        if not config.lock_text and TEXT_TRANSFORMER in self.clip.weights_from:
            name = self.clip.weights_from.pop(TEXT_TRANSFORMER)
            self.clip.model.text.transformer = load_transformer(name).requires_grad_(True)
        self.clip.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.source.image_size = self.clip.image_size[0]
        self._lock(cache / "features")
        if config.start is None:
            self._standardise()
        self.model: nn.Module = ClipObjective(self.clip.model, self._image_head, self._text_head, config.dropout)
        if not any(
            one.requires_grad for name, one in self.model.named_parameters() if not name.endswith("logit_scale")
        ):
            raise InputError(
                f"nothing of {self.clip.name} is left to train: both towers are locked, and neither has a head of its "
                "own; set lock_image or lock_text to false"
            )

    def _new_clip(self) -> Clip:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            clip = Clip.from_config(config.model or {}, preprocess=config.preprocess)
        if isinstance(getattr(clip.model, "text", None), HFTextEncoder):
            name = clip.model_cfg["text_cfg"]["hf_model_name"]
            clip.weights_from[TEXT_TRANSFORMER] = name
            clip.model.text.transformer = LazyTransformer(name)
        if config.trunk is not None:
            if not isinstance(clip.model.visual, TimmModel):
                raise InputError("trunk is given, but the image tower is none of timm; expected timm_model_name")
            fill_trunk(clip.model.visual.trunk, config.trunk)
        return clip

    def _lock(self, folder: Path) -> None:
        """Freeze what is locked, and compute what it gives for every image and caption."""
        config, clip = self.config, self.clip
        self._images: ImageFeatures | None = None
        self._texts: TextFeatures | None = None
        self._image_head: nn.Module | None = None  # what is trained of a locked tower
        self._text_head: nn.Module | None = None
        if config.lock_image:
            tower = image_tower(clip.model)
            tower.frozen.part.half().float()  # as it is saved, so that captioners on this tower find its features
            self._image_head = tower.head
            self._images = ImageFeatures(self.source, clip, tower.frozen, config.views, folder)
        if config.lock_text:
            tower = text_tower(clip.model)
            self._text_head = tower.head
            texts = [*self.source.captions(), *(text for one in self._held_out() for text in one.texts)]
            self._texts = TextFeatures(texts, clip, tower.frozen, folder)

    def _standardise(self) -> None:
        """Let a new image head begin as if its inputs had mean 0 and variance 1, for a frozen tower's features have
        not."""
        if self._images is None or self._image_head is None:
            return
        first = next((one for one in self._image_head.modules() if isinstance(one, nn.Linear)), None)
        if first is None:
            return
        size = self.source.size or 0
        rows = range(0, size, max(1, size // 4096))
        features = self._images(rows)
        std, mean = torch.std_mean(features.flatten(0, -2), dim=0)
        with torch.no_grad():
            first.weight.div_(std + 0.05 * std.mean())
            if first.bias is not None:
                first.bias.sub_(first.weight @ mean)

    def _held_out(self) -> list[Sample]:
        return self.source.held_out(self.config.validation_images)

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """image: features of a view, or pixels (B, 3, H, W); text: features, or ids (B, L)."""
        samples = self.source.samples(indices, seed, image=self._images is None)
        if self._images is not None:
            views = sample_integers(self.config.views, seed, indices, stream=_VIEW)
            image = self._images([sample.row for sample in samples], views.tolist())
        else:
            image = augmented_pixels(self.clip, self.source, samples, indices, seed)
        if self._texts is None:
            return {"image": image, "text": self.clip.tokenize([sample.text for sample in samples])}
        text = self._texts([sample.text for sample in samples])
        if self.config.caption_mix:
            rngs = [sample_rng(seed, index, _MIX) for index in indices]
            others = self._texts([rng.choice(sample.texts) for rng, sample in zip(rngs, samples, strict=True)])
            share = torch.tensor([[rng.uniform(0, self.config.caption_mix)] for rng in rngs])
            text = text.lerp(others, share)
        return {"image": image, "text": text}

    @torch.no_grad()
    def share(self, model: nn.Module, parts: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Any]]:
        """With several parts, the features of all of them (as open_clip's --accum-freq)."""
        if len(parts) == 1:
            return [{}]
        device = self.clip.device
        features = [self.model(part["image"].to(device), part["text"].to(device))[:2] for part in parts]
        return [{"features": features, "part": part} for part in range(len(parts))]

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The symmetric cross-entropy of the whole batch, and the scale of its logits."""
        with attention_for_training(batch["image"].device):
            image, text, scale = model(batch["image"], batch["text"])
        return {"loss": batch_contrastive_loss(image, text, scale, **shared), "scale": scale.detach()}

    @torch.no_grad()
    def after_step(self) -> None:
        """In place: a clamp in the forward pass has no gradient above the cap, so the scale could not come back."""
        self.clip.model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out samples: the loss, and recall at 1, 5 and 10 both ways (all captions)."""
        samples = self._held_out()
        if not samples:
            return {}
        images = image_embeddings(self.clip, samples)
        every = [text for sample in samples for text in sample.texts]
        texts = self._embed_texts(every)
        firsts = [0, *accumulate(len(sample.texts) for sample in samples)][:-1]
        loss = contrastive_loss(images, texts[firsts], self.clip.model.logit_scale.detach().exp())
        return {"contrastive": float(loss), **retrieval_figures(images, texts, samples)}

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        if self._texts is None or self._text_head is None:
            return self.clip.embed_texts(texts)
        return F.normalize(self._text_head(self._texts(texts).to(self.clip.device)), dim=-1)

    def save(self, folder: Path) -> None:
        """An open_clip folder, in fp16; a locked text tower of transformers is named, not copied."""
        self.clip.save_pretrained(folder, dtype=torch.float16)
