"""An open_clip model (CLIP or CoCa) with its preprocessing and tokenizer: embeddings, patch tokens, text <-> ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.coca_model import CoCa
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import image_transform_v2
from PIL.Image import Image
from torch import Tensor, nn

from ...errors import InputError
from .open_clip_files import (
    WEIGHTS_NAME,
    build_model,
    load_strictly,
    load_tokenizer,
    named_config,
    preprocess_of,
    published_model,
    read_config,
    save_folder,
)

# A strip of 1 x 64,000,000 pixels passes every pixel limit, yet "resize the shorter side to 224" makes it 224 times
# larger each way. The centre crop that follows keeps only the middle, so strips are cut to this aspect first.
MAX_ASPECT = 32


class Clip:
    """An open_clip model in eval mode. Build it with `from_pretrained` (weights) or `from_config` (random weights).

    name: the spec it was loaded from. image_size: (height, width) in pixels. embed_dim: D of the shared space.
    context_length: tokens per text, specials included. bos_id, eos_id, pad_id: special token ids, None where the
    tokenizer has none.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, model_cfg: Mapping[str, Any], *, name: str) -> None:
        self.model: Any = model.eval()  # open_clip's models share methods, yet no base class that declares them
        self.tokenizer = tokenizer
        self.model_cfg = dict(model_cfg)
        self.name = name
        self.embed_dim: int = model_cfg["embed_dim"]
        self.context_length: int = tokenizer.context_length
        self.image_size: tuple[int, int] = tuple(preprocess_of(model).input_size[1:])
        self.bos_id, self.eos_id, self.pad_id = _special_ids(tokenizer)
        self._transform = image_transform_v2(preprocess_of(model), is_train=False)
        self._check_vocabulary()

    @classmethod
    def from_pretrained(
        cls, spec: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Clip:
        """Load a local folder (`open_clip_config.json`, `open_clip_model.safetensors`, tokenizer files) or
        "model_name/pretrained_tag" from open_clip's list.

        Raises `InputError` for unknown names, folders without config or weights, and weights that do not fit.
        """
        folder = Path(spec).expanduser()
        if folder.exists() or isinstance(spec, Path):
            config = read_config(folder)
            model = build_model(config["model_cfg"], config.get("preprocess_cfg"))
            load_strictly(model, folder / WEIGHTS_NAME)
            tokenizer, model_cfg = load_tokenizer(f"local-dir:{folder}"), config["model_cfg"]
        else:
            model, model_cfg = published_model(str(spec))
            tokenizer = load_tokenizer(str(spec).split("/", 1)[0])
        return cls(model.to(device, dtype), tokenizer, model_cfg, name=str(spec))

    @classmethod
    def from_config(
        cls,
        config: str | Mapping[str, Any],
        *,
        tokenizer_folder: str | Path | None = None,
        preprocess_cfg: Mapping[str, Any] | None = None,
        name: str = "random",
    ) -> Clip:
        """A model with random weights (of torch's global generator) from an open_clip architecture name or `model_cfg`.

        tokenizer_folder: a transformers tokenizer, needed where `text_cfg.hf_tokenizer_name` is set and local.
        """
        model_cfg = named_config(config) if isinstance(config, str) else dict(config)
        text_cfg = model_cfg.get("text_cfg", {})
        context_length = text_cfg.get("context_length", 77)
        source = tokenizer_folder or text_cfg.get("hf_tokenizer_name")
        if source:
            if not text_cfg.get("hf_tokenizer_name"):
                raise InputError("a tokenizer_folder needs text_cfg.hf_tokenizer_name, or reloading would ignore it")
            kwargs = {"tokenizer_mode": text_cfg.get("tokenizer_mode"), **text_cfg.get("tokenizer_kwargs", {})}
            tokenizer: Any = HFTokenizer(str(source), context_length=context_length, **kwargs)
        else:
            tokenizer = SimpleTokenizer(context_length=context_length, **text_cfg.get("tokenizer_kwargs", {}))
        return cls(build_model(model_cfg, preprocess_cfg), tokenizer, model_cfg, name=name)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, weights (in `dtype`, or as they are) and tokenizer files; `from_pretrained` reads it back."""
        save_folder(Path(folder), self.model, self.model_cfg, dtype)
        if isinstance(self.tokenizer, HFTokenizer):
            self.tokenizer.save_pretrained(str(folder))

    @property
    def is_coca(self) -> bool:
        return isinstance(self.model, CoCa)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def pixels(self, images: Sequence[Image], *, device: str | torch.device | None = None) -> Tensor:
        """RGB images of any size -> (B, 3, H, W) by open_clip's own eval transform, in the model's dtype, on its device
        unless another is given: a worker process that was forked may use no GPU.
        """
        device = device or self.device
        if not images:
            return torch.empty(0, 3, *self.image_size, device=device, dtype=self.dtype)
        return torch.stack([self._transform(self._cut_strip(image)) for image in images]).to(device, self.dtype)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D) float32, L2-normalised; differentiable. The text towers do not run."""
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1)

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image], *, batch_size: int = 64) -> Tensor:
        """RGB images -> (B, D) float32, L2-normalised, on the model's device."""
        chunks = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
        return self._joined([self.embed_pixels(self.pixels(chunk)) for chunk in chunks])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Texts -> (N, D) float32, L2-normalised, on the model's device. CoCa's decoder does not run."""
        chunks = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
        ids = (self.tokenize(chunk).to(self.device) for chunk in chunks)
        return self._joined([F.normalize(self.model.encode_text(chunk).float(), dim=-1) for chunk in ids])

    def patch_tokens(self, pixels: Tensor, *, normalize: bool = False) -> Tensor:
        """(B, 3, H, W) -> (B, N, W): one token per patch from the last block of the image tower; differentiable.

        CoCa's own `visual` output is N pooled queries, not patches. `normalize` applies the norm that the tower itself
        puts on these tokens next: the attentional pooler's where there is one, else the final one.
        """
        features = self.model.visual.forward_intermediates(pixels, indices=1, intermediates_only=True)
        tokens = rearrange(features["image_intermediates"][-1], "b w h v -> b (h v) w")
        return self._patch_norm(tokens) if normalize else tokens

    @cached_property
    def patch_shape(self) -> tuple[int, int]:
        """(N, W) of `patch_tokens`."""
        with torch.no_grad():
            tokens = self.patch_tokens(torch.zeros(1, 3, *self.image_size).to(self.device, self.dtype))
        return tokens.shape[1], tokens.shape[2]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, context_length) int64 on the CPU: begin, words, end, padding; cut to fit, the end kept."""
        if not texts:
            return torch.empty(0, self.context_length, dtype=torch.long)
        return self.tokenizer(list(texts))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Ids -> words without special tokens, single spaces, none before punctuation."""
        words = self._words(ids)
        text = self._tokens_to_text(words)
        return re.sub(r" ([.,;:!?])", r"\1", " ".join(text.split()))

    def pieces(self, ids: Iterable[int] | Tensor) -> tuple[str, ...]:
        """The word pieces of `ids`, one string per id, without special tokens."""
        return tuple(self._tokens_to_text([token]).strip() for token in self._words(ids))

    def _words(self, ids: Iterable[int] | Tensor) -> list[int]:
        # open_clip's own tokenizer pads with 0, which is also "!": only what stands before the end token is words.
        values = [int(i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]
        if self.eos_id in values:
            values = values[: values.index(self.eos_id)]
        special = set(self._special_tokens)
        return [value for value in values if value not in special]

    @cached_property
    def _special_tokens(self) -> list[int]:
        if isinstance(self.tokenizer, HFTokenizer):
            return list(self.tokenizer.tokenizer.all_special_ids)
        return list(getattr(self.tokenizer, "all_special_ids", []))

    def _tokens_to_text(self, ids: list[int]) -> str:
        inner = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        return inner.decode(ids)

    def _patch_norm(self, tokens: Tensor) -> Tensor:
        visual = self.model.visual
        pooler = getattr(visual, "attn_pool", None)
        norm = pooler.ln_k if pooler is not None else getattr(visual, "ln_post", None)
        if norm is None:
            raise InputError(f"the image tower {type(visual).__name__} has no final norm; call with normalize=False")
        return norm(tokens)

    def _cut_strip(self, image: Image) -> Image:
        width, height = image.size
        limit = MAX_ASPECT * min(width, height)
        if max(width, height) <= limit or preprocess_of(self.model).resize_mode == "squash":
            return image
        left, top = max(0, (width - limit) // 2), max(0, (height - limit) // 2)
        return image.crop((left, top, min(width, left + limit), min(height, top + limit)))

    def _joined(self, chunks: list[Tensor]) -> Tensor:
        return torch.cat(chunks) if chunks else torch.empty(0, self.embed_dim, device=self.device)

    def _check_vocabulary(self) -> None:
        text_cfg = self.model_cfg["text_cfg"]
        if "hf_model_name" in text_cfg:
            return
        size, rows = _vocabulary_size(self.tokenizer), text_cfg.get("vocab_size", 49408)
        if size > rows:
            raise InputError(
                f"the tokenizer of {self.name} has {size} tokens, its model only {rows}; put the tokenizer's files "
                "beside the weights and set text_cfg.hf_tokenizer_name (else open_clip takes its own 49,408 tokens)"
            )
        pools_highest = text_cfg.get("pool_type", "argmax") == "argmax" and not text_cfg.get("embed_cls", False)
        if pools_highest and self.eos_id is not None and self.eos_id != size - 1:
            raise InputError(
                f"{self.name} pools its text at the highest id (pool_type 'argmax'), but end-of-text is {self.eos_id} "
                f"of {size}; make it the highest, or set pool_type to 'eos' with eos_id {self.eos_id}"
            )


def _vocabulary_size(tokenizer: Any) -> int:
    return int(tokenizer.vocab_size) if isinstance(tokenizer, SimpleTokenizer) else len(tokenizer.tokenizer)


def _special_ids(tokenizer: Any) -> tuple[int | None, int | None, int | None]:
    if isinstance(tokenizer, HFTokenizer):
        inner = tokenizer.tokenizer
        bos = inner.cls_token_id if inner.bos_token_id is None else inner.bos_token_id
        eos = inner.sep_token_id if inner.eos_token_id is None else inner.eos_token_id
        return bos, eos, inner.pad_token_id
    if isinstance(tokenizer, SimpleTokenizer):
        return tokenizer.sot_token_id, tokenizer.eot_token_id, 0
    return None, None, getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", None)
