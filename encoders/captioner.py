"""Captioners as encoders: CoCa from open_clip, and any transformers image-to-text model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..errors import InputError
from .checkpoint import shortened
from .clip import Clip
from .coca_decoder import CachedCoca, check_cacheable
from .decoding import Hypothesis, Search, search
from .description import Description


class CocaCaptioner:
    """Captions by a CoCa: `describe(images)`.

    max_tokens: new tokens at most, the end token included; by default the context length less the begin token.
    min_tokens: words before a caption may end. num_beams: 1 is greedy, more is beam search (log probability per token).
    Each description's scores hold "log_probability", the sum over its tokens and the end token.
    """

    def __init__(
        self,
        clip: Clip,
        *,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        num_beams: int = 1,
        batch_size: int = 32,
        spec: str = "coca",
    ) -> None:
        check_cacheable(clip.model)
        room = min(clip.context_length, clip.model.context_length) - 1
        max_tokens = room if max_tokens is None else max_tokens
        _check_range("max_tokens", max_tokens, 1, room)
        _check_range("min_tokens", min_tokens, 0, max_tokens)
        _check_range("num_beams", num_beams, 1, clip.model.text.vocab_size // 3)
        _check_range("batch_size", batch_size, 1, None)
        if clip.bos_id is None or clip.eos_id is None:
            raise InputError(f"the tokenizer of {clip.name} has no begin or end token; captions need both")
        # Padding is no word of the model's training targets, so it ends a caption too, as in open_clip's `generate`.
        ends = (clip.eos_id,) if clip.pad_id in (None, clip.eos_id) else (clip.eos_id, clip.pad_id)
        self.search = Search(clip.bos_id, ends, max_tokens, min_tokens, num_beams)
        self.clip, self.batch_size, self.spec = clip, batch_size, spec

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """Caption RGB images of any size; one `Description` each, in the same order."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [text for batch in batches for text in self.describe_pixels(self.clip.pixels(batch))]

    def describe_pixels(self, pixels: Tensor) -> list[Description]:
        """Caption one batch of `clip.pixels(images)`, (B, 3, H, W)."""
        return [self._description(text) for text in self.generate(pixels)]

    @torch.inference_mode()
    def generate(self, pixels: Tensor) -> list[Hypothesis]:
        """One batch, (B, 3, H, W), to token ids and their log probabilities."""
        _, image_tokens = self.clip.model.visual(pixels)
        return self.decode(image_tokens)

    @torch.inference_mode()
    def decode(self, image_tokens: Tensor) -> list[Hypothesis]:
        """Like `generate`, from what the image tower has made of the pixels: (B, N, W), its second output."""
        settings = self.search
        decoder = CachedCoca(self.clip.model, image_tokens, capacity=settings.max_tokens, num_beams=settings.num_beams)
        return search(decoder, len(image_tokens), settings, image_tokens.device)

    def _description(self, text: Hypothesis) -> Description:
        scores = {"log_probability": text.log_probability}
        return Description(self.clip.decode(text.ids), self.clip.pieces(text.ids), self.spec, scores)


class HuggingFaceCaptioner:
    """Captions by any transformers image-to-text model: BLIP, GIT, vision encoder-decoders, chat models that see.

    prompt: what a chat model is asked (a model whose processor has a chat template); other models get the image alone.
    """

    def __init__(
        self,
        model: Any,
        image_processor: Any,
        tokenizer: Any,
        *,
        chat_processor: Any = None,
        prompt: str = "Describe this image in one sentence.",
        max_tokens: int = 40,
        num_beams: int = 1,
        batch_size: int = 16,
        spec: str = "hf",
    ) -> None:
        _check_range("max_tokens", max_tokens, 1, None)
        _check_range("num_beams", num_beams, 1, None)
        _check_range("batch_size", batch_size, 1, None)
        self.model, self.image_processor, self.tokenizer = model.eval(), image_processor, tokenizer
        self.chat_processor, self.prompt = chat_processor, prompt
        self.max_tokens, self.num_beams, self.batch_size, self.spec = max_tokens, num_beams, batch_size, spec

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        **settings: Any,
    ) -> HuggingFaceCaptioner:
        """Load a Hub id or a local folder, safetensors only; `settings` go to the constructor.

        Raises `InputError` where nothing loads or weights are missing.
        """
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

        try:
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                source, dtype=dtype, use_safetensors=True, output_loading_info=True
            )
            image_processor = AutoImageProcessor.from_pretrained(source)
            tokenizer = AutoTokenizer.from_pretrained(source)
            processor = AutoProcessor.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            message = shortened(error)
            raise InputError(f"{str(source)!r} does not load as an image-to-text model: {message}") from error
        model, info = loaded
        lacking = [*info["missing_keys"], *info["mismatched_keys"]]
        if lacking:
            raise InputError(
                f"the weights of {str(source)!r} lack or misfit {len(lacking)} tensors, such as {lacking[0]}"
            )
        chat = processor if getattr(processor, "chat_template", None) else None
        settings.setdefault("spec", f"hf:{source}")
        return cls(model.to(device), image_processor, tokenizer, chat_processor=chat, **settings)

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """Caption RGB images of any size; one `Description` each, in the same order."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [text for batch in batches for text in self._describe_batch(batch)]

    @torch.inference_mode()
    def _describe_batch(self, images: Sequence[Image]) -> list[Description]:
        inputs = self._chat_inputs(images) if self.chat_processor else self._image_inputs(images)
        inputs = inputs.to(self.model.device)
        for name, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        ids = self.model.generate(**inputs, max_new_tokens=self.max_tokens, num_beams=self.num_beams, do_sample=False)
        prompt_length = inputs["input_ids"].shape[1] if self.chat_processor else 0
        return [self._description(row) for row in ids[:, prompt_length:].tolist()]

    def _image_inputs(self, images: Sequence[Image]) -> Any:
        return self.image_processor(images=list(images), return_tensors="pt")

    def _chat_inputs(self, images: Sequence[Image]) -> Any:
        asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.prompt}]}
        text = self.chat_processor.apply_chat_template([asked], add_generation_prompt=True)
        return self.chat_processor(
            text=[text] * len(images),
            images=[[image] for image in images],
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )

    def _description(self, ids: list[int]) -> Description:
        words = [i for i in ids if i not in self._special_ids]
        pieces = (self.tokenizer.decode([i]).strip() for i in words)
        text = " ".join(self.tokenizer.decode(words).split())
        return Description(text, tuple(piece for piece in pieces if piece), self.spec)

    @cached_property
    def _special_ids(self) -> set[int]:
        # BLIP begins with an id that its tokenizer does not know as special; only the model's settings name it.
        config, ids = self.model.generation_config, set(self.tokenizer.all_special_ids)
        for value in (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.decoder_start_token_id):
            ids.update([value] if isinstance(value, int) else value or [])
        return ids


def _check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        raise InputError(f"{name} is {value}; expected {low} {'or more' if high is None else f'to {high}'}")
