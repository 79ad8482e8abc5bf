"""Contrastive and captioning training of an open_clip CoCa (Yu et al. 2022, arXiv 2205.01917).

Every sample trains the contrastive loss. The captioning loss is trained on texts of the `captioned` styles alone, so
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

from ..encoders.clip import Clip
from .attention import attention_for_training
from .distributed import gather_with_grad
from .loop import LoopConfig, TrainResult, train
from .pairs import PairSource, ScenePairs, load_pairs
from .settings import current_commit, read_settings, write_training_record
from .tokenizer import build_tokenizer


@dataclass(frozen=True)
class CocaConfig:
    """Settings of the recipe.

    model: open_clip's `model_cfg`, or the name of one ("coca_ViT-B-32"). With `hf_tokenizer_name: local` in its
    text_cfg the project's own tokenizer is built for it.
    source, image_column, text_column: "scenes", or image-text pairs as `pairs.load_pairs` reads them.
    styles: caption styles of scenes, each with its weight. curriculum, one_object, near_duplicates: as of
    `pairs.ScenePairs`.
    start: folder of a trained model to go on from, for a second stage; `model` is then that folder's. None starts anew.
    position_std: spread of the image tower's first position embeddings; None for open_clip's own, width^-0.5, beside
    which the flat areas of made scenes are so strong that places are learnt late.
    captioned: styles whose texts train the captioner; a source without styles trains it on all.
    """

    model: Mapping[str, Any] | str
    loop: Mapping[str, Any]
    source: str = "scenes"
    image_column: str = "image"
    text_column: str = "text"
    styles: Mapping[str, float] = field(default_factory=lambda: {"descriptive": 1.0})
    curriculum: Mapping[int, int] = field(default_factory=dict)
    one_object: float = 0.0
    near_duplicates: int = 1
    start: str | None = None
    captioned: Sequence[str] = ("descriptive",)
    position_std: float | None = None
    caption_weight: float = 2.0
    contrastive_weight: float = 1.0


class CocaObjective(nn.Module):
    """The model as training needs it: both embeddings of all rows, caption logits of the captioned rows alone."""

    def __init__(self, coca: nn.Module) -> None:
        super().__init__()
        self.coca = coca

    def forward(self, pixels: Tensor, text: Tensor, captioned: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """pixels (B, 3, H, W), text (B, L), captioned (C,) row numbers -> image (B, D), text (B, D), logits (C, l, V),
        scale (). The caption logits reach as far as the longest captioned text: l <= L - 1.
        """
        coca: Any = self.coca
        image_latent, image_tokens = coca._encode_image(pixels)
        text_latent, text_tokens = coca._encode_text(text)
        length = int(text[captioned].ne(coca.pad_id).sum(1).max()) if len(captioned) else 1
        logits = coca.text_decoder(image_tokens[captioned], text_tokens[captioned, : length - 1])
        return image_latent, text_latent, logits, coca.logit_scale.exp().clamp(max=100.0)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy over the whole batch of all processes; image, text (B, D) L2-normalised."""
    logits = scale * gather_with_grad(image) @ gather_with_grad(text).T  # (B, B)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class CocaRecipe:
    """The recipe for `loop.train`."""

    def __init__(self, config: CocaConfig) -> None:
        self.config = config
        self.clip = (
            Clip.from_pretrained(Path(config.start))
            if config.start
            else new_clip(config.model, LoopConfig(**config.loop).seed, config.position_std)
        )
        self.model: nn.Module = CocaObjective(self.clip.model)
        self.pad_id: int = self.clip.model.pad_id
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

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, H, W) float32; text (B, L) ids; captioned (C,) row numbers."""
        pairs = [self.source.pair(index, seed) for index in indices]
        text = self.clip.tokenize([pair.text for pair in pairs])
        rows = [i for i, pair in enumerate(pairs) if not pair.style or pair.style in self.config.captioned]
        pixels = self.clip.pixels([pair.image for pair in pairs])
        return {"pixels": pixels, "text": text, "captioned": torch.tensor(rows, dtype=torch.long)}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """The weighted sum, both losses, and the share of caption tokens that are predicted right."""
        with attention_for_training(batch["pixels"].device):
            image, text, logits, scale = model(batch["pixels"], batch["text"], batch["captioned"])
        contrastive = contrastive_loss(image.float(), text.float(), scale)
        labels = batch["text"][batch["captioned"], 1 : logits.shape[1] + 1]
        weight = labels.ne(self.pad_id).float()
        per_token = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view_as(weight)
        words = weight.sum().clamp(min=1.0)
        caption = (per_token * weight).sum() / words
        right = (logits.argmax(-1).eq(labels) * weight).sum() / words
        total = self.config.contrastive_weight * contrastive + self.config.caption_weight * caption
        return {
            "loss": total,
            "contrastive": contrastive.detach(),
            "caption": caption.detach(),
            "token_accuracy": right,
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Losses on 256 validation scenes with descriptive captions, and image-to-text recall at 1 among them."""
        validation = ScenePairs({"descriptive": 1.0}, "val", self.clip.image_size[0])
        if not isinstance(self.source, ScenePairs):
            return {}
        pairs = [validation.pair(index, seed=0) for index in range(256)]
        text = self.clip.tokenize([pair.text for pair in pairs])
        batch = {
            "pixels": self.clip.pixels([pair.image for pair in pairs]),
            "text": text,
            "captioned": torch.arange(256),
        }
        batch = {name: value.to(self.clip.device) for name, value in batch.items()}
        figures = {name: float(value) for name, value in self.loss(model, batch, step=0, indices=range(256)).items()}
        image, words, _, _ = model(batch["pixels"], batch["text"], batch["captioned"][:1])
        hits = torch.eq((image @ words.T).argmax(1).cpu(), torch.arange(256))
        return figures | {"image_to_text_r1": float(hits.float().mean())}


def new_clip(model: Mapping[str, Any] | str, seed: int, position_std: float | None = None) -> Clip:
    """A CoCa with fresh weights, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        own = not isinstance(model, str) and model["text_cfg"].get("hf_tokenizer_name") == "local"
        if own and not isinstance(model, str):
            text = model["text_cfg"]
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


def load_coca_config(path: Path) -> CocaConfig:
    """Read a YAML file of `CocaConfig`'s fields."""
    return read_settings(CocaConfig, path)
