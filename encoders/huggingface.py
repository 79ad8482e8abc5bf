"""Any transformers image-to-text model as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..errors import InputError, check_range
from .base import Description
from .saved_models import shortened, without_bars


class HuggingFaceCaptioner:
    """An `Encoder` around any transformers image-to-text model: BLIP, GIT, vision encoder-decoders, chat models.

    prompt: for models whose processor has a chat template; others get the image alone.
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
        for name, value in (("max_tokens", max_tokens), ("num_beams", num_beams), ("batch_size", batch_size)):
            check_range(name, value, 1)
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
        """Load a hub id or a folder, safetensors only; `settings` go to the constructor.

        Raises `InputError` if it does not load or weights are missing.
        """
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
        from transformers.utils import logging

        try:
            with without_bars(source, logging):
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
        """Caption RGB images of any size, in order."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [text for batch in batches for text in self._describe_batch(batch)]

    @torch.inference_mode()
    def _describe_batch(self, images: Sequence[Image]) -> list[Description]:
        if self.chat_processor:
            inputs = self._chat_inputs(images)
        else:
            inputs = self.image_processor(images=list(images), return_tensors="pt")
        inputs = inputs.to(self.model.device)
        for name, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        ids = self.model.generate(**inputs, max_new_tokens=self.max_tokens, num_beams=self.num_beams, do_sample=False)
        prompt_length = inputs["input_ids"].shape[1] if self.chat_processor else 0
        return [self._description(row) for row in ids[:, prompt_length:].tolist()]

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
        ends = self._ids_of("eos_token_id")
        cut_off = ends.isdisjoint(ids) if ends else None
        return Description(text, tuple(piece for piece in pieces if piece), self.spec, cut_off=cut_off)

    @cached_property
    def _special_ids(self) -> set[int]:
        # BLIP's start token is special in the model's config alone, not in its tokenizer.
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        return {*self.tokenizer.all_special_ids, *self._ids_of(*names)}

    def _ids_of(self, *names: str) -> set[int]:
        """The ids that the model's settings name so; one setting may hold several."""
        values = (getattr(self.model.generation_config, name) for name in names)
        return {i for value in values for i in ([value] if isinstance(value, int) else value or [])}
