"""How each kind of image-to-text model is asked: the text that its processor takes beside the image.

Formats after the models' published examples. Models with a chat template need no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

DEFAULT_PROMPT = "Describe this image in one sentence."


@dataclass(frozen=True)
class Asked:
    """The text of one kind of model."""

    prompt: str | None = DEFAULT_PROMPT  # by default; None: the image alone
    text: str | None = "{image}\n{prompt}"  # {start}: the start token, for tokenizers that would add an end; None: none
    special_tokens: bool = True  # whether the tokenizer adds its own


KINDS: Mapping[str, Asked] = {  # by `config.model_type`
    "blip": Asked(None, "{prompt}"),
    "blip-2": Asked(None, "{prompt}"),
    "git": Asked(None, "{start}{prompt}", special_tokens=False),
    "pix2struct": Asked(None, "{prompt}"),
    "vision-encoder-decoder": Asked(None, None),
    "instructblip": Asked(text="{prompt}"),
    "kosmos-2": Asked("An image of", "{prompt}"),
    "paligemma": Asked("caption en", "{image}{prompt}"),
    "florence2": Asked("<CAPTION>", "{prompt}"),
    "llava": Asked(text="USER: {image}\n{prompt} ASSISTANT:"),
    "llava_next": Asked(text="USER: {image}\n{prompt} ASSISTANT:"),
    "vipllava": Asked(text="###Human: {image}\n{prompt}###Assistant:"),
}
UNFIT: Mapping[str, str] = {  # what they need besides an image, and what to use
    "udop": "needs the words and boxes of a page; use ocr",
    "evolla": "reads proteins, no images",
    "pi0": "answers with movements of a robot, not with words",
    "instructblipvideo": "takes videos; use the InstructBLIP for images",
    "video_llava": "takes videos; use a LLaVA for images",
}


def asked_of(model_type: str, source: str, prompt: str | None) -> Asked:
    """How a model of that type is asked. Raises `InputError` for those that cannot describe an image, or be asked."""
    if model_type in UNFIT:
        raise InputError(f"{source} is a model of the type {model_type}, which {UNFIT[model_type]}")
    asked = KINDS.get(model_type, Asked())
    if prompt is not None and asked.text is None:
        raise InputError(f"{source} is a {model_type}, which takes no prompt; leave it out")
    return asked


def prompt_text(asked: Asked, prompt: str | None, processor: Any) -> str | None:
    """The text beside the image; None for the image alone. A prompt with the image token in it is taken as it is."""
    prompt = asked.prompt if prompt is None else prompt
    if prompt is None or asked.text is None:
        return None
    tokenizer = processor.tokenizer
    image = str(getattr(processor, "image_token", None) or getattr(tokenizer, "image_token", None) or "<image>")
    if image in prompt:
        return prompt
    start = tokenizer.cls_token or tokenizer.bos_token or ""
    return asked.text.format(image=image, prompt=prompt, start=start)
