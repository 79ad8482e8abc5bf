from __future__ import annotations

import json
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor
from textlens.errors import InputError
from textlens.scenes.language_model.pieces import (
    BOS_ID,
    EOS_ID,
    load_sentencepiece,
    save_tokenizer,
    train_sentencepiece,
)
from textlens.scenes.language_model.prompts import LanguagePrompts, PromptSettings
from transformers import AutoTokenizer, LlamaTokenizer

ODD = (
    "",
    " ",
    "  two  spaces, and one at the end ",
    "\n\n lines \n\n\nand\ttabs\r\n",
    "é ü ß 漢字 الشمس 🐱 \u200d \u0301 ﬁ",
    "<0x0A> is no newline, \\n neither",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "I'm 12345.67 $ 50% <|endoftext|> [INST]",
    "\x00\x7f\ufffd",
    "a red star</s><s> and <unk>",
)


def prompts(number: int, seed: int) -> list[str]:
    source = LanguagePrompts(PromptSettings(scenes=300))
    found = (source.example(i, seed) for i in range(number))
    return [example.prompt + example.target for example in found]


@pytest.fixture(scope="module")
def pieces() -> SentencePieceProcessor:
    return train_sentencepiece(prompts(200, seed=0), 1024)


@pytest.fixture(scope="module")
def folder(pieces: SentencePieceProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(pieces, folder, 512)
    return folder


def test_the_same_ids_from_sentencepiece_and_transformers(folder: Path) -> None:
    own = load_sentencepiece(folder)
    auto, llama = AutoTokenizer.from_pretrained(folder), LlamaTokenizer.from_pretrained(folder)
    assert isinstance(auto, LlamaTokenizer)
    for text in [*prompts(300, seed=1), *ODD]:
        ids = [BOS_ID, *own.encode(text)]
        assert auto(text).input_ids == ids, text
        assert llama(text).input_ids == ids, text


def test_every_text_comes_back(folder: Path) -> None:
    own, auto = load_sentencepiece(folder), AutoTokenizer.from_pretrained(folder)
    for text in [*prompts(50, seed=2), *ODD]:
        assert own.decode(own.encode(text)) == text
        assert auto.decode(auto(text).input_ids, skip_special_tokens=True) == text
        assert 0 not in own.encode(text)


def test_the_transformers_form_needs_no_sentencepiece_file(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = "Short answer: red$\n\n 7"
    assert (
        AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == AutoTokenizer.from_pretrained(folder)(text).input_ids
    )
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 512


def test_pieces_stay_within_words_and_lines(pieces: SentencePieceProcessor) -> None:
    found = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    assert len(found) == 1024
    assert found[:3] == ["<unk>", "<s>", "</s>"]
    assert pieces.bos_id() == BOS_ID
    assert pieces.eos_id() == EOS_ID
    assert not [piece for piece in found if "\n" in piece or "▁" in piece[1:]]
    assert not [piece for piece in found[259:] if len(piece.strip("▁")) > 1 and any(sign.isdigit() for sign in piece)]
    assert pieces.encode("red$\n", out_type=str)[-2:] == ["$", "<0x0A>"]
    assert pieces.encode("Short answer: yellow", out_type=str)[-2:] == [":", "▁yellow"]


def test_training_is_the_same_each_time(pieces: SentencePieceProcessor) -> None:
    again = train_sentencepiece(prompts(200, seed=0), 1024)
    assert again.serialized_model_proto() == pieces.serialized_model_proto()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocab_size is 300"):
        train_sentencepiece(["red"], 300)
    with pytest.raises(InputError, match="cannot learn 60000 pieces"):
        train_sentencepiece(["red"], 60_000)
    with pytest.raises(InputError, match=r"tokenizer.model is missing"):
        load_sentencepiece(tmp_path)
