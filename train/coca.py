"""Contrastive and captioning training of an open_clip CoCa (Yu et al. 2022, arXiv 2205.01917).

Every sample trains the contrastive loss, over the whole batch of all parts and processes. Beside it a linear classifier
may tell a caption's words from either embedding (SuperClass; Huang et al. 2024, arXiv 2411.03313), so that the
embeddings hold all of them; it is dropped afterwards. Where a source names styles, the captioning loss may be trained
on some of them alone, so that the captioner has one voice while the text tower meets every wording.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from open_clip.transform import AugmentationCfg, image_transform_v2
from pydantic import Field
from torch import Tensor, nn

from ..encoders.clip.clip import Clip
from ..encoders.clip.open_clip_files import preprocess_of
from ..encoders.coca.captioner import CocaCaptioner
from ..errors import InputError
from ..plugins import load, registered
from .caption_tokenizer import learn_tokenizer
from .data.base import Data, DataSource, Sample
from .engine.attention import attention_for_training
from .engine.distributed import gather_with_grad, sum_over_processes
from .engine.randomness import sample_rng, sample_seed
from .engine.recipe import Count, LoopConfig, NonNegative, Recipe
from .engine.settings import settings
from .evaluators import retrieval_figures, text_figures

MAX_LOG_SCALE = math.log(100)
_CROP, _CAPTIONED = 1, 2  # streams of random numbers
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
    captioned: Sequence[str] = ()  # styles that train the captioner; () for all, as of a source without styles
    captioned_share: Annotated[float, Field(ge=0, le=1)] = 1.0  # of those samples
    position_std: float | None = None  # of the image tower's first position embeddings; None: open_clip's own
    caption_weight: NonNegative = 2.0
    contrastive_weight: NonNegative = 1.0
    word_weight: NonNegative = 0.0  # of the word classifier's loss; 0 leaves it out
    validation_images: Count = 256

    def __post_init__(self) -> None:
        if (self.model is None) == (self.start is None):
            got = "neither" if self.model is None else "both"
            raise InputError(f"got {got} of model and start; expected one: a new model, or a trained one to go on from")


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
        captioned text: l <= L - 1.
        """
        coca: Any = self.coca
        image_latent, image_tokens = coca._encode_image(pixels)
        text_latent, text_tokens = coca._encode_text(text)
        length = int(text[captioned].ne(coca.pad_id).sum(1).max()) if len(captioned) else 1
        logits = coca.text_decoder(image_tokens[captioned], text_tokens[captioned, : length - 1])
        words = None
        if self.words is not None:
            both = torch.stack([image_latent, text_latent]) * image_latent.shape[1] ** 0.5  # values of about unit size
            words = self.words(both)
        return image_latent, text_latent, logits, coca.logit_scale.exp(), words


class CocaRecipe(Recipe):
    """Images and captions -> an open_clip CoCa."""

    name = "coca"
    config_class = CocaConfig
    source: DataSource

    def __init__(self, config: CocaConfig, cache: Path) -> None:
        self.config = config
        self.source = config.data.open()
        self.clip = (
            Clip.from_pretrained(config.start)
            if config.start is not None
            else new_clip(
                config.model or {}, config.loop.seed, config.position_std, config.tokenizer, self.source.captions
            )
        )
        if not self.clip.is_coca:
            raise InputError(f"{self.clip.name} is no CoCa; expected a model_cfg with multimodal_cfg")
        self.source.image_size = self.clip.image_size[0]
        self.model: nn.Module = CocaObjective(self.clip.model, self._new_classifier())
        self.pad_id: int = self.clip.model.pad_id
        self._special_ids = [id_ for id_ in (self.clip.bos_id, self.clip.eos_id, self.pad_id) if id_ is not None]

    def _new_classifier(self) -> nn.Module | None:
        if not self.config.word_weight:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.loop.seed)
            return nn.Linear(self.clip.embed_dim, self.clip.model_cfg["text_cfg"]["vocab_size"])

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) float32, randomly cropped where the source says so; text (B, L) ids; captioned (C,) row
        numbers."""
        samples = self.source.samples(indices, seed)
        chosen = [self._is_captioned(sample, index, seed) for sample, index in zip(samples, indices, strict=True)]
        return {
            "pixels": self._pixels(samples, indices, seed),
            "text": self.clip.tokenize([sample.text for sample in samples]),
            "captioned": torch.tensor(chosen).nonzero().flatten(),
        }

    def _is_captioned(self, sample: Sample, index: int, seed: int) -> bool:
        wanted = not self.config.captioned or not sample.style or sample.style in self.config.captioned
        share = self.config.captioned_share
        return wanted and (share == 1 or sample_rng(seed, index, _CAPTIONED).random() < share)

    def _pixels(self, samples: Sequence[Sample], indices: Sequence[int], seed: int) -> Tensor:
        images = [sample.image for sample in samples if sample.image is not None]
        if self.source.crop_scale is None:
            return self.clip.pixels(images, device="cpu")  # a forked worker may use no GPU
        rows = []
        with torch.random.fork_rng(devices=[]):
            for image, index in zip(images, indices, strict=True):
                torch.manual_seed(sample_seed(seed, index, _CROP))
                rows.append(self._train_transform(image))
        return torch.stack(rows)

    @cached_property
    def _train_transform(self) -> Any:
        """open_clip's own, whose crops are drawn from torch's global generator."""
        augmentation = AugmentationCfg(scale=self.source.crop_scale)
        return image_transform_v2(preprocess_of(self.clip.model), is_train=True, aug_cfg=augmentation)

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
        per_token = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(weight)
        others = [[one.float() for one in column] for column in zip(*features, strict=True)] or [[image], [text]]
        others[0][part], others[1][part] = image.float(), text.float()
        number = max(1, len(features))  # each part sees the whole loss: its own rows must count in full, the scale once
        images, texts = (gather_with_grad(torch.cat(column)) for column in others)  # of all parts and processes
        contrastive = contrastive_loss(images, texts, _scale_gradient(scale, 1 / number))
        losses = {
            "contrastive": _scale_gradient(contrastive, number),
            "caption": (per_token * weight).sum() / tokens,
        }
        if word_logits is not None and rarity is not None:
            losses["word"] = words_loss(word_logits, batch["text"], rarity, self._special_ids)
        total = sum(getattr(self.config, f"{name}_weight") * loss for name, loss in losses.items())
        right = (logits.argmax(-1).eq(labels) * weight).sum() / tokens
        return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}, "token_accuracy": right}

    @torch.no_grad()
    def after_step(self) -> None:
        """In place: a clamp in the forward pass has no gradient above the cap, so the scale could not come back."""
        self.clip.model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out samples: the losses, recall at 1, 5 and 10 both ways (all captions), and scores of the captions
        that the model writes."""
        samples = self.source.held_out(self.config.validation_images)
        if not samples:
            return {}
        captioner = CocaCaptioner(self.clip)
        parts, written = [], []
        for first in range(0, len(samples), _BATCH):
            part = samples[first : first + _BATCH]
            pixels = self.clip.pixels([sample.image for sample in part if sample.image is not None])
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
        return figures | retrieval_figures(image, every, samples) | text_figures(self.source, written, samples)

    def _caption_figures(self, text: Tensor, logits: Tensor) -> Tensor:
        """Texts (B, L) and logits (B, l, V) -> (3,): sums of cross-entropy and right tokens, and their number."""
        labels = text[:, 1 : logits.shape[1] + 1]
        kept = labels.ne(self.pad_id)
        loss = F.cross_entropy(logits[kept].float(), labels[kept], reduction="sum")
        return torch.stack([loss, logits.argmax(-1).eq(labels)[kept].sum(), kept.sum()])

    def save(self, folder: Path) -> None:
        """An open_clip folder, in bf16."""
        self.clip.save_pretrained(folder, dtype=torch.bfloat16)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy; image, text (B, D) L2-normalised."""
    logits = scale * image @ text.T  # (B, B)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The same value, with `factor` times its gradient."""
    return value if factor == 1 else value * factor - (value * (factor - 1)).detach()


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
) -> Clip:
    """A CoCa with fresh weights, a function of the seed alone.

    tokenizer: as of `CocaConfig`. captions: to learn one from.
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
        clip = Clip.from_config(model, tokenizer_folder=folder if learnt else tokenizer)
        if position_std is not None:
            nn.init.normal_(clip.model.visual.positional_embedding, std=position_std)
    return clip
