"""A tokenizer learnt from captions is a CLIP tokenizer like any other."""

from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.train.caption_tokenizer import learn_tokenizer
from transformers import CLIPTokenizer

CAPTIONS = [f"A dog's {number} red balls, jumping!" for number in range(50)]


def test_frequent_words_become_whole_and_any_text_comes_back(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer(CAPTIONS, 600, 24)
    assert tokenizer.convert_ids_to_tokens(tokenizer("A dog").input_ids)[1:3] == ["a</w>", "dog</w>"]
    text = "ünïcode 漢 fits too"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip() == text
    tokenizer.save_pretrained(tmp_path)
    assert CLIPTokenizer.from_pretrained(tmp_path)(CAPTIONS).input_ids == tokenizer(CAPTIONS).input_ids


def test_the_size_is_exact_and_the_last_three_are_padding_start_and_end() -> None:
    tokenizer = learn_tokenizer(CAPTIONS[:1], 1920, 24)
    assert len(tokenizer) == len(set(tokenizer.get_vocab().values())) == 1920
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (1917, 1918, 1919)


@pytest.mark.parametrize(("captions", "size", "message"), [([], 600, "no captions"), (CAPTIONS, 500, "at least 515")])
def test_what_cannot_be_learnt_is_refused(captions: list[str], size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        learn_tokenizer(captions, size, 24)
