"""A CLIP as the judge of soft texts, a CoCa as a teacher of words."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.errors import InputError

from .tiny_models import COCA


def test_teacher_must_share_the_decoders_tokens(make, tmp_path, other_tokenizer):
    text = COCA["text_cfg"] | {"vocab_size": 1100, "pad_id": 1097, "eos_id": 1099}
    multimodal = COCA["multimodal_cfg"] | {"vocab_size": 1100}
    other = COCA | {"pad_id": 1097, "text_cfg": text, "multimodal_cfg": multimodal}
    other_tokenizer.save_pretrained(tmp_path / "tokenizer")
    Clip.from_config(other, tokenizer_folder=tmp_path / "tokenizer").save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="not the decoder's"):
        make(clip=str(tmp_path / "other"), clip_weight=1.0)


def test_teacher_reads_one_hot_words_as_their_text(make):
    recipe = make(clip_weight=1.0, caption_weight=1.0)
    pixels = recipe.batch(range(2), 0)["pixels"]
    places = torch.tensor([[5, 6, 7], [8, 8, 9]])
    texts = recipe.vocabulary.texts(recipe.vocabulary.ids[places])
    expected = 1 - (recipe.clip.embed_pixels(pixels) * recipe.clip.embed_texts(texts)).sum(1).mean()
    one_hot = F.one_hot(places, len(recipe.vocabulary)).float()
    torch.testing.assert_close(recipe.teacher.distance(pixels, one_hot), expected)
    twice = recipe.teacher.distance(pixels, one_hot.repeat_interleave(2, 0))
    torch.testing.assert_close(twice, expected)


def test_teacher_writes_the_captions_words_in_order(make):
    recipe = make(caption_weight=1.0)
    pixels = recipe.batch(range(3), 0)["pixels"]
    found = recipe.teacher.caption_words(pixels, 4)
    kept = set(recipe.vocabulary.ids.tolist())
    for row, caption in zip(found.tolist(), CocaCaptioner(recipe.clip).generate(pixels), strict=True):
        words = [token for token in caption.ids if token in kept][:4]
        assert recipe.vocabulary.ids[row[: len(words)]].tolist() == words
        assert set(row[len(words) :]) <= {-100}
