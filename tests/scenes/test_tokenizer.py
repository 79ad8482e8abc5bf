"""The tokenizer: scene words are whole, and transformers and open_clip read the same ids from the same folder."""

import random
import string

import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from textlens.errors import InputError
from textlens.scenes.captions import STYLES, captions
from textlens.scenes.scene import scene_at
from textlens.scenes.tokenizer import END, PAD, START, build_tokenizer, scene_words
from transformers import AutoTokenizer, CLIPTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def texts(number: int) -> list[str]:
    """Captions, random characters and odd input. open_clip strips control characters first (ftfy), so none are here."""
    rng = random.Random(8)
    characters = string.ascii_letters + string.digits + string.punctuation + " "
    noise = [
        "",
        "  two\n\tlines ",
        "café — naïve",
        "日本語",
        "it's 100% off!!",
        "😀",
        "<|endoftext|>",
        "don't",
        "A" * 200,
    ]
    found = [captions(scene_at(i), rng.choice(tuple(STYLES)), rng) for i in range(number // 2)]
    found += ["".join(rng.choices(characters, k=rng.randint(1, 40))) for _ in range(number - len(found) - len(noise))]
    return found + noise


def test_vocabulary_is_mostly_not_about_scenes(tokenizer):
    assert len(tokenizer) >= 1500
    assert len(scene_words()) < len(tokenizer) / 2
    assert all(len(tokenizer(word).input_ids) == 3 for word in scene_words())
    assert all(len(tokenizer(word).input_ids) == 3 for word in ("man", "dog", "street", "standing", ".", ",", "?", "!"))


def test_special_tokens_have_ids_of_their_own(tokenizer):
    ids = tokenizer.convert_tokens_to_ids([PAD, START, END])
    assert ids == [len(tokenizer) - 3, len(tokenizer) - 2, len(tokenizer) - 1]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == tuple(ids)
    assert "!" not in (PAD, tokenizer.convert_ids_to_tokens(ids[0]))


def test_open_clip_and_transformers_agree_on_1000_texts(folder):
    ours, auto = CLIPTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    theirs = HFTokenizer(str(folder), context_length=64)
    thousand = texts(1000)
    expected = ours(thousand, padding="max_length", truncation=True, max_length=64, return_tensors="pt").input_ids
    assert len(thousand) == 1000
    assert torch.equal(theirs(thousand), expected)
    assert auto(thousand).input_ids == ours(thousand).input_ids


def test_long_texts_keep_their_end(folder):
    ids = HFTokenizer(str(folder), context_length=64)(["star " * 500])[0]
    assert ids[-1] == CLIPTokenizer.from_pretrained(folder).eos_token_id


def test_building_it_again_gives_the_same(tokenizer):
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_vocabulary_that_the_words_cannot_fill_is_refused():
    with pytest.raises(InputError, match="at most"):
        build_tokenizer(vocab_size=20_000)
