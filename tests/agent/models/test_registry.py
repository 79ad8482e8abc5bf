"""Specs of language models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textlens.agent.models.base import CountsTokens
from textlens.agent.models.registry import LANGUAGE_MODELS, chat_spec, load_language_model
from textlens.errors import InputError


@pytest.mark.parametrize("spec", ["gpt", "tiny:folder", "hf", "hf:", "vllm", "", "ftp://a/v1"])
def test_an_unknown_spec_lists_the_valid_ones(spec):
    with pytest.raises(InputError, match="hf:HUB_ID_OR_FOLDER") as caught:
        load_language_model(spec)
    assert all(entry.help in str(caught.value) for entry in LANGUAGE_MODELS.values())


def test_a_small_model_that_is_not_there_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setitem(LANGUAGE_MODELS, "tiny", replace(LANGUAGE_MODELS["tiny"], default=str(tmp_path)))
    with pytest.raises(InputError, match="small language model is not there"):
        load_language_model("tiny")


def test_a_folder_loads_by_its_spec(llama_folder: Path):
    model = load_language_model(f"hf:{llama_folder}", device="cpu")
    assert model.spec == f"hf:{llama_folder}"
    assert isinstance(model, CountsTokens)
    assert model.context_length == 512


@pytest.mark.parametrize(
    ("spec", "chat", "made"),
    [
        ("hf:some/model", True, "chat+hf:some/model"),
        ("vllm:some/model", False, "text+vllm:some/model"),
        ("text+vllm:some/model", True, "chat+vllm:some/model"),
        ("chat+http://a:1/v1#m", False, "text+http://a:1/v1#m"),
        ("https://a/v1", True, "chat+https://a/v1"),
        ("chat+hf:some/model", None, "chat+hf:some/model"),
        ("tiny", False, "tiny"),
        (None, None, None),
    ],
)
def test_chat_or_not_is_a_prefix_of_the_spec(spec, chat, made):
    assert chat_spec(spec, chat) == made


def test_a_chat_with_a_model_that_has_none_is_a_clear_error(llama_folder: Path):
    with pytest.raises(InputError, match="tiny is no chat model"):
        chat_spec("tiny", True)
    with pytest.raises(InputError, match="unknown language model 'gpt'"):
        chat_spec("gpt", True)
    with pytest.raises(InputError, match="has no chat template"):
        load_language_model(f"hf:{llama_folder}", device="cpu", chat=True)
