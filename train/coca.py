"""Contrastive and captioning training of an open_clip CoCa (Yu et al. 2022, arXiv 2205.01917).

Every sample trains the contrastive loss. Beside it, where the settings say so, a linear classifier tells a caption's
words from either embedding (SuperClass; Huang et al. 2024, arXiv 2411.03313), so that the embeddings hold all of them;
the classifier is dropped afterwards. The captioning loss is trained on texts of the `captioned` styles alone, so
that the captioner has one voice, while the text tower meets every wording, loose words included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.clip.clip import Clip
from ..errors import InputError
from ..scenes.tokenizer import build_tokenizer
from .data.pairs import Pair, PairSource, ScenePairs, load_pairs
from .engine.attention import attention_for_training
from .engine.distributed import gather_with_grad
from .engine.loop import LoopConfig, TrainResult, train
from .engine.settings import current_commit, write_training_record


@dataclass(frozen=True)
class CocaConfig:
    """Settings of the recipe.

    model: open_clip's `model_cfg`, or the name of one ("coca_ViT-B-32"). With `hf_tokenizer_name: local` in its
    text_cfg the project's own tokenizer is built for it.
    start: instead of `model`, the folder of a trained one to go on from, for a second stage.
    source, image_column, text_column: "scenes", or image-text pairs as `pairs.load_pairs` reads them.
    styles: caption styles of scenes, each with its weight. curriculum, one_object, near_duplicates: as of
    `pairs.ScenePairs`.
    position_std: spread of the image tower's first position embeddings; None for open_clip's own, width^-0.5, beside
    which the flat areas of made scenes are so strong that places are learnt late.
    captioned: styles whose texts train the captioner; a source without styles trains it on all. captioned_share: most
    of a batch that does so, once the captioner is good enough for the time to be better spent.
    caption_weight, contrastive_weight, word_weight: of the three losses; 0 leaves the word classifier out.
    """

    loop: Mapping[str, Any]
    model: Mapping[str, Any] | str | None = None
    start: str | None = None
    source: str = "scenes"
    image_column: str = "image"
    text_column: str = "text"
    styles: Mapping[str, float] = field(default_factory=lambda: {"descriptive": 1.0})
    curriculum: Mapping[int, int] = field(default_factory=dict)
    one_object: float = 0.0
    near_duplicates: int = 1
    captioned: Sequence[str] = ("descriptive",)
    captioned_share: float = 1.0
    position_std: float | None = None
    caption_weight: float = 2.0
    contrastive_weight: float = 1.0
    word_weight: float = 0.0

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
        return image_latent, text_latent, logits, coca.logit_scale.exp().clamp(max=100.0), words


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy over the whole batch of all processes; image, text (B, D) L2-normalised."""
    logits = scale * gather_with_grad(image) @ gather_with_grad(text).T  # (B, B)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def words_loss(logits: Tensor, ids: Tensor, left_out: Sequence[int]) -> Tensor:
    """SuperClass's cross-entropy of word logits (..., B, V) with the words of texts, ids (B, L), rare words counting
    most: by the logarithm of their inverse frequency in the batch. left_out: ids that are no words.
    """
    present = torch.zeros(len(ids), logits.shape[-1], device=ids.device).scatter_(1, ids, 1.0)  # (B, V)
    present[:, list(left_out)] = 0.0
    weights = present * (1 + len(ids) / present.sum(0).clamp(min=1.0)).log()
    shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    return -(shares * logits.float().log_softmax(-1)).sum(-1).mean()


class CocaRecipe:
    """The recipe for `loop.train`."""

    def __init__(self, config: CocaConfig) -> None:
        self.config = config
        self.clip = _first_clip(config)
        self.model: nn.Module = CocaObjective(self.clip.model, self._new_classifier())
        self.pad_id: int = self.clip.model.pad_id
        self._special_ids = [id_ for id_ in (self.clip.bos_id, self.clip.eos_id, self.pad_id) if id_ is not None]
        self.source: PairSource = (
            ScenePairs(
                config.styles,
                size=self.clip.image_size[0],
                curriculum=config.curriculum,
                one_object=config.one_object,
                near_duplicates=config.near_duplicates,
            )
            if config.source == "scenes"
            else load_pairs(config.source, config.image_column, config.text_column)
        )

    def _new_classifier(self) -> nn.Module | None:
        if not self.config.word_weight:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(LoopConfig(**self.config.loop).seed)
            return nn.Linear(self.clip.embed_dim, self.clip.model_cfg["text_cfg"]["vocab_size"])

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) float32; text (B, L) ids; captioned (C,) row numbers."""
        return self._tensors([self.source.pair(index, seed) for index in indices])

    def _tensors(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        text = self.clip.tokenize([pair.text for pair in pairs])
        rows = [i for i, pair in enumerate(pairs) if not pair.style or pair.style in self.config.captioned]
        rows = rows[: round(self.config.captioned_share * len(pairs))]
        pixels = self.clip.pixels([pair.image for pair in pairs], device="cpu")  # a forked worker may use no GPU
        return {"pixels": pixels, "text": text, "captioned": torch.tensor(rows, dtype=torch.long)}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The weighted sum, both losses, and the share of caption tokens that are predicted right."""
        with attention_for_training(batch["pixels"].device):
            outputs = model(batch["pixels"], batch["text"], batch["captioned"])
        return self._losses(batch, *outputs)

    def _losses(
        self,
        batch: dict[str, Tensor],
        image: Tensor,
        text: Tensor,
        logits: Tensor,
        scale: Tensor,
        word_logits: Tensor | None,
    ) -> dict[str, Tensor]:
        """Of a batch and what `CocaObjective` makes of it."""
        labels = batch["text"][batch["captioned"], 1 : logits.shape[1] + 1]
        weight = labels.ne(self.pad_id).float()
        per_token = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(weight)
        tokens = weight.sum().clamp(min=1.0)
        losses = {
            "contrastive": contrastive_loss(image.float(), text.float(), scale),
            "caption": (per_token * weight).sum() / tokens,
        }
        if word_logits is not None:
            losses["word"] = words_loss(word_logits, batch["text"], self._special_ids)
        total = sum(getattr(self.config, f"{name}_weight") * loss for name, loss in losses.items())
        right = (logits.argmax(-1).eq(labels) * weight).sum() / tokens
        return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}, "token_accuracy": right}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Losses on 256 validation scenes with descriptive captions, and image-to-text recall at 1 among them."""
        if not isinstance(self.source, ScenePairs):
            return {}
        validation, rows = ScenePairs({"descriptive": 1.0}, "val", self.clip.image_size[0]), torch.arange(256)
        tensors = self._tensors([validation.pair(index, seed=0) for index in rows.tolist()]) | {"captioned": rows}
        batch = {name: value.to(self.clip.device) for name, value in tensors.items()}
        outputs = image, text, *_ = model(batch["pixels"], batch["text"], batch["captioned"])
        figures = {name: float(value) for name, value in self._losses(batch, *outputs).items()}
        hits = torch.eq((image @ text.T).argmax(1).cpu(), rows)
        return figures | {"image_to_text_r1": float(hits.float().mean())}


def _first_clip(config: CocaConfig) -> Clip:
    """The model that training begins with."""
    if config.start is not None:
        return Clip.from_pretrained(Path(config.start))
    assert config.model is not None  # `CocaConfig` has seen to it
    return new_clip(config.model, LoopConfig(**config.loop).seed, config.position_std)


def new_clip(model: Mapping[str, Any] | str, seed: int, position_std: float | None = None) -> Clip:
    """A CoCa with fresh weights, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        text: Mapping[str, Any] = {} if isinstance(model, str) else model["text_cfg"]
        own = text.get("hf_tokenizer_name") == "local"
        if own:
            build_tokenizer(text["vocab_size"], text["context_length"]).save_pretrained(folder)
        clip = Clip.from_config(model, tokenizer_folder=folder if own else None)
        if position_std is not None:
            nn.init.normal_(clip.model.visual.positional_embedding, std=position_std)
    return clip


def train_coca(config: CocaConfig, out: Path, *, resume: bool = False, max_minutes: float | None = None) -> TrainResult:
    """Run the recipe in `out`. Once all steps are done the model is in `out/model` (bf16), with its training.json."""
    recipe, commit = CocaRecipe(config), current_commit()
    result = train(recipe, LoopConfig(**config.loop), out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        recipe.clip.save_pretrained(out / "model", dtype=torch.bfloat16)
        write_training_record(out / "model", "coca", asdict(config), commit, result)
    return result
