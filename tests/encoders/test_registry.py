"""Encoder specs: each entry leads to a class, and unknown names list the valid ones."""

from __future__ import annotations

from importlib import import_module

import pytest
from textlens.encoders.registry import ENCODERS, load_clip, load_encoder
from textlens.errors import InputError


@pytest.mark.parametrize("name", ENCODERS)
def test_every_entry_leads_to_an_encoder(name: str) -> None:
    module, _, class_name = ENCODERS[name].target.partition(":")
    encoder_class = getattr(import_module(module, "textlens.encoders"), class_name)
    assert callable(encoder_class.describe)
    assert callable(encoder_class.from_pretrained)


@pytest.mark.parametrize("spec", ["cocoa", "", "cocoa:folder", "hf", "hf:"])
def test_unknown_names_list_the_valid_ones(spec: str) -> None:
    with pytest.raises(InputError, match=r"unknown encoder .*coca, .*decap, .*dediffusion:HUB.*hf:HUB.*scenes:NAME"):
        load_encoder(spec)


def test_a_clip_is_known_by_the_name_of_an_encoder_too() -> None:
    clip = load_clip("scenes:coca")
    assert clip.is_coca
    assert load_clip(clip.name).embed_dim == clip.embed_dim  # its folder
    with pytest.raises(InputError, match=r"neither a folder nor an open_clip model"):
        load_clip("cocoa")
