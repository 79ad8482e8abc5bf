"""config.json across versions, and what is fetched from the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from textlens.encoders.registry import WEIGHTS
from textlens.encoders.saved_models import checkpoint_folder, read_config, save_config, save_tokenizer
from textlens.errors import InputError
from transformers import AutoTokenizer


@dataclass(frozen=True)
class Config:
    width: int
    depth: int = 3


def test_a_config_comes_back(tmp_path: Path) -> None:
    save_config(Config(8, depth=5), tmp_path / "new")
    assert read_config(Config, tmp_path / "new", "Model") == Config(8, depth=5)


def test_fields_with_defaults_may_be_missing_others_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"width": 8}')
    assert read_config(Config, tmp_path, "Model") == Config(8, depth=3)
    (tmp_path / "config.json").write_text('{"depth": 8}')
    with pytest.raises(InputError, match=r"config\.json is no config of Model: width is missing"):
        read_config(Config, tmp_path, "Model")


def test_an_unknown_field_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"width": 8, "colour": 1}))
    with pytest.raises(InputError, match=r"config\.json .*colour is unknown; its fields are width, depth") as caught:
        read_config(Config, tmp_path, "Model")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "3", "\xff"])
def test_what_is_no_json_object_is_an_input_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.json"):
        read_config(Config, tmp_path, "Model")


def test_only_safetensors_and_json_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def download(_: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert checkpoint_folder("me/words", "De-Diffusion") == tmp_path
    assert asked == [["*.json", "*.safetensors", "*.txt"]]


def test_a_tokenizer_is_saved_without_indents_and_reads_the_same(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "photo-decap" / "tokenizer")
    tokenizer.save_pretrained(tmp_path / "plain")
    save_tokenizer(tokenizer, tmp_path / "saved")
    plain, saved = (tmp_path / name / "tokenizer.json" for name in ("plain", "saved"))
    assert json.loads(saved.read_text()) == json.loads(plain.read_text())
    assert saved.stat().st_size < 0.7 * plain.stat().st_size
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "a dog in the café \u4e16"
    assert again(text).input_ids == tokenizer(text).input_ids
