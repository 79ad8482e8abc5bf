"""DeCap as an encoder: image -> CLIP embedding -> projection onto a text memory -> GPT-2 -> caption.

Source: Li et al., "DeCap: Decoding CLIP Latents for Zero-Shot Captioning via Text-Only Training", ICLR 2023,
arXiv 2303.03032. Strategies: `pd` decodes the image's projection onto the memory, `nnd` the nearest entry, `vd` the
image itself; `clipre` returns the nearest entry's caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ..base import Description
from ..clip.caption_text import CaptionText
from ..clip.clip import load_clip
from ..clip.space import CaptionSpace, clip_spec, space_name, space_of
from ..decoding import Hypothesis
from ..loading.guard import loading
from ..saved_models import checkpoint_folder, save_tokenizer
from .decap_checkpoint import KIND, DecapConfig, Strategy, load_decoder, save_decoder
from .decap_decoder import DecapDecoder
from .memory import EMBEDDINGS_NAME, SupportMemory
from .projection import check_finite

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decap", "DecapConfig", "Strategy"]

UNLIKE = "no caption in the memory is like this image: what is written may be wrong"
TOKENIZER = "tokenizer"  # folder of the decoder's own tokenizer, if it has one


@dataclass(frozen=True)
class Decap:
    """An `Encoder`. Raises `InputError` unless clip, decoder and memory share one space.

    Scores: "log_probability"; "discarded_mass" of a top-k projection; "similarity", a cosine: of the image and its
    projection, or the nearest entry.
    """

    config: DecapConfig
    clip: CaptionSpace
    decoder: DecapDecoder
    memory: SupportMemory | None = None  # without one, as after `import_official`, `vd` alone works
    text: CaptionText | None = None  # the decoder's own tokenizer; None: the CLIP's
    spec: str = field(default="decap", kw_only=True)

    def __post_init__(self) -> None:
        if (self.clip.embed_dim, space_name(self.clip)) != (self.config.embed_dim, space_of(self.config.clip)):
            raise InputError(
                f"this DeCap was trained for CLIP {space_of(self.config.clip)!r} ({self.config.embed_dim} numbers), "
                f"but {space_name(self.clip)!r} ({self.clip.embed_dim}) is in use; load that one, or train DeCap again"
            )
        if self.memory is not None:
            self.memory.check_clip(self.clip)
        self.decoder.eval()

    @torch.inference_mode()
    def describe(
        self, images: Sequence[Image], *, strategy: Strategy | None = None, num_beams: int | None = None
    ) -> list[Description]:
        """One caption per image, in order; `strategy` and `num_beams` override the config."""
        if not images:
            return []
        return self.describe_embeddings(self.clip.embed_images(images), strategy=strategy, num_beams=num_beams)

    @torch.inference_mode()
    def describe_video(
        self, frames: Sequence[Image], *, strategy: Strategy | None = None, num_beams: int | None = None
    ) -> Description:
        """One caption of a video: the mean of its frames' embeddings is described."""
        if not frames:
            raise InputError("a video of no frames; expected at least one image")
        embeddings = self.clip.embed_images(frames)
        check_finite(embeddings)
        mean = F.normalize(embeddings.mean(dim=0, keepdim=True), dim=-1)  # (1, D)
        temperature = self.config.video_temperature
        return self.describe_embeddings(mean, strategy=strategy, num_beams=num_beams, temperature=temperature)[0]

    @torch.inference_mode()
    def describe_embeddings(
        self,
        embeddings: Tensor,
        *,
        strategy: Strategy | None = None,
        num_beams: int | None = None,
        temperature: float | None = None,
    ) -> list[Description]:
        """Captions of (B, D) CLIP image embeddings, of any length. Raises `InputError` for NaN or infinite ones."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.embed_dim:
            shape = tuple(embeddings.shape)
            raise InputError(
                f"embeddings have shape {shape}; expected (B, {self.config.embed_dim}), of this DeCap's CLIP"
            )
        check_finite(embeddings)
        if len(embeddings) == 0:
            return []
        chosen = strategy or self.config.strategy
        queries = F.normalize(embeddings.float(), dim=-1)
        if chosen == "clipre":
            return self._retrieve(queries)
        prefixes, scores = self._prefixes(queries, chosen, temperature or self.config.temperature)
        beams = num_beams or self.config.num_beams
        written = self.decoder.generate(prefixes, max_tokens=self.config.max_tokens, num_beams=beams)
        return [self._description(*row) for row in zip(written, scores, strict=True)]

    def _prefixes(self, queries: Tensor, strategy: str, temperature: float) -> tuple[Tensor, list[dict[str, float]]]:
        """(B, D) queries -> (B, D) embeddings to decode, and their scores."""
        if strategy == "vd":
            return queries, [{} for _ in queries]
        memory = self._need_memory(strategy)
        if strategy == "pd":
            result = memory.project(queries, temperature, top_k=self.config.top_k)
            similarities = (queries.to(result.embeddings.device) * result.embeddings).sum(-1).tolist()
            scores = [{"similarity": similarity} for similarity in similarities]
            if self.config.top_k is not None:
                for one, mass in zip(scores, result.discarded_mass.tolist(), strict=True):
                    one["discarded_mass"] = mass
            return result.embeddings, scores
        found = memory.nearest(queries)
        entries = memory.embeddings[found.indices[:, 0]].float()
        return entries, [{"similarity": similarity} for similarity in found.similarities[:, 0].tolist()]

    def _retrieve(self, queries: Tensor) -> list[Description]:
        memory = self._need_memory("clipre")
        found = memory.nearest(queries)
        texts = [memory.texts[row] for row in found.indices[:, 0].tolist()]
        pieces = [self._words.pieces(row) for row in self._words.tokenizer(texts).tolist()]
        scores = [{"similarity": similarity} for similarity in found.similarities[:, 0].tolist()]
        return [Description(text, p, self.spec, s) for text, p, s in zip(texts, pieces, scores, strict=True)]

    def _description(self, written: Hypothesis, scores: dict[str, float]) -> Description:
        ids = [i for i in written.ids if i < self.config.num_tokens]
        all_scores = {"log_probability": written.log_probability, **scores}
        cut_off = written.is_cut_off(self.config.max_tokens)
        low = self.config.note_below is not None and scores.get("similarity", 1.0) < self.config.note_below
        note = UNLIKE if low else None
        return Description(self._words.decode(ids), self._words.pieces(ids), self.spec, all_scores, note, cut_off)

    @property
    def _words(self) -> CaptionText | CaptionSpace:
        """The decoder's tokenizer."""
        return self.text or self.clip

    def _need_memory(self, strategy: str) -> SupportMemory:
        if strategy not in get_args(Strategy):
            raise InputError(f"unknown strategy {strategy!r}; expected one of {', '.join(get_args(Strategy))}")
        if self.memory is None:
            raise InputError(
                f"strategy {strategy!r} needs a support memory, and this DeCap has none; build one from captions with "
                f"`build_memory` into its folder, or use strategy 'vd'"
            )
        return self.memory

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json, decoder.safetensors (in `dtype` if given) and the memory.

        The CLIP is named, not copied: a local folder by its path relative to `folder`.
        """
        folder = Path(folder)
        save_decoder(self.decoder, replace(self.config, clip=clip_spec(self.clip, folder)), folder, dtype)
        if self.memory is not None:
            self.memory.save(folder)
        if self.text is not None:
            save_tokenizer(self.text.tokenizer, folder / TOKENIZER)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        clip: CaptionSpace | None = None,
        device: str | torch.device = "cpu",
        spec: str = "decap",
    ) -> Decap:
        """Read what `save_pretrained` wrote, from a folder or a Hugging Face hub id.

        clip: by default loaded as the config names it. spec: the `encoder` of descriptions.
        """
        folder = checkpoint_folder(source, KIND)
        with loading(folder, KIND):
            config, decoder = load_decoder(folder)
            memory = SupportMemory.load(folder).to(device) if (folder / EMBEDDINGS_NAME).exists() else None
            space = clip or load_clip(config.clip, folder, KIND, device)
            own = folder / TOKENIZER
            text = CaptionText.from_folder(own, config.max_tokens) if own.is_dir() else None
            return cls(config, space, decoder.to(device), memory, text, spec=spec)
