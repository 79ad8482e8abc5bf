"""Text-only training of DeCap's decoder (Li et al., ICLR 2023, arXiv 2303.03032): write a caption from its embedding.

    training    caption -> CLIP text embedding + noise -> projection -> prefix -> GPT-2 -> cross-entropy of the caption
    inference   image   -> CLIP image embedding        -> projection -> prefix -> GPT-2 -> caption

The projection reads an embedding as a mixture of the memory's, which are embeddings of training captions. Beyond the
paper: noise (CapDec, Nukrai et al. 2022, arXiv 2211.00575), and projection in training too, without the caption's own
entry. The paper trains on the caption's own embedding (`noise_std: 0`, `projected: false`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.clip.caption_text import CaptionText
from ..encoders.clip.clip import Clip
from ..encoders.clip.space import space_name, space_of
from ..encoders.decap.decap_checkpoint import KIND, DecapConfig, load_decoder
from ..encoders.decap.decap_decoder import DecapDecoder
from ..encoders.decap.decap_encoder import TOKENIZER, Decap
from ..encoders.decap.memory import SupportMemory, one_line
from ..encoders.saved_models import checkpoint_folder
from ..errors import InputError
from .caption_tokenizer import learn_tokenizer
from .data.base import Data, DataSource, Sample
from .data.caption_ids import IGNORED, caption_ids, check_max_tokens, padded, shortened, vocabulary_size
from .data.order import epoch_position
from .data.text_embeddings import cached_embeddings
from .engine.attention import attention_for_training
from .engine.distributed import sum_over_processes
from .engine.randomness import sample_noise, sample_rng
from .engine.recipe import Count, LoopConfig, NonNegative, Positive, Recipe, Share
from .engine.settings import settings
from .engine.sharding import gather_blocks
from .evaluators import text_figures

_NOISE, _MEMORY = 1, 2  # streams of random numbers


@settings
class DecoderConfig:
    """Sizes of the decoder, a GPT-2 trained from scratch; the paper's unless given."""

    n_embd: Count = 768
    n_layer: Count = 4
    n_head: Count = 4
    n_inner: Count | None = None  # width of the feed-forward layers; None for 4 x n_embd
    resid_pdrop: Share = 0.1
    embd_pdrop: Share = 0.1
    attn_pdrop: Share = 0.1

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise InputError(f"n_embd is {self.n_embd}; expected a multiple of n_head, {self.n_head}")


@settings
class DecapTraining:
    """Settings of the recipe."""

    clip: str  # folder of a CLIP, or open_clip's "model/tag"
    data: Data  # its captions are trained on; held-out images, where there are any, are described for evaluation
    loop: LoopConfig
    start: str | None = None  # a trained DeCap to go on from, in the same CLIP's space and of the same sizes
    validation: Count = 500  # most held-out items in an evaluation
    gpt2: DecoderConfig = field(default_factory=DecoderConfig)
    # tokens of a tokenizer learnt from the captions; None: the CLIP's own tokenizer, however many it has
    vocabulary: Annotated[int, Field(ge=600)] | None = None
    max_tokens: Annotated[int, Field(ge=3)] = 40  # of a caption, start and end included; longer ones are cut
    label_smoothing: Share = 0.1
    noise_std: NonNegative = 0.0  # per coordinate, added to the unit embedding, which is normalised again
    projected: bool = False  # train on embeddings projected onto the memory, without the caption's own entry
    temperature: Positive = 1 / 100  # of the projection
    memory_size: Count | None = None  # training captions in the memory, drawn at random; None for all
    without_words: tuple[str, ...] = ()  # captions with one of these are left out, to see what the decoder then does


class DecapRecipe(Recipe):
    """The recipe "decap". Text embeddings are kept in `cache`."""

    name = "decap"
    config_class = DecapTraining
    source: DataSource

    def __init__(self, config: DecapTraining, cache: Path) -> None:
        self.config = config
        self.source = config.data.open(texts=True)
        self.clip = self.load_clip()
        self.source.image_size = self.clip.image_size[0]
        held_out = [sample for sample in self.source.held_out(config.validation) if sample.text.strip()]
        self.captions = training_captions(self.source, held_out, config.without_words)
        self.text = self._tokenizer()
        check_max_tokens(self.text, config.max_tokens)
        self.embeddings = cached_embeddings(self.captions, self.clip, cache / "text-embeddings")
        self.memory_rows = self._draw_memory_rows()
        self.memory = self._build_memory()
        self.decap = decap_config(config, self.clip, self.text)
        self.decoder = new_decoder(config, self.decap)
        self.model: nn.Module = self.decoder
        self._embed_held_out(held_out)

    def load_clip(self) -> Clip:
        """The space of the captions, with its tokenizer."""
        return Clip.from_pretrained(self.config.clip, device="cuda" if torch.cuda.is_available() else "cpu")

    def _tokenizer(self) -> CaptionText | Clip:
        """The CLIP's, that of the DeCap to start from, or one that is learnt from the captions."""
        config = self.config
        if config.start is not None and (own := checkpoint_folder(config.start, KIND) / TOKENIZER).is_dir():
            return CaptionText.from_folder(own, config.max_tokens)
        if config.vocabulary is None:
            return self.clip
        with TemporaryDirectory() as folder:
            learn_tokenizer(self.captions, config.vocabulary, config.max_tokens).save_pretrained(folder)
            return CaptionText.from_folder(Path(folder), config.max_tokens)

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """embeddings (B, D) float32, noised; ids (B, T); labels (B, T), `IGNORED` past the end; own_entry (B,)."""
        rows = [epoch_position(index, len(self.captions), seed) for index in indices]
        embeddings = torch.from_numpy(self.embeddings[rows].astype(np.float32))
        if self.config.noise_std:
            noise = sample_noise((embeddings.shape[1],), seed, indices, stream=_NOISE)
            embeddings = F.normalize(embeddings + self.config.noise_std * noise, dim=-1)
        # Tokenised here: 10 million captions' ids would fill 1.6 GB, and 128 captions take a worker 6 ms.
        ids, labels = padded(*caption_ids([self.captions[row] for row in rows], self.text, self.config.max_tokens))
        own_entry = torch.tensor([self._entry(row) for row in rows])
        return {"embeddings": embeddings, "ids": ids, "labels": labels, "own_entry": own_entry}

    def share(self, model: nn.Module, parts: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Any]]:
        """tokens: of the whole batch, on average over its parts; each weighs the same however the batch is split."""
        tokens = torch.stack([part["labels"].ne(IGNORED).sum() for part in parts]).float().mean()
        return [{"tokens": sum_over_processes(tokens.to(self.clip.device), mean=True)}] * len(parts)

    def loss(
        self,
        model: nn.Module,
        batch: dict[str, Tensor],
        *,
        step: int,
        indices: Sequence[int],
        tokens: Tensor | None = None,
        **shared: Any,
    ) -> dict[str, Tensor]:
        """Cross-entropy per token with label smoothing, and the share of tokens that are predicted right. tokens: of
        `share`; by default those of this batch."""
        embeddings, labels = batch["embeddings"], batch["labels"]
        if self.config.projected:
            embeddings = self.project(embeddings, batch["own_entry"])
        counted = labels != IGNORED
        with attention_for_training(embeddings.device):
            logits = model(embeddings, batch["ids"], counted).float()  # (K, V), K the tokens of the whole batch
        true = labels[counted]
        number = len(true) if tokens is None else tokens
        loss = F.cross_entropy(logits, true, reduction="sum", label_smoothing=self.config.label_smoothing)
        return {"loss": loss / number, "token_accuracy": (logits.argmax(-1) == true).sum() / number}

    def project(self, embeddings: Tensor, own_entry: Tensor | None = None) -> Tensor:
        """(B, D) embeddings of texts or images as mixtures of the memory; own_entry (B,): left out, -1 for none."""
        if self.memory.embeddings.device != embeddings.device:
            self.memory = self.memory.to(embeddings.device)
        return self.memory.project(embeddings, self.config.temperature, exclude=own_entry).embeddings

    def write(self, embeddings: Tensor, batch_size: int = 256) -> list[str]:
        """A caption for each of (B, D) embeddings, greedily."""
        parts = embeddings.split(batch_size)
        written = [one for part in parts for one in self.decoder.generate(part, max_tokens=self.config.max_tokens)]
        return [self.text.decode(one.ids) for one in written]

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """On held-out items: loss and token accuracy of a caption each; the share that is written word for word from
        its embedding (`exact_match`) and from its projection (`exact_match_projected`); figures of what is written
        from the projected captions (`text_cider_d`, ...) and, where there are images, from them (`image_cider_d`, ...).
        """
        gather_blocks(self.decoder)
        embeddings = self.held_out_embeddings.to(self.decoder.device)
        projected = self.project(embeddings)
        figures = self._token_figures(model, projected if self.config.projected else embeddings)
        texts = self.write(projected)
        figures |= {
            "exact_match": self._exact_match(self.write(embeddings)),
            "exact_match_projected": self._exact_match(texts),
        }
        figures |= _named("text", text_figures(self.source, texts, self.held_out))
        if len(self.image_embeddings):
            texts = self.write(self.project(self.image_embeddings.to(embeddings.device)))
            figures |= _named("image", text_figures(self.source, texts, self.held_out))
        return figures

    def save(self, folder: Path) -> None:
        """A DeCap in fp16, with its memory."""
        self.memory = self.memory.to("cpu")
        own = None if self.text is self.clip else self.text
        decap = Decap(self.decap, self.clip, self.decoder.to("cpu"), self.memory, own)
        decap.save_pretrained(folder, dtype=torch.float16)

    def record(self) -> dict[str, Any]:
        """How many captions were trained on, and how many of them were too long."""
        long = shortened(self.captions, self.text, self.config.max_tokens)
        return {"captions": len(self.captions), "shortened_captions": long}

    def _draw_memory_rows(self) -> Sequence[int]:
        """Which captions the memory holds, in order."""
        number, size = len(self.captions), self.config.memory_size
        if size is None or size >= number:
            return range(number)
        return sorted(sample_rng(self.config.loop.seed, 0, _MEMORY).sample(range(number), size))

    def _build_memory(self) -> SupportMemory:
        rows, texts, embeddings = self.memory_rows, self.captions, self.embeddings
        if not isinstance(rows, range):  # a memory of all captions stays mapped
            texts, embeddings = [texts[row] for row in rows], embeddings[rows]
        return SupportMemory(torch.from_numpy(embeddings), texts, space_name(self.clip))

    def _entry(self, row: int) -> int:
        """Where the memory holds caption number `row`; -1 if nowhere."""
        place = bisect_left(self.memory_rows, row)
        return place if place < len(self.memory_rows) and self.memory_rows[place] == row else -1

    def _embed_held_out(self, samples: Sequence[Sample]) -> None:
        """Embeddings and ids of the held-out items; their images are not kept, and blank captions not scored."""
        images = [image for sample in samples if (image := sample.image) is not None]  # of all of them or of none
        self.image_embeddings = self.clip.embed_images(images).cpu()  # (I, D)
        texts = [one_line(sample.text) for sample in samples]
        captions = [tuple(filter(None, map(one_line, sample.texts))) for sample in samples]
        self.held_out = [  # without images, and with no blank caption
            Sample(one.key, one.row, None, one.text, own, one.style) for one, own in zip(samples, captions, strict=True)
        ]
        self.held_out_embeddings = self.clip.embed_texts(texts).float().cpu()  # (M, D)
        self.held_out_ids = padded(*caption_ids(texts, self.text, self.config.max_tokens))

    def _token_figures(self, model: nn.Module, embeddings: Tensor, batch_size: int = 64) -> dict[str, float]:
        parts = zip(*(rows.split(batch_size) for rows in (embeddings, *self.held_out_ids)), strict=True)
        loss, right, number = 0.0, 0, 0
        for seen, ids, labels in parts:
            counted = (labels != IGNORED).to(seen.device)
            logits = model(seen, ids.to(seen.device), counted).float()
            true = labels.to(seen.device)[counted]
            loss += float(F.cross_entropy(logits, true, reduction="sum"))
            right += int((logits.argmax(-1) == true).sum())
            number += len(true)
        return {"loss": loss / number, "token_accuracy": right / number}

    def _exact_match(self, texts: Sequence[str]) -> float:
        true = [self.text.decode(row[row != IGNORED]) for row in self.held_out_ids[1]]
        return sum(map(str.__eq__, texts, true)) / len(true)


def training_captions(source: DataSource, held_out: Sequence[Sample], without_words: Sequence[str]) -> list[str]:
    """Distinct captions in order, one line each: no held-out item's, and none with an unwanted word."""
    kept = {one_line(text) for sample in held_out for text in (sample.text, *sample.texts)}
    words = "|".join(map(re.escape, without_words)) or "(?!)"  # none: never found
    unwanted = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    texts = dict.fromkeys(map(one_line, source.captions()))
    found = [text for text in texts if text and text not in kept and not unwanted.search(text)]
    if len(found) < 2 or not held_out:
        raise InputError(
            f"data leaves {len(found)} distinct captions to train on beside {len(held_out)} held-out items; "
            "expected at least 2 captions and 1 item: give more captions, lower validation, or mend held_out"
        )
    return found


def decap_config(config: DecapTraining, clip: Clip, text: CaptionText) -> DecapConfig:
    """The config.json for this CLIP and this tokenizer: its vocabulary, and room for the prefix."""
    special = {"bos_token_id": text.bos_id, "eos_token_id": text.eos_id}
    sizes = {"vocab_size": vocabulary_size(text), "n_positions": config.max_tokens}
    return DecapConfig(
        clip=space_name(clip),
        embed_dim=clip.embed_dim,
        gpt2={**sizes, **special, **asdict(config.gpt2)},
        end_id=text.eos_id or 0,
        num_tokens=sizes["vocab_size"],
        max_tokens=config.max_tokens,
        temperature=config.temperature,
    )


def new_decoder(config: DecapTraining, decap: DecapConfig) -> DecapDecoder:
    """With random weights, or with those of `config.start`. Raises `InputError` for a start of another kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        decoder = decap.new_decoder()
    if config.start is not None:
        saved, trained = load_decoder(checkpoint_folder(config.start, KIND))
        got, expected = ({"clip": space_of(one.clip), **one.gpt2} for one in (saved, decap))
        other = [name for name, value in expected.items() if got.get(name) != value and not name.endswith("_pdrop")]
        if other:
            differs = "; ".join(f"{name} is {got.get(name)}, here {expected[name]}" for name in other)
            raise InputError(f"start {config.start!r} is another kind of DeCap ({differs}); expected the same")
        decoder.load_state_dict(trained.state_dict())
    return decoder


def _named(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": figure for name, figure in figures.items()}
