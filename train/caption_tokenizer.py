"""A tokenizer of its own for a small CLIP or CoCa: byte-pair encoding learnt from the captions that it will read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# CLIP's own: a tokenizer that is learnt splits words as the finished one will.
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_SPECIAL = {"pad_token": "<|pad|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


def learn_tokenizer(captions: Iterable[str], vocab_size: int, context_length: int) -> CLIPTokenizer:
    """A transformers `CLIPTokenizer` of exactly `vocab_size` tokens. Its last three are padding, start and end, so that
    open_clip may pool a text at its highest id; where the captions yield too few, unused tokens stand before them.

    Raises `InputError` for a vocabulary that cannot hold every byte, and for no captions.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    room = vocab_size - len(letters) - len(_SPECIAL)
    if room < 0:
        least = len(letters) + len(_SPECIAL)
        raise InputError(f"vocab_size is {vocab_size}; expected at least {least}, for every byte within and at the end")
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:room]
    if not merges:
        raise InputError("a tokenizer cannot be learnt: the source has no captions of two letters or more")
    tokens = [*letters, *("".join(pair) for pair in merges)]
    tokens += [f"<|unused{number}|>" for number in range(vocab_size - len(_SPECIAL) - len(tokens))]
    vocabulary = {token: number for number, token in enumerate([*tokens, *_SPECIAL.values()])}
    special = {**_SPECIAL, "unk_token": _SPECIAL["eos_token"]}
    pairs: Any = merges  # which is what its BPE model takes, whatever the annotation says
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=context_length, **special)
