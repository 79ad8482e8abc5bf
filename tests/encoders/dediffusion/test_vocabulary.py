from __future__ import annotations

import gzip
import string
from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import bytes_to_unicode, default_bpe
from textlens.encoders.dediffusion.vocabulary import Vocabulary
from textlens.errors import InputError
from transformers import BertTokenizer, CLIPTokenizer

SPECIAL = {"bos_token": "<start>", "eos_token": "<end>", "unk_token": "<end>", "pad_token": "<end>"}


@pytest.fixture(scope="module")
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own 49,408 tokens, from the file of merges that open_clip carries."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines.read().split("\n")[1 : 49152 - 256 - 2 + 1]]
    alphabet = list(bytes_to_unicode().values())
    pieces = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate([*pieces, SPECIAL["bos_token"], SPECIAL["eos_token"]])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, **SPECIAL)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clips(clip_tokenizer: CLIPTokenizer) -> Vocabulary:
    return Vocabulary.from_tokenizer(clip_tokenizer)


def small(tokens: list[str], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    vocab = {token: i for i, token in enumerate([*tokens, "<start>", "<end>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, **SPECIAL)  # type: ignore[arg-type]


def all_rows(vocabulary: Vocabulary, length: int = 70) -> torch.Tensor:
    """Every kept id at least once, in an order that mixes them, in rows as long as a text."""
    order = torch.randperm(len(vocabulary), generator=torch.Generator().manual_seed(5))
    padded = torch.cat([order, order[: -len(order) % length]])
    return vocabulary.ids[padded].view(-1, length)


def test_a_made_tokenizer_keeps_exactly_its_words_and_digits(tokenizer_folder: Path) -> None:
    found = Vocabulary.from_tokenizer(CLIPTokenizer.from_pretrained(tokenizer_folder))
    assert set(found.words) == {*string.ascii_lowercase, *string.digits, "cat", "sun", "red", "on"}
    assert found.ids.dtype == torch.long
    assert found.ids.diff().min() > 0
    assert (len(found), len(found.ids), found.total) == (40, 40, 522)


def test_punctuation_stays_where_it_is_wanted(tokenizer_folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    words, more = Vocabulary.from_tokenizer(tokenizer), Vocabulary.from_tokenizer(tokenizer, keep_punctuation=True)
    assert set(more.words) - set(words.words) == set(string.punctuation)


def test_what_is_left_out() -> None:
    tokens = ["a", "b", "a</w>", "B</w>", "b</w>", "ab</w>", "ba</w>", "!</w>", "\u0101</w>", "\u00a1</w>"]
    found = Vocabulary.from_tokenizer(small(tokens, [("a", "b</w>")]))
    # "ba" has no merge; "B" is written small; \u0101 stands for the control byte 1, \u00a1 for the byte 0xa1 alone
    assert found.words == ("a", "b", "ab")
    assert found.ids.tolist() == [2, 4, 5]


def test_clips_own_vocabulary(clips: Vocabulary, clip_tokenizer: CLIPTokenizer) -> None:
    assert (len(clips), clips.total) == (33_032, 49_408)
    assert {"dog", "photo", "7", "café", "blue"} <= set(clips.words)
    assert not {"!", "'s", "...", "❤️", "", "A", ":)"} & set(clips.words)
    texts = clips.texts(clips.ids[:, None])
    assert texts == list(clips.words)
    assert [ids for (ids,) in clip_tokenizer(texts, add_special_tokens=False).input_ids] == clips.ids.tolist()


def test_long_texts_survive_and_are_words_with_single_spaces(clips: Vocabulary) -> None:
    ids = all_rows(clips)
    assert clips.share_surviving(ids) == 1.0
    words = dict(zip(clips.ids.tolist(), clips.words, strict=True))
    assert clips.texts(ids[:50]) == [" ".join(words[i] for i in row) for row in ids[:50].tolist()]


def test_punctuation_survives_beside_words_too(clip_tokenizer: CLIPTokenizer) -> None:
    found = Vocabulary.from_tokenizer(clip_tokenizer, keep_punctuation=True)
    assert len(found) == 33_032 + 1_222
    assert found.share_surviving(all_rows(found)[:300]) == 1.0


def test_pieces_of_words_do_not_survive(clips: Vocabulary, clip_tokenizer: CLIPTokenizer) -> None:
    ids = {piece: i for piece, i in clip_tokenizer.get_vocab().items() if piece in ("pho", "to</w>", "dog</w>")}
    split = torch.tensor([[ids["dog</w>"]] * 2, [ids["pho"], ids["to</w>"]]])
    assert clips.share_surviving(split) == 0.5
    with pytest.raises(InputError, match="no texts"):
        clips.share_surviving(split[:0])


def test_a_tokenizer_without_words_is_refused() -> None:
    with pytest.raises(InputError, match="no token of this CLIPTokenizer is a whole word"):
        Vocabulary.from_tokenizer(small(["a", "b", "!</w>"], []))


def test_none_but_the_given_words(clip_tokenizer):
    found = Vocabulary.from_tokenizer(clip_tokenizer, words=["cat", "red", "!", "nosuchwordatall"])
    assert sorted(found.words) == ["cat", "red"]
    both = Vocabulary.from_tokenizer(clip_tokenizer, words=["cat", "!"], keep_punctuation=True)
    assert sorted(both.words) == ["!", "cat"]
    with pytest.raises(InputError, match="one of the 1 given words"):
        Vocabulary.from_tokenizer(clip_tokenizer, words=["nosuchwordatall"])


def test_the_whole_words_of_berts_tokenizer(tmp_path: Path) -> None:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[unused1]",
        "dog",
        "##s",
        "grass",
        "2",
        "!",
        "the",
        "##",
        "\u00e9tat",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    found = Vocabulary.from_tokenizer(BertTokenizer(str(tmp_path / "vocab.txt")))
    assert found.words == ("dog", "grass", "2", "the")  # accents are stripped, so that the last cannot be written
    assert found.ids.tolist() == [5, 7, 8, 10]
    assert found.texts([[5, 7]]) == ["dog grass"]
    assert found.share_surviving([[5, 7, 8], [6, 5, 10]]) == 0.5
