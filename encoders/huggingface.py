"""Any transformers image-to-text model as an encoder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..errors import InputError, check_range, shortened
from .base import Description
from .hf_prompts import DEFAULT_PROMPT, asked_of, prompt_text
from .loading.size_limit import folder_shapes, no_larger_than
from .saved_models import without_bars


class HuggingFaceCaptioner:
    """An `Encoder` around any transformers image-to-text model: BLIP, GIT, LLaVA, PaliGemma, chat models, ...

    processor: the model's own, for images and text; or an image processor, for models that take no text. prompt: None
    for the default of the kind of model, see `hf_prompts`; it is no part of the descriptions.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        tokenizer: Any,
        *,
        prompt: str | None = None,
        max_tokens: int = 40,
        num_beams: int = 1,
        batch_size: int = 16,
        spec: str = "hf",
    ) -> None:
        for name, value in (("max_tokens", max_tokens), ("num_beams", num_beams), ("batch_size", batch_size)):
            check_range(name, value, 1)
        self.model, self.processor, self.tokenizer = model.eval(), processor, tokenizer
        self.max_tokens, self.num_beams, self.batch_size, self.spec = max_tokens, num_beams, batch_size, spec
        self._chats = bool(getattr(processor, "chat_template", None))
        self.asked = asked_of(model.config.model_type, spec, prompt)
        self.prompt = DEFAULT_PROMPT if self._chats and prompt is None else prompt

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
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        _check_not_pickled(Path(source))
        try:
            with without_bars(source, logging), no_larger_than(folder_shapes(source), source, packed=True):
                loaded: Any = AutoModelForImageTextToText.from_pretrained(
                    source, dtype=dtype, use_safetensors=True, output_loading_info=True
                )
            processor, tokenizer = _processors(source)
        except Exception as error:  # models and processors of all kinds, some of which need other packages
            message = shortened(error)
            fix = PICKLED if "safetensors" in message else ""
            raise InputError(f"{str(source)!r} does not load as an image-to-text model: {message}{fix}") from error
        model, info = loaded
        lacking = [*info["missing_keys"], *info["mismatched_keys"]]
        if lacking:
            raise InputError(
                f"the weights of {str(source)!r} lack or misfit {len(lacking)} tensors, such as {lacking[0]}"
            )
        settings.setdefault("spec", f"hf:{source}")
        return cls(model.to(device), processor, tokenizer, **settings)

    def describe(self, images: Sequence[Image]) -> list[Description]:
        """Caption RGB images of any size, in order."""
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        return [text for batch in batches for text in self._describe_batch(batch)]

    @torch.inference_mode()
    def _describe_batch(self, images: Sequence[Image]) -> list[Description]:
        inputs = self._inputs(list(images)).to(self.model.device)
        for name, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        ids = self.model.generate(**inputs, max_new_tokens=self.max_tokens, num_beams=self.num_beams, do_sample=False)
        asked = inputs["input_ids"].tolist() if "input_ids" in inputs else [[]] * len(images)
        echoes = not getattr(self.model.config, "is_encoder_decoder", False)
        return [
            self._description(row[_echo_length(row, prompt) if echoes else 0 :])
            for row, prompt in zip(ids.tolist(), asked, strict=True)
        ]

    def _inputs(self, images: list[Image]) -> Any:
        text = self._chat_text() if self._chats else prompt_text(self.asked, self.prompt, self.processor)
        if text is None:
            image_processor = getattr(self.processor, "image_processor", self.processor)
            return image_processor(images=images, return_tensors="pt")
        try:
            inputs = self.processor(
                text=[text] * len(images),
                images=[[image] for image in images] if self._chats else images,
                return_tensors="pt",
                padding=True,
                padding_side="left",
                **({} if self._chats or self.asked.special_tokens else {"add_special_tokens": False}),
            )
        except Exception as error:  # processors raise almost anything for a text that is not theirs
            raise InputError(
                f"the {type(self.processor).__name__} of {self.spec} does not take an image with the text {text!r} "
                f"({shortened(error, 200)}); give another prompt, or use a model with a chat template"
            ) from error
        # What training alone needs, and what tokenizers add though the model has no use for it.
        known = inspect.signature(self.model.forward).parameters
        unknown = {"labels"} | ({"token_type_ids"} - set(known))
        for name in unknown & set(inputs):
            del inputs[name]
        return inputs

    def _chat_text(self) -> str:
        asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.prompt}]}
        return str(self.processor.apply_chat_template([asked], add_generation_prompt=True))

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
        config = self.model.config
        image = {getattr(config, name, None) for name in ("image_token_id", "image_token_index")} - {None}
        return {*self.tokenizer.all_special_ids, *self._ids_of(*names), *image}

    def _ids_of(self, *names: str) -> set[int]:
        """The ids that the model's settings name so; one setting may hold several."""
        parts = [self.model, getattr(self.model, "language_model", None)]  # BLIP-2 generates by the latter's settings
        settings = [part.generation_config for part in parts if getattr(part, "generation_config", None)]
        values = (getattr(one, name, None) for one in settings for name in names)
        return {i for value in values for i in ([value] if isinstance(value, int) else value or [])}


def _echo_length(ids: list[int], prompt: list[int]) -> int:
    """How many tokens of the prompt the output begins with: all, or none.

    BLIP exchanges the prompt's first token for its own, and leaves out the last.
    """
    for length in (len(prompt), len(prompt) - 1):
        if length > 0 and ids[1:length] == prompt[1:length]:
            return length
    return 0


def _processors(source: str | Path) -> tuple[Any, Any]:
    """The model's own processor, or an image processor where that is all there is; and the tokenizer."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    processor = AutoProcessor.from_pretrained(source)
    if hasattr(processor, "tokenizer") and hasattr(processor, "image_processor"):
        return processor, processor.tokenizer
    return AutoImageProcessor.from_pretrained(source), AutoTokenizer.from_pretrained(source)


PICKLED = (
    "; textlens loads safetensors alone, for a pickle (.bin) can hold code. Convert a model that you trust, once: "
    "python -c \"from transformers import AutoModelForImageTextToText as M; M.from_pretrained('FOLDER_OR_ID', "
    "use_safetensors=False).save_pretrained('FOLDER')\"; tokenizer and processor files go beside it"
)


def _check_not_pickled(folder: Path) -> None:
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        if pickled:
            raise InputError(f"{folder} has its weights as {pickled[0]}, which is a pickle{PICKLED}")
