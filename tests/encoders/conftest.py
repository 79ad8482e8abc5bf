"""Tiny CoCa models with a tokenizer of their own, of the classes and file formats that real ones have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.tokenizer import bytes_to_unicode
from textlens.encoders.clip.clip import Clip
from transformers import CLIPTokenizer

MERGES = [("c", "a"), ("ca", "t</w>"), ("s", "u"), ("su", "n</w>"), ("r", "e"), ("re", "d</w>"), ("o", "n</w>")]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPTokenizer with padding of its own and end-of-text as the highest id, as `weights/scenes/coca` has it."""
    alphabet = list(bytes_to_unicode().values())
    words = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(pair) for pair in MERGES)]
    vocab = {word: i for i, word in enumerate([*words, "<pad>", "<start>", "<end>"])}
    special = {"bos_token": "<start>", "eos_token": "<end>", "unk_token": "<end>", "pad_token": "<pad>"}
    folder = tmp_path_factory.mktemp("tokenizer")
    CLIPTokenizer(vocab=vocab, merges=MERGES, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_coca(tokenizer_folder: Path) -> Callable[..., Clip]:
    """Builds a CoCa of random weights, scaled up so that its captions differ between images and positions."""

    def build(
        *,
        layers: int = 2,
        embed_cls: bool = False,
        attentional_pool: bool = True,
        end_boost: float = 1.0,
        seed: int = 0,
    ) -> Clip:
        """end_boost: more than 1 makes captions end at different lengths, most before the context does."""
        text = {"context_length": 20, "vocab_size": 522, "width": 48, "heads": 4, "layers": layers}
        vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "output_tokens": True}
        if attentional_pool:
            vision |= {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 9}
        else:
            vision |= {"width": 48}
        config: dict[str, Any] = {
            "embed_dim": 48,
            "vision_cfg": vision,
            "text_cfg": {**text, "embed_cls": embed_cls, "output_tokens": True, "hf_tokenizer_name": "own"},
            "multimodal_cfg": {**text, "layers": layers},
            "custom_text": True,
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            clip = Clip.from_config(config, tokenizer_folder=tokenizer_folder, name="tiny")
            _enliven(clip.model)
        with torch.no_grad():
            clip.model.text_decoder.text_projection[:, [clip.eos_id, clip.pad_id]] *= end_boost
        return clip

    return build


def _enliven(model: torch.nn.Module) -> None:
    """At open_clip's own scales a random model repeats one token, whatever the image."""
    torch.nn.init.normal_(model.text_decoder.text_projection, std=0.5)
    with torch.no_grad():
        model.text.positional_embedding.mul_(100)
        model.text.token_embedding.weight.mul_(50)
        for name, weight in model.text_decoder.named_parameters():
            if "attn" in name and weight.ndim == 2:
                weight.mul_(3)
