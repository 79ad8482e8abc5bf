"""Text-only training of DeCap's decoder (Li et al., ICLR 2023, arXiv 2303.03032): caption from caption embedding.

Beyond the paper: noise on the embedding (CapDec, Nukrai et al. 2022, arXiv 2211.00575), and training on what projection
yields: the (noised) embedding of a caption as a mixture of the memory without that caption's own entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.clip.space import CaptionSpace, space_name
from ..encoders.decap.decap_checkpoint import DecapConfig
from ..encoders.decap.decap_decoder import DecapDecoder
from ..encoders.decap.decap_encoder import Decap
from ..encoders.decap.memory import SupportMemory
from ..encoders.decap.memory_build import embed_texts
from ..errors import InputError
from .data.caption_texts import Embeddings, cached_embeddings, caption_ids, load_captions, vocabulary_size
from .engine.attention import attention_for_training
from .engine.loop import LoopConfig, TrainResult, train
from .engine.randomness import sample_generator, sample_noise
from .engine.settings import current_commit, write_training_record

IGNORED = -100
_ORDER, _NOISE, _MEMORY = 0, 1, 2  # streams of random numbers


@dataclass(frozen=True)
class DecapTraining:
    """Settings of the recipe.

    clip: folder or "model/tag". loop: of `LoopConfig`. gpt2: of `GPT2Config`, sizes of the decoder.
    source, number, styles, seed: captions, see `decap_data.load_captions`. validation: captions kept out of training.
    max_tokens: of a caption, start and end included; longer ones are shortened in front of the end.
    noise_std: per coordinate, added to the unit embedding, which is normalised again.
    projected: read the embedding through the memory without the caption's own entry, at this `temperature`.
    memory_size: training captions in the memory, drawn at random; None for all.
    without_words: captions with one of these words are left out, to see how the decoder does without them.
    """

    clip: str
    loop: Mapping[str, Any]
    source: str = "scenes"
    number: int = 50_000
    styles: Mapping[str, float] = field(default_factory=lambda: {"descriptive": 1.0})
    seed: int = 0
    validation: int = 500
    gpt2: Mapping[str, Any] = field(default_factory=lambda: {"n_embd": 768, "n_layer": 4, "n_head": 4})
    max_tokens: int = 40
    label_smoothing: float = 0.1
    noise_std: float = 0.0
    projected: bool = False
    temperature: float = 1 / 100
    memory_size: int | None = None
    without_words: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.noise_std < 0 or not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"got noise_std={self.noise_std}, label_smoothing={self.label_smoothing}; "
                "expected at least 0, and within [0, 1)"
            )
        if self.validation < 1 or (self.memory_size is not None and self.memory_size < 1):
            raise InputError(
                f"got validation={self.validation}, memory_size={self.memory_size}; expected at least 1 of each"
            )


class DecapRecipe:
    """The recipe for `loop.train`: captions and their embeddings, a decoder, and the memory that goes with it."""

    def __init__(self, config: DecapTraining, clip: CaptionSpace, captions: Captions) -> None:
        self.config = config
        self.clip = clip
        self.texts = captions
        self.decap = new_decap_config(config, clip)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.decoder: DecapDecoder = self.decap.new_decoder()
        self.model: nn.Module = self.decoder
        self.train_ids = caption_ids(captions.train, clip, config.max_tokens)
        self.validation_ids = caption_ids(captions.validation, clip, config.max_tokens)
        rows = _memory_rows(len(captions.train), config)
        self.memory = SupportMemory(
            torch.from_numpy(np.asarray(captions.embeddings[rows])),
            [captions.train[row] for row in rows],
            space_name(clip),
        )
        self.own_entry = torch.full((len(captions.train),), -1).index_copy(0, rows, torch.arange(len(rows)))

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """embeddings (B, D) float32, noised; ids (B, T); labels (B, T), `IGNORED` past the end; own_entry (B,)."""
        size = len(self.texts.train)
        rows = torch.tensor([int(_order(size, index // size, seed)[index % size]) for index in indices])
        embeddings = torch.from_numpy(self.texts.embeddings[rows.numpy()].astype(np.float32))
        if self.config.noise_std:
            noise = sample_noise((embeddings.shape[1],), seed, indices, stream=_NOISE)
            embeddings = F.normalize(embeddings + self.config.noise_std * noise, dim=-1)
        ids, labels = _padded(self.train_ids.ids[rows], self.train_ids.lengths[rows])
        return {"embeddings": embeddings, "ids": ids, "labels": labels, "own_entry": self.own_entry[rows]}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int]
    ) -> dict[str, Tensor]:
        """Cross-entropy per token with label smoothing, and the share of tokens that are predicted right."""
        embeddings, labels = batch["embeddings"], batch["labels"]
        if self.config.projected:
            embeddings = self._project(embeddings, batch["own_entry"])
        counted = labels != IGNORED
        with attention_for_training(embeddings.device):
            logits = model(embeddings, batch["ids"], counted).float()  # (K, V), K the tokens of the whole batch
        loss = F.cross_entropy(logits, labels[counted], label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "token_accuracy": _accuracy(logits, labels[counted])}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On validation captions: loss, token accuracy, and the share written word for word from the clean embedding
        (`exact_match`) and from its projection onto the memory (`exact_match_projected`)."""
        device = self.decoder.device
        embeddings = self.texts.validation_embeddings.float().to(device)
        ids, labels = _padded(self.validation_ids.ids, self.validation_ids.lengths)
        seen = self._project(embeddings, None) if self.config.projected else embeddings
        counted = labels.to(device) != IGNORED
        rows = zip(seen.split(64), ids.to(device).split(64), counted.split(64), strict=True)
        logits = torch.cat([model(*row).float().cpu() for row in rows])
        true = labels[labels != IGNORED]
        return {
            "loss": float(F.cross_entropy(logits, true)),
            "token_accuracy": float(_accuracy(logits, true)),
            "exact_match": self._exact_match(embeddings),
            "exact_match_projected": self._exact_match(self._project(embeddings, None)),
        }

    def result(self) -> Decap:
        """The trained encoder, with its memory."""
        return Decap(self.decap, self.clip, self.decoder.to("cpu"), self.memory)

    def _project(self, embeddings: Tensor, own_entry: Tensor | None) -> Tensor:
        if self.memory.embeddings.device != embeddings.device:
            self.memory = self.memory.to(embeddings.device)
        return self.memory.project(embeddings, self.config.temperature, exclude=own_entry).embeddings

    def _exact_match(self, embeddings: Tensor) -> float:
        written = self.decoder.generate(embeddings, max_tokens=self.config.max_tokens)
        ends = zip(self.validation_ids.ids.tolist(), self.validation_ids.lengths.tolist(), strict=True)
        true = [tuple(row[: length - 1]) for row, length in ends]
        return sum(one.ids == other for one, other in zip(written, true, strict=True)) / len(true)


@dataclass(frozen=True)
class Captions:
    """train, validation: distinct captions. embeddings: (N, D) fp16 of `train`; validation_embeddings: (M, D)."""

    train: Sequence[str]
    validation: Sequence[str]
    embeddings: Embeddings
    validation_embeddings: Tensor


def prepare_captions(config: DecapTraining, clip: CaptionSpace, cache: Path) -> Captions:
    """Load, split and embed the captions. Scenes bring their own validation split; else captions are held out."""
    options: dict[str, Any] = {"styles": config.styles, "seed": config.seed}
    texts = load_captions(config.source, number=config.number, split="train", **options)
    if config.source == "scenes":
        held_out = load_captions("scenes", number=config.validation, split="val", **options)
    else:
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(config.seed)).tolist()
        held_out = [texts[i] for i in order[: config.validation]]
    kept, missing = set(held_out), {word.lower() for word in config.without_words}
    texts = [text for text in texts if text not in kept and missing.isdisjoint(re.findall(r"\w+", text.lower()))]
    if len(texts) < 2:
        raise InputError(
            f"{config.source} leaves {len(texts)} captions to train on beside {len(held_out)} for validation; "
            "expected at least 2: give more captions, or lower validation"
        )
    return Captions(texts, held_out, cached_embeddings(texts, clip, cache), embed_texts(held_out, clip))


def new_decap_config(config: DecapTraining, clip: CaptionSpace) -> DecapConfig:
    """The decoder's config.json for this CLIP: its vocabulary, and room for the prefix."""
    vocabulary, end = vocabulary_size(clip), clip.eos_id
    sizes = {"vocab_size": vocabulary, "n_positions": config.max_tokens, "bos_token_id": clip.bos_id}
    return DecapConfig(
        clip=space_name(clip),
        embed_dim=clip.embed_dim,
        gpt2={**sizes, "eos_token_id": end, **config.gpt2},
        end_id=end or 0,
        num_tokens=vocabulary,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
    )


def train_decap(
    config: DecapTraining,
    out: Path,
    *,
    clip: CaptionSpace | None = None,
    cache: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> TrainResult:
    """Run the recipe in `out`; once all steps are done, write the DeCap to `out/model` (fp16) with its training.json.

    clip: as `config.clip` names it unless given. cache: folder for text embeddings, beside `out` unless given.
    """
    commit = current_commit()  # of the code that trains, not of what is there hours later
    space = clip or _load_clip(config.clip)
    captions = prepare_captions(config, space, cache or out.with_name(f"{out.name}-embeddings"))
    recipe = DecapRecipe(config, space, captions)
    result = train(recipe, LoopConfig(**config.loop), out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        recipe.result().save_pretrained(out / "model", dtype=torch.float16)
        facts = {"captions": len(captions.train), "shortened_captions": recipe.train_ids.shortened}
        write_training_record(out / "model", "decap", {**asdict(config), **facts}, commit, result)
    return result


def _load_clip(spec: str) -> CaptionSpace:
    from ..encoders.clip.clip import Clip

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Clip.from_pretrained(spec, device=device)


def _memory_rows(number: int, config: DecapTraining) -> Tensor:
    """Which training captions the memory holds, in order."""
    order = torch.randperm(number, generator=sample_generator(config.seed, 0, stream=_MEMORY))
    return order[: config.memory_size].sort().values


@lru_cache(maxsize=4)
def _order(size: int, epoch: int, seed: int) -> Tensor:
    """In which order an epoch goes through the captions."""
    return torch.randperm(size, generator=sample_generator(seed, epoch, stream=_ORDER))


def _padded(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """ids and labels, both (B, T), T the longest of the batch. What lies past the end is masked by its position."""
    ids = ids[:, : int(lengths.max())]
    past_end = torch.arange(ids.shape[1]) >= lengths[:, None]
    return ids.masked_fill(past_end, 0), ids.masked_fill(past_end, IGNORED)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels).float().mean()
